"""Text for terminals and pipes: it fits, it aligns, and it leaves nothing out where it need not."""

import io
import re
from dataclasses import replace
from typing import get_args

import pytest
from report_zoo import NASTY, large, nasty, parameter, report, transformer

from prunecli.reporting.layout import Column, Row, lay_out
from prunecli.reporting.numbers import bar, cells, clip_middle, label_of, percent
from prunecli.reporting.options import Sort, TableOptions
from prunecli.reporting.terminal import PAGE, Screen, screen_of
from prunecli.reporting.text import as_text, done_as_text
from prunecli.surgery.report.model import Report

SGR = re.compile(r"\x1b\[[0-9;]*m")
REPORTS = {"transformer": transformer(12), "nasty": nasty(), "empty": report([]), "large": large(400)}


def live(width: int = 80, height: int | None = 24, **more: bool) -> Screen:
    return Screen(width, height, live=True, **more)


@pytest.mark.parametrize("width", [40, 60, 61, 80, 99, 100, 120, 200])
@pytest.mark.parametrize("height", [10, 24, 50])
@pytest.mark.parametrize("name", REPORTS)
def test_a_terminal_is_never_left(name: str, width: int, height: int) -> None:
    text = as_text(REPORTS[name], live(width, height))
    lines = text.splitlines()
    assert max(map(cells, lines)) <= width
    above = lines.index("") + 1 + lines[lines.index("") + 1 :].index("")
    assert len(lines) <= max(height - 1, above + 9)


@pytest.mark.parametrize("sort", get_args(Sort))
@pytest.mark.parametrize("top", [None, 3])
def test_a_pipe_gets_every_name_whole(sort: Sort, top: int | None) -> None:
    made = nasty()
    lines = as_text(made, PAGE, TableOptions(sort=sort, top=top)).splitlines()
    shown = [each for each in made.parameters if any(line.startswith(label_of(each.name, 1000)) for line in lines)]
    assert len(shown) >= (3 if top else len(NASTY))


def test_colours_are_all_that_colours_change() -> None:
    plain, coloured = (as_text(transformer(3), live(90, colour=colour)) for colour in (False, True))
    assert "\x1b" not in plain
    assert SGR.sub("", coloured) == plain
    assert plain != coloured


@pytest.mark.parametrize("name", REPORTS)
def test_where_there_are_no_block_characters_all_but_names_is_ascii(name: str) -> None:
    text = as_text(REPORTS[name], live(90, blocks=False))
    if name != "nasty":
        assert text.isascii()
    assert not set(text) & set("█▏├└│×…") or name == "nasty"


def test_columns_are_aligned() -> None:
    lines = as_text(transformer(2), live(120, 100)).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("module"))
    ends = {match.end() for line in lines[start + 1 :] for match in re.finditer(r"[0-9.]+%", line)}
    assert ends == {lines[start].index("sparsity") + len("sparsity")}


def test_a_depth_shows_the_levels_asked_for_whatever_the_height() -> None:
    made = transformer(12)
    assert "layers.{0..11}" in as_text(made, live(100, 24))
    by_depth = [as_text(made, live(100, 24), TableOptions(depth=depth)) for depth in range(5)]
    assert "embed" not in by_depth[0]
    assert "folded" not in "".join(by_depth)
    assert [text.count("\n") for text in by_depth] == sorted({text.count("\n") for text in by_depth})


def test_top_lists_the_first_by_the_key() -> None:
    made = report([parameter(f"m.p{zeros}", (8, 4), zeros) for zeros in (3, 31, 7, 0)])
    for sort, first in (("sparsity", ["m.p31", "m.p7"]), ("name", ["m.p3", "m.p31"]), ("size", ["m.p3", "m.p31"])):
        text = as_text(made, live(), TableOptions(sort=sort, top=2))  # type: ignore[arg-type]
        assert re.findall(r"^(m\.p\d+) ", text, re.MULTILINE) == first
        assert "2 more parameters" in text


def test_tied_parameters_name_their_partners_where_there_is_room() -> None:
    long = "decoder.projection.weight"
    made = report([parameter("a.w", tied_to=(long,)), parameter(long, tied_to=("a.w",))])
    text = as_text(made, live(100))
    assert f"a.w = {long}" in text
    assert re.search(r"^elements +32$", text, re.MULTILINE)
    assert "a.w (tied)" in as_text(made, live(45))


def test_what_a_run_did_is_folded_in_a_log_if_it_is_long() -> None:
    few, many = (done_as_text(done(large(count)), PAGE, "r.json") for count in (30, 3000))
    assert few.count("\n") > 30
    assert many.count("\n") < 220
    assert "folded: r.json has all 3,000 parameters" in many
    assert "folded" not in few


def done(made: Report) -> Report:
    return replace(made, parameters=[replace(each, state="baked", pruned_now=5) for each in made.parameters])


class _Stream(io.StringIO):
    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


def test_a_screen_is_what_the_stream_and_the_environment_say() -> None:
    terminal, pipe = _Stream("utf-8", terminal=True), _Stream("utf-8", terminal=False)
    size = {"COLUMNS": "77", "LINES": "33"}
    assert screen_of(terminal, size) == Screen(77, 33, live=True, colour=True)
    assert screen_of(terminal, {}) == Screen(80, 24, live=True, colour=True)
    assert screen_of(pipe, size) == PAGE
    assert screen_of(terminal, {"COLUMNS": "wide", "LINES": "-3"}).width == 80
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert not screen_of(terminal, off).colour
    assert screen_of(terminal, {"NO_COLOR": ""}).colour
    for encoding in ("ascii", "latin-1", "no such"):
        assert not screen_of(_Stream(encoding, terminal=True), {}).blocks


@pytest.mark.parametrize("text", [label_of(name, 1000) for name in NASTY if name])
@pytest.mark.parametrize("width", [0, 1, 2, 7, 30, 2000])
def test_a_clipped_text_has_its_ends_and_fits(text: str, width: int) -> None:
    clipped = clip_middle(text, width)
    assert cells(clipped) <= width
    assert clipped == text or width < cells(text)
    head, _, tail = clipped.partition("…")
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize("part", [0, 1, 10**11 - 1, 10**11, 3 * 10**10])
def test_only_nothing_is_0_percent_and_only_all_is_100(part: int) -> None:
    assert (percent(part, 10**11) == "0.00%") == (part == 0)
    assert (percent(part, 10**11) == "100.00%") == (part == 10**11)


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("width", [1, 4, 10])
def test_only_nothing_is_an_empty_bar_and_only_all_a_full_one(width: int, blocks: bool) -> None:
    empty, full = (bar(share, width, blocks=blocks) for share in (0.0, 1.0))
    for share in (1e-9, 0.3, 1 - 1e-9):
        assert len(bar(share, width, blocks=blocks)) == width
        assert bar(share, width, blocks=blocks) != empty or not (blocks or width > 1)
        assert bar(share, width, blocks=blocks) != full


def test_the_least_important_columns_go_first() -> None:
    columns = [Column("a" * 9, drop=1), Column("b" * 9, drop=2), Column("c" * 9)]
    rows = [Row("name", ["1", "2", "3"]), Row("other", ["2", "3", "4"])]
    shown = {width: lay_out("", columns, rows, Screen(width))[0].split() for width in (80, 30, 20)}
    assert [[each[0] for each in kept] for kept in shown.values()] == [["a", "b", "c"], ["a", "c"], ["c"]]
