"""What people see: tables, the progress bar, notes. Data goes to standard output, everything else to standard error."""

import os
import sys

from prunecli.errors import fit_line, show
from prunecli.formats.opening import AnyCheckpoint
from prunecli.reporting.layout import Column, Row, lay_out
from prunecli.reporting.numbers import label_of
from prunecli.reporting.terminal import screen_of
from prunecli.reporting.text import done_as_text
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.recipe import render_recipe
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.measure import Report
from prunecli.surgery.run.destination import Destination
from prunecli.terms import render

__all__ = ["counts", "note", "other_weight_files", "plan_table", "result"]

_LINE = 300
"""Characters of a note, without what stands before it."""


def note(text: str, *, quiet: bool) -> None:
    """Say something worth knowing on standard error."""
    if not quiet:
        sys.stderr.write(f"prunecli: note: {fit_line(render(text), _LINE)}\n")


def counts(prune: PruneRequest, *, quiet: bool) -> None:
    """Say what an amount of 1 is, where one is asked for."""
    if any(group.amount == 1 and isinstance(group.amount, int) for group in prune.groups):
        note("amount 1 prunes one element; 1.0 prunes all of them", quiet=quiet)


def other_weight_files(checkpoint: AnyCheckpoint, *, quiet: bool) -> None:
    """Warn of other files with weights in a folder: a library may load those, and they are not pruned."""
    if checkpoint.other_weight_files:
        names = ", ".join(show(name, 60) for name in checkpoint.other_weight_files[:3])
        note(f"carried along as they are, weights and all: {names}", quiet=quiet)


def result(report: Report, destination: Destination, *, to_stdout: bool, quiet: bool) -> None:
    """Show what was done: the table on standard error; on standard output the path written, or the report."""
    if not quiet:
        if report.seed is not None:
            sys.stderr.write(f"seed {report.seed}\n")
        sys.stderr.write(done_as_text(report, screen_of(sys.stderr)))
    if to_stdout:
        sys.stdout.write(render_json(report).decode("ascii"))
    elif destination.path is not None:
        # As bytes: a path is whatever the shell gave, and must reach the next command of a script unchanged.
        sys.stdout.buffer.write(os.fsencode(str(destination.path)) + b"\n")


def plan_table(plan: Plan, destination: Destination) -> None:
    """Say on standard error what a run would do; standard output gets the recipe that does the same."""
    rows = []
    for name, planned in plan.planned.items():
        figures = (planned.parameter.weight.elements, planned.target.candidates, planned.pruned_now)
        tie = f" = {', '.join(map(label_of, planned.tied_to))}" if planned.tied_to else ""
        rows.append(Row(label_of(name) + tie, [f"{figure:,}" for figure in figures]))
    columns = [Column("elements"), Column("left"), Column("to prune")]
    sys.stderr.writelines(f"{line}\n" for line in lay_out("parameter", columns, rows, screen_of(sys.stderr)))
    where = "standard output" if destination.path is None else show(destination.path)
    seed = "" if plan.seed is None else f", seed {plan.seed}"
    sys.stderr.write(f"would write {where}{seed}; nothing is written\n")
    if plan.prune is not None:
        sys.stdout.write(render_recipe(plan.prune))
