"""The common parts of running commands: ranks, notes, carrying out or printing a plan, results."""

import sys

from prunecli.cli.messages import print_note, print_path, print_sentence, shown_path
from prunecli.cli.notes import closing_notes, masks_note, plan_notes, result_notes
from prunecli.cli.verbosity import Verbosity
from prunecli.errors import show
from prunecli.reporting.numbers import size_of
from prunecli.reporting.plan import details_as_text, orders_as_text, plan_as_text
from prunecli.reporting.terminal import screen_of
from prunecli.reporting.text import done_as_text
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.recipe_text import render_recipe
from prunecli.surgery.prepare import PreparedRewrite
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.verify import Verification

__all__ = [
    "carry_out",
    "print_plan",
    "print_verification",
]

_DIFFERENCES = 10
"""The most differences that `verify` prints."""


def carry_out(job: PreparedRewrite, verbosity: Verbosity, *, dry_run: bool, print_recipe: bool = False) -> None:
    """Carry out a plan and show the result; with `dry_run`, print the plan and check that it can be carried out.

    A dry run also prints its recipe, with `print_recipe` or if standard output is not a terminal.
    """
    for text in plan_notes(job):
        verbosity.note(text)
    if dry_run:
        if text := masks_note(job, "will have"):
            verbosity.note(text)
        if job.run.ranks.is_leader:
            print_plan(job.plan, job.destination, recipe=print_recipe or not sys.stdout.isatty())
            job.rehearse()
        return
    report = job.rewrite()
    if job.run.ranks.is_leader:
        for text in result_notes(job, report):
            verbosity.note(text)
        if not verbosity.quiet:
            _print_table(report, job.destination)
            for text in closing_notes(job):
                print_note(text)
        _print_outputs(report, job.destination, verbosity)


def _print_table(report: Report, destination: Destination) -> None:
    if report.seed is not None:
        sys.stderr.write(f"seed {report.seed}\n")
    where = None if destination.report is None else show(destination.report)
    sys.stderr.write(done_as_text(report, screen_of(sys.stderr), where))


def _print_outputs(report: Report, destination: Destination, verbosity: Verbosity) -> None:
    """Print the output's path or the report on standard output, and last, on standard error, what was written.

    On a terminal, the last line is enough.
    """
    if verbosity.report_to_stdout:
        sys.stdout.write(render_json(report).decode("ascii"))
    elif destination.path is not None and (verbosity.quiet or not sys.stdout.isatty()):
        print_path(destination.path)
    if not verbosity.quiet and report.output is not None:
        sys.stdout.flush()
        size = size_of(report.output.bytes)
        what = f"{size} to standard output" if destination.path is None else f"{shown_path(destination.path)} ({size})"
        beside = "" if destination.report is None else f", report {shown_path(destination.report)}"
        print_sentence(f"wrote {what}{beside}")


def print_plan(plan: Plan, destination: Destination, *, recipe: bool) -> None:
    """Print what a run would do on standard error, and an equivalent recipe, if asked for, on standard output."""
    sys.stderr.write(plan_as_text(plan, screen_of(sys.stderr)))
    for text in (*details_as_text(plan), *orders_as_text(plan)):
        print_sentence(text)
    where = "standard output" if destination.path is None else show(destination.path)
    seed = "" if plan.seed is None else f", seed {plan.seed}"
    print_sentence(f"would write {where}{seed}; nothing is written")
    if recipe and plan.prune is not None and not plan.prune.reads_given:
        sys.stdout.write(render_recipe(plan.prune))


def print_verification(label: str, found: Verification) -> None:
    """Print a verification on standard output; `label` names the checkpoint and is safe to print."""
    differences = found.differences
    unsummed = found.parameters - found.summed
    but = f" ({unsummed:,} of them without a checksum of their values)" if unsummed else ""
    matches = (
        f"{label} matches its report: {found.parameters:,} parameters{but}, {found.elements:,} elements, "
        f"{found.zeros:,} zeros"
    )
    lines = [str(each) for each in differences[:_DIFFERENCES]] or [matches]
    if len(differences) > _DIFFERENCES:
        lines.append(f"and {len(differences) - _DIFFERENCES:,} more")
    for line in lines:
        print_sentence(line, sys.stdout)
