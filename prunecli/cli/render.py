"""What people see: tables, the progress bar, notes. Data goes to standard output, everything else to standard error."""

from __future__ import annotations  # rich's names are only there for the type checker

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from prunecli.errors import show
from prunecli.formats.folders.folder import Folder
from prunecli.formats.opening import Opened
from prunecli.surgery.destinations import Destination
from prunecli.surgery.parameters import Parameter
from prunecli.surgery.plan import Plan
from prunecli.surgery.recipe import render_recipe
from prunecli.surgery.report import ParameterReport, Report
from prunecli.surgery.report_json import render_json
from prunecli.surgery.request import Prune

# rich takes as long to import as numpy; what needs no table (--help, -q, pipes) need not wait for it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["counts", "note", "parameters", "plan_table", "progress", "report_table", "result", "rivals"]

_PIPED_WIDTH = 200
_LONG = 1000
"""Rows beyond which a table is laid out here: rich takes a quarter of a millisecond for each."""


def note(text: str, *, quiet: bool) -> None:
    """Say something worth knowing on standard error."""
    if not quiet:
        sys.stderr.write(f"prunecli: note: {show(text, 300)}\n")


def counts(prune: Prune, *, quiet: bool) -> None:
    """Say what an amount of 1 is, where one is asked for."""
    if any(group.amount == 1 and isinstance(group.amount, int) for group in prune.groups):
        note("amount 1 prunes one element; 1.0 prunes all of them", quiet=quiet)


def rivals(checkpoint: Opened, *, quiet: bool) -> None:
    """Warn of other files with weights in a folder: a library may load those, and they are not pruned."""
    if isinstance(checkpoint, Folder) and checkpoint.rivals:
        names = ", ".join(show(name, 60) for name in checkpoint.rivals[:3])
        note(f"carried along as they are, weights and all: {names}", quiet=quiet)


@contextmanager
def progress(checkpoint: Opened, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a progress bar on standard error while the block runs, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=_console(sys.stderr), transient=True) as bar:
        task = bar.add_task(show(checkpoint.source.label, 40), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def result(report: Report, destination: Destination, *, to_stdout: bool, quiet: bool) -> None:
    """Show what was done: the table on standard error; on standard output the path written, or the report."""
    if not quiet:
        if report.seed is not None:
            sys.stderr.write(f"seed {report.seed}\n")
        pruned = [each for each in report.parameters if each.state != "dense"]
        sys.stderr.write(_rendered(_grid(report, pruned), sys.stderr))
    copies = [copy for each in report.parameters for copy in each.copies]
    if copies:
        note(
            f"left alone: {len(copies)} copies (averages, optimizer state) of what was pruned, from "
            f"{show(copies[0], 80)} on; the report names them",
            quiet=quiet,
        )
    if to_stdout:
        sys.stdout.write(render_json(report).decode("ascii"))
    elif destination.path is not None:
        # As bytes: a path is whatever the shell gave, and must reach the next command of a script unchanged.
        sys.stdout.buffer.write(os.fsencode(str(destination.path)) + b"\n")


def report_table(report: Report) -> str:
    """Render a whole report as a table, totals last."""
    return _rendered(_grid(report, report.parameters), sys.stdout)


def plan_table(plan: Plan, destination: Destination) -> None:
    """Say on standard error what a run would do; standard output gets the recipe that does the same."""
    rows = []
    for name, planned in plan.planned.items():
        figures = (planned.parameter.weight.elements, planned.census.candidates, planned.pruned_now)
        rows.append((_name(name, planned.tied_to), *(f"{figure:,}" for figure in figures)))
    sys.stderr.write(_rendered(_Grid(("parameter", "elements", "left", "to prune"), rows), sys.stderr))
    where = "standard output" if destination.path is None else show(destination.path)
    seed = "" if plan.seed is None else f", seed {plan.seed}"
    sys.stderr.write(f"would write {where}{seed}; nothing is written\n")
    if plan.prune is not None:
        sys.stdout.write(render_recipe(plan.prune))


def parameters(checkpoint: Opened, chosen: Sequence[Parameter]) -> None:
    """List parameters: a table on a terminal, else a line each of name, type, shape and state, set apart by tabs."""
    rows = [(show(each.name, 1000), each.weight.dtype.name, _shape(each.weight.shape), _state(each)) for each in chosen]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    sys.stdout.write(_rendered(_Grid(("parameter", "type", "shape", "state"), rows, "left"), sys.stdout))
    if checkpoint.wrapper:
        note(f"the state dict lies under {show(checkpoint.wrapper)}", quiet=False)


def _state(parameter: Parameter) -> str:
    if parameter.obstacle() is not None:
        return "not prunable"
    if not parameter.ordinary:
        return "by exact name only"
    return "masked" if parameter.mask is not None else "dense"


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


@dataclass(frozen=True, slots=True)
class _Grid:
    """A table: names on the left, the other columns set to one side, and perhaps a last row of totals."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    justify: Literal["left", "right"] = "right"
    totals: Sequence[str] | None = None


def _rendered(grid: _Grid, stream: TextIO) -> str:
    """Lay a table out for a stream: with bold headings and folded names, or plain if it is long."""
    if len(grid.rows) > _LONG:
        return _plain(grid)
    console = _console(stream)
    with console.capture() as captured:
        console.print(_table(grid))
    return captured.get()


def _table(grid: _Grid) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(grid.headings[0], overflow="fold")
    for heading in grid.headings[1:]:
        table.add_column(heading, justify=grid.justify, no_wrap=True)
    for row in grid.rows:
        table.add_row(*map(_text, row))
    if grid.totals is not None:
        table.add_row(_text(grid.totals[0], "bold"), *map(_text, grid.totals[1:]))
    return table


def _plain(grid: _Grid) -> str:
    lines = [grid.headings, *grid.rows, *([] if grid.totals is None else [grid.totals])]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    side = "<" if grid.justify == "left" else ">"
    layout = "  ".join([f"{{:<{widths[0]}}}", *(f"{{:{side}{width}}}" for width in widths[1:])]) + "\n"
    return "".join(layout.format(*line) for line in lines)


def _grid(report: Report, chosen: Sequence[ParameterReport]) -> _Grid:
    headings = ("parameter", "shape", "type", "state", "elements", "zeros", "sparsity", "pruned now")
    rows = []
    for each in chosen:
        zeros = "" if each.zeros is None else f"{each.zeros:,}"
        sparsity = "" if each.sparsity is None else f"{each.sparsity:.2%}"
        figures = (f"{each.elements:,}", zeros, sparsity, f"{each.pruned_now:,}")
        rows.append((_name(each.name, each.tied_to), _shape(each.shape), each.dtype, each.state, *figures))
    sums = report.totals
    figures = (f"{sums.elements:,}", f"{sums.zeros:,}", f"{sums.sparsity:.2%}", f"{sums.pruned_now:,}")
    return _Grid(headings, rows, totals=(f"all {sums.parameters} parameters", "", "", "", *figures))


def _name(name: str, tied_to: Sequence[str]) -> str:
    tie = f" = {', '.join(show(other) for other in tied_to)}" if tied_to else ""
    return show(name) + tie


def _text(text: str, style: str = "") -> Text:
    """Plain text for a table: nothing in it is markup."""
    from rich.text import Text

    return Text(text, style)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
