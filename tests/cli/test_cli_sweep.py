"""`report A B C`: one table, a row for each checkpoint, in every format; gates hold for each of them."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prunecli import files
from prunecli.errors import ThresholdError, UsageError
from prunecli.reporting.sweep import sweep_as_text
from prunecli.reporting.terminal import Screen

Cli = Callable[..., Any]
Refusal = Callable[..., str]
NAMES = ["none.safetensors", "half.safetensors", "runs/90%.safetensors"]


@pytest.fixture(autouse=True)
def sweep(folder: Path) -> None:
    """Three checkpoints of 1000 elements, of which 0, 500 and 900 are zero."""
    Path("runs").mkdir()
    for name, zeros in zip(NAMES, (0, 500, 900), strict=True):
        weight = torch.ones(1000)
        weight[:zeros] = 0
        save_file({"w": weight}, name)


def test_a_pipe_gets_lines_with_tabs(cli: Cli) -> None:
    outcome = cli("report", *NAMES)
    assert outcome.code == 0, outcome.err
    heads, *rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert heads == ["path", "format", "bytes", "parameters", "elements", "zeros", "sparsity"]
    assert [row[0] for row in rows] == NAMES
    counts = [("0", "0.0"), ("500", "0.5"), ("900", "0.9")]
    assert [row[3:] for row in rows] == [["1", "1000", zeros, share] for zeros, share in counts]
    assert rows[0][1:3] == ["safetensors", str(Path(NAMES[0]).stat().st_size)]


@pytest.mark.parametrize("suffix", ["json", "csv", "md", "html", "txt"])
def test_every_format_has_a_row_for_each(cli: Cli, suffix: str) -> None:
    assert cli("report", *NAMES, "-o", f"all.{suffix}").out == f"all.{suffix}\n"
    assert cli("report", *NAMES, "-q").out == ""
    text = Path(f"all.{suffix}").read_text()
    found = [text.index(name) for name in NAMES]
    assert found == sorted(found)
    assert suffix in ("json", "csv") or all(share in text for share in ("0.00%", "50.00%", "90.00%"))
    if suffix == "json":
        rows = json.loads(text)["checkpoints"]
        assert [row["totals"]["sparsity"] for row in rows] == [0, 0.5, 0.9]
        assert [row["source"]["path"] for row in rows] == NAMES
    if suffix == "csv":
        assert [row["zeros"] for row in csv.DictReader(io.StringIO(text))] == ["0", "500", "900"]


def test_the_order_is_that_of_sort(cli: Cli) -> None:
    lines = cli("report", *NAMES, "--sort", "sparsity").out.splitlines()[1:]
    assert [line.split("\t")[0] for line in lines] == NAMES[::-1]


def test_gates_hold_for_each(cli: Cli) -> None:
    assert cli("report", *NAMES, "--fail-over", "0.95").code == 0
    outcome = cli("report", *NAMES, "--fail-under", "0.6")
    assert outcome.code == 7
    assert len(outcome.out.splitlines()) == 4
    assert outcome.err == (
        "prunecli: error: none.safetensors: the sparsity is 0.00% (0 of 1,000), below --fail-under 0.6; "
        "2 of 3 checkpoints miss a bound\n"
    )


@pytest.mark.parametrize(
    ("code", "more", "what"),
    [
        (2, ["--baseline", "none.safetensors"], "--baseline compares one checkpoint"),
        (2, ["--plot", "a.svg"], "leave --plot, --depth and --top out"),
        (2, ["--depth", "1"], "leave --plot, --depth and --top out"),
        (2, ["-p", "v"], "none.safetensors: "),
        (2, ["-", "-"], "one standard input"),
        (2, ["--fail-under", "v=0.5"], "none.safetensors: --fail-under v matches no parameter"),
        (3, ["absent.pt"], "absent.pt"),
    ],
)
def test_refusals(cli: Cli, code: int, more: list[str], what: str) -> None:
    outcome = cli("report", *NAMES, *more, stdin=Path(NAMES[0]))
    assert outcome.code == code
    assert what in outcome.err.replace("\n  ", " ")


def test_one_may_be_a_stream(cli: Cli) -> None:
    outcome = cli("report", NAMES[1], "-", stdin=Path(NAMES[2]))
    assert [line.split("\t")[0] for line in outcome.out.splitlines()[1:]] == [NAMES[1], "standard input"]


def test_the_function_returns_and_writes_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = files.reports(NAMES, output="all.csv", fail_over=0.95)
    assert [each.totals.zeros for each in found] == [0, 500, 900]
    assert len(Path("all.csv").read_text().splitlines()) == 4
    with pytest.raises(ThresholdError, match=r"below fail_under 0\.6; 2 of 3"):
        files.reports(NAMES, fail_under=0.6)
    with pytest.raises(UsageError, match="nothing"):
        files.reports([], output="none.csv")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("width", [30, 80, 120])
def test_a_terminal_shows_every_path_whole(width: int) -> None:
    lines = sweep_as_text(files.reports(NAMES), Screen(width, 24, live=True)).splitlines()
    assert all(any(line.startswith(name) for line in lines) for name in NAMES)
    assert max(map(len, lines)) <= width
    assert all(share in "".join(lines) for share in ("0.00%", "50.00%", "90.00%"))


def test_hostile_paths_are_not_markup(cli: Cli) -> None:
    name = "=1<script>`|\x1b[1m.safetensors"
    Path(NAMES[0]).rename(name)
    for form in ("table", "json", "csv", "markdown", "html"):
        text = cli("report", name, NAMES[1], "--format", form).out
        assert "\x1b" not in text
        assert form != "html" or "<script>" not in text
        assert form != "csv" or "'=1<" in text
        assert form != "markdown" or r"`=1<script>\x60\x7c" in text
