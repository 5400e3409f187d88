"""The page: one file that fetches nothing, in which no name is more than text; also as a browser makes it."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_zoo import NASTY, large, nasty, parameter, pictured, report, structure_of, transformer

from prunecli.core.structure.model import Density
from prunecli.reporting.html import as_html, page_data, smaller
from prunecli.reporting.numbers import label_of
from prunecli.surgery.report.model import Report


class _Page(HTMLParser):
    """The elements of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style") and data.strip():
            self.texts.append((self.elements[-1][0], data))

    @property
    def data(self) -> Any:
        return json.loads(self.texts[1][1])


def decoded(coded: list[Any]) -> list[str]:
    names: list[str] = []
    for length, rest in zip(coded[::2], coded[1::2], strict=True):
        names.append((names[-1] if names else "")[:length] + rest)
    return names


def test_names_make_no_elements() -> None:
    made = nasty().parameters
    names = {each.name: f"p{at}" for at, each in enumerate(made)}
    tame = report(
        [replace(each, name=names[each.name], tied_to=tuple(map(names.__getitem__, each.tied_to))) for each in made]
    )
    page = as_html(nasty())
    assert _Page(page).elements == _Page(as_html(tame)).elements
    assert all(char.isprintable() or char == "\n" for char in page)


@settings(max_examples=40)
@given(st.lists(st.text(max_size=12), unique=True, max_size=12))
def test_the_names_in_the_page_are_those_of_the_report(names: list[str]) -> None:
    made = report([parameter(name) for name in names])
    assert decoded(page_data(made)["names"]) == [label_of(name, 1000) for name in names]


def test_the_data_is_the_report() -> None:
    made = transformer(3)
    data = _Page(as_html(made)).data
    assert decoded(data["names"]) == [each.name for each in made.parameters]
    assert data["elements"] == [each.elements for each in made.parameters]
    assert data["zeros"] == [each.zeros for each in made.parameters]
    assert data["shapes"][data["shape"][0]] == "100x16"

    def indices(nodes: list[Any]) -> list[int]:
        return [at for node in nodes for at in ([node[1]] if len(node) == 2 else indices(node[3]))]

    assert sorted(indices(data["tree"])) == list(range(len(made.parameters)))


def test_nothing_is_fetched() -> None:
    page = _Page(as_html(transformer(1)))
    assert not [attributes for _, attributes in page.elements if {"src", "href", "action", "srcset"} & set(attributes)]
    scripts = page.texts[0][1] + page.texts[2][1]
    assert not re.findall(
        r"https?:|//[a-z]|url\(|@import|import\(|fetch|XMLHttp|WebSocket|innerHTML|eval\(|insertAdj",
        re.sub(r"^\s*//.*$", "", scripts, flags=re.MULTILINE),
    )


