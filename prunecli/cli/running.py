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
from prunecli.formats.opening import AnyCheckpoint, open_any
from prunecli.surgery.names.state_beside import state_beside
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.plan.undoing import undoing
from prunecli.surgery.report.measure import Report
from prunecli.surgery.rewrite import rehearse, rewrite, unfinished
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.ranks import Ranks, ranks_of_launcher
from prunecli.surgery.run.resume import Run

__all__ = ["Speech", "carry_out", "opened_by", "reading_of", "run_of", "seeded"]


@contextmanager
def opened_by(
    source: Location | None, reading: formats.ReadOptions | Callable[[], formats.ReadOptions], *, quiet: bool = False
) -> Iterator[tuple[Ranks, AnyCheckpoint]]:
    """Join the other ranks, if there are any, and open the checkpoint, each rank for itself; print its notes once.

    The leader makes a `reading` that is a function.
    """
    with ranks_of_launcher() as ranks, ExitStack() as stack:
        if source is None and ranks.size > 1:
            raise UsageError("several ranks cannot read one standard input; give the checkpoint's path")
        known = reading if isinstance(reading, formats.ReadOptions) else ranks.from_leader(reading)
        opened = ranks.on_all(lambda: stack.enter_context(open_any(source, known)))
        for sentence in filter(None, (*opened.notes, slices_note(source, opened))):
            render.note(sentence, quiet=quiet or not ranks.is_leader)
        yield ranks, opened


def reading_of(reading: formats.ReadOptions, report: Report | None) -> formats.ReadOptions:
    """Return how a checkpoint is read that goes with a report: by the report's key, unless another is given."""
    if reading.key is not None or report is None or report.key is None:
        return reading
    return replace(reading, key=report.key, recorded=True)


def run_of(ranks: Ranks, jobs: int | None, *, resume: bool = False, link: bool = False) -> Run:
    return Run(jobs, None, ranks, resume or ranks.restarts > 0, resume or ranks.restartable, link)


def seeded(prune: PruneRequest, opened: AnyCheckpoint, destination: Destination, run: Run) -> PruneRequest:
    """Give a request that names no seed the one that the unfinished output was begun with, if that is resumed."""
    if prune.seed is None and run.resume:
        return replace(prune, seed=run.ranks.from_leader(lambda: unfinished(opened, destination)))
    return prune


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said of a run: `told` sends the report to stdout, `dry_run` prints the plan and does nothing."""

    told: bool
    dry_run: bool
    quiet: bool


def carry_out(opened: AnyCheckpoint, plan: Plan, destination: Destination, run: Run, speech: Speech) -> None:
    """Do what a plan says, or print it and look whether it could be done."""
    render.other_weight_files(opened, quiet=speech.quiet)
    plan_notes(opened, plan, quiet=speech.quiet)
    if speech.dry_run:
        if run.ranks.is_leader:
            render.plan_table(plan, destination)
            rehearse(opened, plan, destination, run)
        return
    with progress(opened, quiet=speech.quiet) as told:
        result = rewrite(opened, plan, destination, replace(run, progress=told))
    if run.ranks.is_leader:
        result_notes(result, quiet=speech.quiet)
        render.result(result, destination, to_stdout=speech.told, quiet=speech.quiet)
        if not speech.quiet and (sentence := undoing(opened, plan, state_beside(opened))) is not None:
            render.note(sentence, quiet=False)
