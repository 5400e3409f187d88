"""Names that attack a terminal, a table or a script, wherever they are shown."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

Cli = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("folder")

NAMES = [
    "clear\x1b[2J\x1b]52;c;ZXZpbA==\x07.weight",
    "line\nprunecli: error: forged.weight",
    "tab\tseparated\r.weight",
    "bidi\u202egnp.weight\u2066",
    "c1\x9b31m.weight",
    "zero\u200bwidth\ufeff.weight",
    "separator\u2028.weight",
    "[/]closing.weight",
    "[bold red]style[/bold red] [link=http://evil]x[/link].weight",
    ":boom: {0} %s \\x1b.weight",
    "long" * 300 + ".weight",
]


@pytest.fixture(params=["hostile.pt", "hostile.safetensors"])
def hostile(request: pytest.FixtureRequest) -> str:
    path = str(request.param)
    state = {name: torch.ones(8) for name in NAMES}
    if path.endswith(".pt"):
        torch.save(state, path)
    else:
        save_file(state, path)
    return path


def printable(text: str, *, but: str = "\n") -> bool:
    return all(char.isprintable() or char in but for char in text)


def test_params(cli: Cli, hostile: str) -> None:
    outcome = cli("params", hostile)
    assert (outcome.code, outcome.err) == (0, "")
    assert printable(outcome.out, but="\n\t")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [len(row) for row in rows] == [4] * len(NAMES)
    shown = {row[0] for row in rows}
    assert "[/]closing.weight" in shown
    assert "bidi\\u202egnp.weight\\u2066" in shown


def test_tables(cli: Cli, hostile: str) -> None:
    table = cli("report", hostile)
    assert (table.code, table.err) == (0, "")
    applied = cli("apply", hostile, "-p", "*", "-a", "0.5", "--no-report")
    assert applied.code == 0
    plan = cli("apply", hostile, "-p", "*", "-a", "0.5", "--dry-run")
    for text in (table.out, applied.err, plan.err):
        assert printable(text, but="\n\t")
        assert "[/]closing.weight" in text
        assert "[bold red]style[/bold red] [link=http://evil]x[/link].weight" in text
        assert ":boom: {0}" in text
        assert "line\\nprunecli: error: forged.weight" in text


@pytest.mark.parametrize("form", ["table", "csv", "markdown", "html"])
def test_reports_in_every_form(cli: Cli, hostile: str, form: str) -> None:
    outcome = cli("report", hostile, "--format", form)
    assert (outcome.code, outcome.err) == (0, "")
    assert printable(outcome.raw.decode("utf-8"))
    assert cli("report", hostile, "--format", form, "-o", "out").code == 0
    assert Path("out").read_bytes() == outcome.raw


@pytest.mark.parametrize("hostile", ["hostile.pt"], indirect=True)
def test_a_figure(cli: Cli, hostile: str) -> None:
    """Warnings are errors, those of fonts that lack a glyph included."""
    outcome = cli("report", hostile, "--plot", "figure.svg")
    assert (outcome.code, outcome.err) == (0, "wrote figure.svg\n")
    assert printable(Path("figure.svg").read_text(encoding="utf-8"))


def test_json_is_ascii_and_exact(cli: Cli, hostile: str) -> None:
    outcome = cli("report", hostile, "--format", "json")
    assert outcome.out.isascii()
    assert printable(outcome.out)
    assert {each["name"] for each in outcome.json["parameters"]} == set(NAMES)
    cli("apply", hostile, "-p", "*", "-a", "0.5", "-o", "out")
    assert {each["name"] for each in json.loads(Path("out.report.json").read_text())["parameters"]} == set(NAMES)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_errors_about_a_parameter(refused: Callable[..., str], hostile: str, name: str) -> None:
    """`refused` checks that the line is one, printable and short."""
    assert "8 are left unpruned" in refused(2, "apply", hostile, "-p", name, "-a", "9") or len(name) > 300
    assert (
        "matches nothing" in refused(2, "apply", hostile, "-p", f"{name[:-7]}.wieght", "-a", "0.5") or len(name) > 300
    )


@pytest.mark.parametrize("name", [each[:100].replace("/", "|") for each in NAMES], ids=range(len(NAMES)))
def test_errors_about_a_file(refused: Callable[..., str], name: str) -> None:
    refused(3, "params", name)
    Path(name).write_bytes(b"text")
    refused(4, "params", name)
    refused(6, "apply", "model.pt", "-p", "*", "-a", "0.5", "-o", name)
    refused(6, "apply", "model.pt", "-p", "*", "-a", "0.5", "-o", f"{name}/x")


def test_errors_about_a_file_whose_name_is_no_text(refused: Callable[..., str]) -> None:
    name = os.fsdecode(b"\xff\xfe.pt")
    assert "\\udcff\\udcfe.pt" in refused(3, "params", name)


def test_errors_about_options(refused: Callable[..., str]) -> None:
    for name in NAMES:
        refused(2, name)
        refused(2, "apply", "model.pt", "-p", "*", f"--{name}")
        refused(2, "apply", "model.pt", "-p", "*", "-a", name)
        refused(2, "apply", "model.pt", "-p", "*", "-a", "1", "--seed", name)
        refused(2, "apply", "model.pt", "-p", "*", "-a", "1", "--mask-dtype", name)
        refused(2, "apply", "model.pt", "-p", "*", "-a", "1", "--key", name)


def test_a_class_named_to_deceive(refused: Callable[..., str]) -> None:
    torch.save({"w": torch.ones(2), "m": torch.nn.Module()}, "evil.pt")
    old = zipfile.ZipFile("evil.pt")
    with zipfile.ZipFile("worse.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"torch.nn.modules.module", b"torch.nn.mod\x1b[2J.module"))
    assert "torch.nn.mod\\x1b[2J.module.Module" in refused(5, "params", "worse.pt")
