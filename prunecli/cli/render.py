"""What people see: tables, the progress bar, notes. Data goes to standard output, everything else to standard error."""

from __future__ import annotations  # rich's names are only there for the type checker

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from prunecli.errors import show
from prunecli.formats.folder import Folder
from prunecli.formats.opening import Opened
from prunecli.surgery.destinations import Destination
from prunecli.surgery.parameters import Parameter
from prunecli.surgery.plan import Plan
from prunecli.surgery.report import ParameterReport, Report, render_json

# rich takes as long to import as numpy; what needs no table (--help, -q, pipes) need not wait for it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["note", "parameters", "plan_table", "progress", "report_table", "result", "rivals"]

_PIPED_WIDTH = 200


def note(text: str, *, quiet: bool) -> None:
    """Say something worth knowing on standard error."""
    if not quiet:
        sys.stderr.write(f"prunecli: note: {show(text, 300)}\n")


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
        console = _console(sys.stderr)
        if report.seed is not None:
            console.print(_text(f"seed {report.seed}"))
        console.print(_table(report, [each for each in report.parameters if each.state != "dense"]))
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
    console = _console(sys.stdout)
    with console.capture() as captured:
        console.print(_table(report, report.parameters))
    return captured.get()


def plan_table(plan: Plan, destination: Destination) -> None:
    """Print what a run would do, on standard output."""
    table = _bare_table("parameter", ("elements", "left", "to prune"))
    for name, planned in plan.planned.items():
        figures = (planned.parameter.weight.elements, planned.census.candidates, planned.pruned_now)
        table.add_row(_name(name, planned.tied_to), *(_text(f"{figure:,}") for figure in figures))
    console = _console(sys.stdout)
    console.print(table)
    where = "standard output" if destination.path is None else show(destination.path)
    seed = "" if plan.seed is None else f", seed {plan.seed}"
    console.print(_text(f"would write {where}{seed}; nothing is written"), soft_wrap=True)


def parameters(checkpoint: Opened, chosen: Sequence[Parameter]) -> None:
    """List parameters: a table on a terminal, else a line each of name, type, shape and state, set apart by tabs."""
    rows = [(show(each.name, 1000), each.weight.dtype.name, _shape(each.weight.shape), _state(each)) for each in chosen]
    if not sys.stdout.isatty():
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    table = _bare_table("parameter", ())
    for heading in ("type", "shape", "state"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    console = _console(sys.stdout)
    console.print(table)
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


def _bare_table(first: str, figures: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _table(report: Report, rows: Sequence[ParameterReport]) -> Table:
    table = _bare_table("parameter", ("shape", "type", "state", "elements", "zeros", "sparsity", "pruned now"))
    for each in rows:
        zeros = "" if each.zeros is None else f"{each.zeros:,}"
        sparsity = "" if each.sparsity is None else f"{each.sparsity:.2%}"
        cells = (
            _shape(each.shape),
            each.dtype,
            each.state,
            f"{each.elements:,}",
            zeros,
            sparsity,
            f"{each.pruned_now:,}",
        )
        table.add_row(_name(each.name, each.tied_to), *map(_text, cells))
    totals = report.totals
    cells = (
        "",
        "",
        "",
        f"{totals.elements:,}",
        f"{totals.zeros:,}",
        f"{totals.sparsity:.2%}",
        f"{totals.pruned_now:,}",
    )
    table.add_row(_text(f"all {totals.parameters} parameters", "bold"), *map(_text, cells))
    return table


def _name(name: str, tied_to: Sequence[str]) -> Text:
    tie = f" = {', '.join(show(other) for other in tied_to)}" if tied_to else ""
    return _text(show(name) + tie)


def _text(text: str, style: str = "") -> Text:
    """Plain text for a table: nothing in it is markup."""
    from rich.text import Text

    return Text(text, style)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
