"""Markdown as a renderer reads it: the tables are tables, and a name is a name."""

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from report_zoo import NASTY, large, nasty, parameter, report, transformer

from prunecli.reporting.markdown import as_markdown, code
from prunecli.reporting.numbers import label_of
from prunecli.surgery.report.model import Report

OURS = {"<details>", "</details>", "<summary>"}


def tokens(text: str) -> list[Token]:
    flat = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        flat += [token, *(token.children or [])]
    return flat


def cells_of(text: str) -> list[list[Token]]:
    """The inline tokens of every cell in the body of a table."""
    found = tokens(text)
    return [found[at + 1].children or [] for at, token in enumerate(found) if token.type == "td_open"]


def test_totals_and_modules_are_tables() -> None:
    made = transformer(2)
    found = tokens(as_markdown(made))
    assert sum(token.type == "table_open" for token in found) == 3
    spans = [token.content for token in found if token.type == "code_inline"]
    assert {"model.pt", "embed.weight", "layers", "layers.0.attn.qkv"} <= set(spans)
    assert spans[-len(made.parameters) :] == [each.name for each in made.parameters]


@pytest.mark.parametrize("count", [1, 30, 3000])
def test_modules_are_folded_to_a_few_dozen_rows(count: int) -> None:
    text = as_markdown(large(count))
    assert text.count("\n") < 60 + (count if count <= 200 else 0)


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_name_is_one_code_span_wherever_it_stands(name: str) -> None:
    for text in (code(name), f"| a | b |\n| --- | --- |\n| {code(name)} | 1 |"):
        spans = [token for token in tokens(text) if token.type == "code_inline"]
        assert len(spans) == 1
        shown = spans[0].content.replace("\\x7c", "|").replace("\\x60", "`")
        assert shown.strip("' ") == label_of(name, 1000).strip("' ")
        assert code(name).isprintable()


def markup(made: Report) -> list[tuple[str, str]]:
    kinds = ("html_block", "html_inline", "link_open", "image", "em_open", "strong_open", "s_open", "heading_open")
    return [(token.type, token.content.strip()) for token in tokens(as_markdown(made)) if token.type in kinds]


def test_no_name_makes_markup() -> None:
    tame = report([parameter(f"p{number}") for number in range(len(NASTY))])
    assert [kind for kind, _ in markup(nasty())] == [kind for kind, _ in markup(tame)]
    assert all(not text or text.startswith(tuple(OURS)) for _, text in markup(nasty()))


def test_every_row_has_the_cells_of_its_table() -> None:
    found = tokens(as_markdown(nasty()))
    starts = [at for at, token in enumerate(found) if token.type == "tr_open"]
    widths = [sum(token.type in ("td_open", "th_open") for token in found[start : start + 60]) for start in starts]
    assert min(widths) >= 2
    names = [cell for cell in cells_of(as_markdown(nasty())) if cell and cell[0].type == "code_inline"]
    assert len(names) >= len(NASTY)
    assert all(token.type in ("code_inline", "text") for cell in names for token in cell)