def test_the_policy_allows_its_own_script_and_style_and_nothing_else() -> None:
    page = _Page(as_html(transformer(1)))
    policy = next(
        attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv") is not None
    )
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    texts = {"style-src": page.texts[0][1], "script-src": page.texts[2][1]}
    for rule, text in texts.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not [attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)]
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_every_control_has_a_name_and_the_page_a_language() -> None:
    page = as_html(transformer(1))
    elements = _Page(page).elements
    assert ("html", {"lang": "en"}) in elements
    ids = {attributes.get("id") for _, attributes in elements}
    assert {attributes["aria-labelledby"] for _, attributes in elements if "aria-labelledby" in attributes} <= ids
    script = "".join(text for _, text in _Page(page).texts)
    assert set(re.findall(r'getElementById\("([^"]+)"\)', script)) <= ids


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_a_smaller_picture_keeps_the_mean_and_what_is_none_and_all(rows: int, columns: int, side: int) -> None:
    cells = np.random.default_rng(rows * columns).choice(np.array([0, 0, 7, 255], np.uint8), (rows, columns))
    cells[: rows // 3] = 0
    cells[-(rows // 3) - 1 :] = 255
    small = smaller(Density(rows, columns, cells.tobytes()), side)
    assert (small.rows, small.columns) == (min(rows, side), min(columns, side))
    found = np.frombuffer(small.shares, np.uint8).reshape(small.rows, small.columns)
    for row in range(small.rows):
        for column in range(0, small.columns, 7):
            part = cells[
                row * rows // small.rows : (row + 1) * rows // small.rows,
                column * columns // small.columns : (column + 1) * columns // small.columns,
            ]
            assert (found[row, column] == 0) == (not part.any())
            assert (found[row, column] == 255) == bool((part == 255).all())
            assert abs(int(found[row, column]) - part.mean()) <= 1


@pytest.fixture
def a_tenth_of_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page for a tenth of the parameters."""
    monkeypatch.setattr("prunecli.reporting.html._PAGE", 1_800_000)
    monkeypatch.setattr("prunecli.reporting.html._PICTURES", (200_000, 800_000))


@pytest.mark.usefixtures("a_tenth_of_the_room")
@pytest.mark.parametrize("count", [40, 900])
def test_pictures_take_no_more_than_their_share(count: int) -> None:
    kept = np.random.default_rng(1).random((128, 128)) < 0.5
    structure = structure_of(kept)
    data = page_data(report([parameter(f"p{at}", (128, 128), 99, structure=structure) for at in range(count)]))
    assert 100_000 < len(json.dumps(data["pictures"])) < 850_000
    assert (len(data["pictures"]) < count) == (count == 900)
    assert "report -p NAME" in data["unpictured"] or count == 40


@pytest.mark.usefixtures("a_tenth_of_the_room")
def test_ninety_thousand_tensors_take_less_than_20_megabytes() -> None:
    """Judged by a tenth of them."""
    made = large(9000)
    structure = structure_of(np.random.default_rng(1).random((128, 128)) < 0.5)
    made = Report(made.command, made.source, None, [pictured_as(each, structure) for each in made.parameters])
    assert len(as_html(made)) < 2_000_000


def pictured_as(each: Any, structure: Any) -> Any:
    return parameter(each.name, each.shape, each.zeros, each.dtype, structure=structure)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")


def browsed(made: Report, folder: Path, name: str = "", script: str = "") -> str:
    """Return the page's DOM as a browser has it after its script ran, with one parameter opened, if named.

    A `script` of the test's own runs after that of the page, whose policy is taken away for it.
    """
    page = as_html(made)
    if script:
        page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
        page = page.replace("</body>", f"<script>{script}</script></body>")
    file = folder / "report.html"
    file.write_text(page, encoding="utf-8")
    fragment = f"#parameter={quote(name, safe='')}" if name else ""
    command = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder}/profile",
        "--virtual-time-budget=4000",
        "--dump-dom",
        f"file://{file}{fragment}",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@in_a_browser
def test_a_browser_shows_modules_table_and_picture(tmp_path: Path) -> None:
    dom = browsed(transformer(2), tmp_path, "layers.1.mlp.up.weight")
    page = _Page(dom)
    tags = [tag for tag, _ in page.elements]
    assert tags.count("details") == 15
    assert tags.count("tr") == 1 + 20
    (dialog,) = [attributes for tag, attributes in page.elements if tag == "dialog"]
    assert "open" in dialog
    canvas = next(attributes for tag, attributes in page.elements if tag == "canvas")
    assert canvas["aria-label"] == "Map of the zeros, 64 by 16 cells"
    assert int(canvas["width"] or 0) > 100
    assert '<h2 id="d-name">layers.1.mlp.up.weight</h2>' in dom.replace("<wbr>", "")
    assert "<title>Sparsity of model.pt</title>" in dom


@in_a_browser
def test_in_a_browser_names_are_text(tmp_path: Path) -> None:
    tame = report([pictured(parameter(f"p{number}.w")) for number in range(len(NASTY))])
    evil = next(name for name in NASTY if name.startswith("</script>"))
    kinds = {"img", "b", "i", "a", "iframe", "link", "object"}
    dom = browsed(nasty(), tmp_path, label_of(evil, 1000))
    found = _Page(dom).elements
    assert not kinds & {tag for tag, _ in found}
    assert [tag for tag, _ in found].count("script") == [tag for tag, _ in _Page(as_html(tame)).elements].count(
        "script"
    )
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;.weight</h2>" in dom.replace("<wbr>", "")
    assert all(char.isprintable() or char == "\n" for char in dom)


ACTIONS = """
const found = {}, rows = () => [...document.querySelectorAll("#rows .link")].map((each) => each.textContent);
const at = (id) => document.getElementById(id);
const head = (number) => document.querySelectorAll("#headings button")[number];
found.all = rows();
at("next").click(); found.next = rows(); found.last = at("next").disabled;
head(6).click(); found.sparse = rows();
head(6).click(); found.dense = rows(); found.sorted = document.querySelectorAll("#headings th")[6].ariaSort;
at("search").value = "M70 odd"; at("search").dispatchEvent(new Event("input")); found.searched = rows();
at("search").value = ""; at("search").dispatchEvent(new Event("input"));
document.querySelectorAll("#histogram button")[10].click(); found.half = rows(); found.shown = at("found").textContent;
at("clear").click(); found.again = rows().length;
document.querySelector("#rows .link").click(); found.open = at("detail").open; found.hash = location.hash;
at("close").click(); found.closed = !at("detail").open;
document.title = JSON.stringify(found);
"""


@in_a_browser
def test_in_a_browser_the_table_turns_sorts_and_searches(tmp_path: Path) -> None:
    made = report([parameter(f"m{at}.{('even', 'odd')[at % 2]}", (10, 10), at) for at in range(80)])
    names = [each.name for each in made.parameters]
    found = json.loads(html.unescape(re.findall("<title>(.*?)</title>", browsed(made, tmp_path, script=ACTIONS))[0]))
    assert (found["all"], found["next"], found["last"]) == (names[:50], names[50:], True)
    assert (found["sparse"], found["dense"], found["sorted"]) == (names[:29:-1], names[:50], "ascending")
    assert found["searched"] == []
    assert found["half"] == names[48:53] or found["half"] == names[48:52]
    assert found["shown"] == f"{len(found['half'])} of 80"
    assert (found["again"], found["open"], found["closed"]) == (50, True, True)
    assert found["hash"] == "#parameter=m0.even"


@in_a_browser
def test_a_browser_shows_part_of_a_long_table(tmp_path: Path) -> None:
    tags = [tag for tag, _ in _Page(browsed(large(2000), tmp_path)).elements if tag != "wbr"]
    assert tags.count("tr") == 51
    assert len(tags) < 2000
