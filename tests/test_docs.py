"""README.md and docs/: every block of code runs, in the order of its page, and every link leads somewhere.

README's lines are typed in test_first_hour.py.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from bucket_server import KEYS, serving
from doc_pages import DOCS, PAGES, README, ROOT, blocks_of, make_files, run_bash, run_console, run_python

from prunecli.cli.role_table import role_table, with_role_table

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@pytest.fixture
def environment(page: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of commands, with the bucket that a page names, in which the same files lie."""
    make_files(tmp_path, page)
    (tmp_path / "home").mkdir()
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        if any("s3://" in block.code for block in blocks_of(page)):
            server = stack.enter_context(serving())
            server.create("bucket")
            for path in tmp_path.rglob("*"):
                if path.is_file():
                    server.put(str(path.relative_to(tmp_path)), path.read_bytes())
            environment |= {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}
        yield environment


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the files that it names."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.language == "bash":
            run_bash(block.code, tmp_path, environment)
        elif block.language == "console":
            run_console(block.code, tmp_path, environment)
        elif block.language == "python":
            run_python(block.code, names)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_says_what_it_is(page: Path) -> None:
    """So that none is left out of what is run; and every fence belongs to one."""
    blocks = blocks_of(page)
    assert {block.language for block in blocks} <= {"bash", "console", "python", "text"}
    assert len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)) == 2 * len(blocks)
    for block in blocks:
        assert block.language != "console" or block.code.startswith("$ ")


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to headings."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return LINK.findall(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = ROOT / "docs" / "README.md"
    assert {page.name for page in DOCS if page != contents} <= set(links(contents))
    assert "docs/README.md" in links(README)


def test_the_table_of_roles_is_up_to_date() -> None:
    """`python -m prunecli.cli.role_table docs/checkpoints.md` makes it so."""
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    assert page == with_role_table(page)
    assert page.count(role_table()) == 1
