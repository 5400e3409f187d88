"""What commands have in common when they run: ranks joined, the checkpoint open, a plan carried out or only told."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from prunecli.cli import render
from prunecli.cli.notes import plan_notes, result_notes
from prunecli.cli.progress import progress
from prunecli.errors import UsageError
from prunecli.formats import base as formats
from prunecli.formats.folders.model_parallel import slices_note
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import Opened, open_any
from prunecli.surgery.names.state_beside import state_beside
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.request import Prune
from prunecli.surgery.plan.undoing import undoing
from prunecli.surgery.report.measure import Report
from prunecli.surgery.rewrite import rehearse, rewrite, unfinished
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.ranks import Team, team_of_launcher
from prunecli.surgery.run.resume import Run

__all__ = ["Speech", "carry_out", "opened_by", "reading_of", "run_of", "seeded"]


@contextmanager
def opened_by(
    source: Location | None, reading: formats.Reading | Callable[[], formats.Reading], *, quiet: bool = False
) -> Iterator[tuple[Team, Opened]]:
    """Join the other ranks, if there are any, and open the checkpoint, each rank for itself; print its notes once.

    The leader makes a `reading` that is a function.
    """
    with team_of_launcher() as team, ExitStack() as stack:
        if source is None and team.size > 1:
            raise UsageError("several ranks cannot read one standard input; give the checkpoint's path")
        known = reading if isinstance(reading, formats.Reading) else team.share(reading)
        opened = team.each(lambda: stack.enter_context(open_any(source, known)))
        for sentence in filter(None, (*opened.notes, slices_note(source, opened))):
            render.note(sentence, quiet=quiet or not team.leads)
        yield team, opened


def reading_of(reading: formats.Reading, report: Report | None) -> formats.Reading:
    """Return how a checkpoint is read that goes with a report: by the report's key, unless another is given."""
    if reading.key is not None or report is None or report.key is None:
        return reading
    return replace(reading, key=report.key, recorded=True)


def run_of(team: Team, jobs: int | None, *, resume: bool = False, link: bool = False) -> Run:
    return Run(jobs, None, team, resume or team.restarts > 0, resume or team.restartable, link)


def seeded(prune: Prune, opened: Opened, destination: Destination, run: Run) -> Prune:
    """Give a request that names no seed the one that the unfinished output was begun with, if that is resumed."""
    if prune.seed is None and run.resume:
        return replace(prune, seed=run.team.share(lambda: unfinished(opened, destination)))
    return prune


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said of a run: `told` sends the report to stdout, `dry_run` prints the plan and does nothing."""

    told: bool
    dry_run: bool
    quiet: bool


def carry_out(opened: Opened, plan: Plan, destination: Destination, run: Run, speech: Speech) -> None:
    """Do what a plan says, or print it and look whether it could be done."""
    render.rivals(opened, quiet=speech.quiet)
    plan_notes(opened, plan, quiet=speech.quiet)
    if speech.dry_run:
        if run.team.leads:
            render.plan_table(plan, destination)
            rehearse(opened, plan, destination, run)
        return
    with progress(opened, quiet=speech.quiet) as told:
        result = rewrite(opened, plan, destination, replace(run, progress=told))
    if run.team.leads:
        result_notes(result, quiet=speech.quiet)
        render.result(result, destination, to_stdout=speech.told, quiet=speech.quiet)
        if not speech.quiet and (sentence := undoing(opened, plan, state_beside(opened))) is not None:
            render.note(sentence, quiet=False)
