"""The steps of each command between its options and its result, shared by the command line and `prunecli.files`."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from prunecli.core.methods.masks import Masks
from prunecli.core.methods.request import MethodRequest
from prunecli.errors import PrunecliError, UsageError, show, worded_as_in_recipe
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint, check_unchanged, open_any
from prunecli.lean import dataclass
from prunecli.surgery.apply import ApplyOptions, plan_request, read_request
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.listing import Listener, note_excludes, open_for_ranks
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.methods import scores_in
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_bake
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.restore import plan_restore
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import without_stamps
from prunecli.surgery.report.reading import read_report, read_report_beside
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.scan import RunScanner
from prunecli.terms import MASKS, SCORES, in_recipe

if TYPE_CHECKING:
    from prunecli.surgery.compare.model import Comparison

__all__ = [
    "PreparedRewrite",
    "compare_with",
    "measure_checkpoint",
    "measure_each",
    "prepare_apply",
    "prepare_unmasking",
    "report_beside",
    "report_reader",
    "with_progress",
    "with_recorded_key",
]


@contextmanager
def with_progress(run: Run, checkpoint: AnyCheckpoint, listener: Listener) -> Iterator[Run]:
    """Yield a run whose progress goes to the listener, for passes that write nothing."""
    with listener.progress(checkpoint.source.label, delayed=True) as ticks:
        yield replace(run, progress=ticks)


def with_recorded_key(reading: ReadOptions, report: Report | None) -> ReadOptions:
    """Return read options with the key that the report records, unless a key is given."""
    if reading.key is not None or report is None or report.key is None:
        return reading
    return replace(reading, key=report.key, recorded=True)


@dataclass(frozen=True, slots=True)
class PreparedRewrite:
    """An open checkpoint, the plan for it, and the destination of the result."""

    checkpoint: AnyCheckpoint
    plan: Plan
    destination: Destination
    run: Run
    listener: Listener
    given: Given = NOTHING

    def rewrite(self) -> Report:
        """Carry out the plan; raises as `rewrite.rewrite`."""
        from prunecli.surgery.rewrite import rewrite

        with self.listener.progress(self.checkpoint.source.label) as ticks:
            run = replace(self.run, progress=ticks)
            return rewrite(self.checkpoint, self.plan, self.destination, run, self.given)

    def rehearse(self) -> None:
        """Check that the plan can be carried out; raises as `rewrite.rehearse`."""
        from prunecli.surgery.rewrite import rehearse

        rehearse(self.checkpoint, self.plan, self.destination, self.run, self.given)


@contextmanager
def prepare_apply(
    source: Location | None,
    options: ApplyOptions,
    destination: Destination,
    reading: ReadOptions,
    run: Run,
    listener: Listener,
) -> Iterator[PreparedRewrite]:
    """Open a checkpoint and plan an `apply` with checked options.

    Raises:
        PrunecliError: as `read_request`, `open_for_ranks` and `plan_request`.
    """
    ranks, requested = run.ranks, functools.cache(lambda: read_request(options))
    with ExitStack() as stack:
        if options.recipe is not None:
            stack.enter_context(worded_as_in_recipe())
        checkpoint = stack.enter_context(
            open_for_ranks(source, lambda: with_recorded_key(reading, requested().report), run, listener)
        )
        request = ranks.from_leader(requested)
        if request.report is None:
            note_excludes(checkpoint, [group.selection for group in request.prune.groups], listener)
        prune = _with_resumed_seed(request.prune, checkpoint, destination, run)
        if options.masks.file is not None:
            given = stack.enter_context(_open_masks(options, checkpoint, reading, run, listener))
            if request.report is None:
                own = PruneGroup(Selection(tuple(given.flags)), None, method=MethodRequest(Masks.name))
                prune = replace(prune, groups=(own,))
        else:
            given = stack.enter_context(_open_scores(prune, reading, run, listener))
        with with_progress(run, checkpoint, listener) as shown:
            scanner = RunScanner(shown, given)
            plan = plan_request(checkpoint, replace(request, prune=prune), scanner, reading, given, stamp=options.stamp)
        notes = plan.notes if options.recipe is None else [in_recipe(each) for each in plan.notes]
        plan = replace(plan, key=with_recorded_key(reading, request.report).key, notes=notes)
        yield PreparedRewrite(checkpoint, plan, destination, run, listener, given)


@contextmanager
def _open_masks(
    options: ApplyOptions, checkpoint: AnyCheckpoint, reading: ReadOptions, run: Run, listener: Listener
) -> Iterator[Given]:
    """Open a file of masks on each rank; a replay takes from it what the report needs."""
    from prunecli.surgery.masks.given import given_masks
    from prunecli.surgery.masks.source import masks_of

    replayed = options.report is not None
    location = input_location(options.masks.file or "", MASKS)
    own = ReadOptions(foreign=reading.foreign, follow_links=reading.follow_links, read_only=True)
    with open_for_ranks(location, own, run, listener) as opened:
        given = run.ranks.on_all(
            lambda: given_masks(
                checkpoint,
                masks_of(opened),
                options.selection,
                missing_kept=replayed or options.masks.missing is not None,
                untie=options.overrides.untie,
            )
        )
        for note in given.notes if not replayed else ():
            listener.note(note)
        yield given


@contextmanager
def _open_scores(prune: PruneRequest, reading: ReadOptions, run: Run, listener: Listener) -> Iterator[Given]:
    """Open the files of scores that a request names on each rank."""
    places = {group.method.scores: None for group in prune.groups if group.method.scores is not None}
    own = ReadOptions(foreign=reading.foreign, follow_links=reading.follow_links, read_only=True)
    with ExitStack() as stack:
        files = {
            place: stack.enter_context(open_for_ranks(input_location(place, SCORES), own, run, listener))
            for place in places
        }
        yield Given(
            scores={place: scores_in(file, file.source.label) for place, file in files.items()},
            sources=tuple(files.values()),
        )


@contextmanager
def prepare_unmasking(
    command: Literal["remove", "restore"],
    source: Location | None,
    selection: Selection | None,
    destination: Destination,
    reading: ReadOptions,
    run: Run,
    listener: Listener,
) -> Iterator[PreparedRewrite]:
    """Open a checkpoint and plan to bake its masks (`remove`) or to drop them (`restore`), all or the selected ones.

    Raises:
        PrunecliError: as `open_for_ranks`, and `plan_bake` or `plan_restore`.
    """
    with open_for_ranks(source, reading, run, listener) as checkpoint:
        note_excludes(checkpoint, [selection], listener)
        if command == "restore":
            plan = run.ranks.from_leader(lambda: without_stamps(checkpoint, plan_restore(checkpoint, selection)))
        else:
            with with_progress(run, checkpoint, listener) as shown:
                plan = plan_bake(checkpoint, selection, scanner=RunScanner(shown))
        yield PreparedRewrite(checkpoint, replace(plan, key=reading.key), destination, run, listener)


def _with_resumed_seed(
    prune: PruneRequest, checkpoint: AnyCheckpoint, destination: Destination, run: Run
) -> PruneRequest:
    """Return the request; if it has no seed and the run resumes an output, with the seed of that output."""
    if prune.seed is None and run.resume and prune.draws:
        from prunecli.surgery.rewrite import unfinished

        return replace(prune, seed=run.ranks.from_leader(lambda: unfinished(checkpoint, destination)))
    return prune


def measure_checkpoint(
    checkpoint: AnyCheckpoint, selection: Selection | None, run: Run, *, key: str | None, pictures: bool
) -> Report:
    """Return the report of an open checkpoint, after a check that the file did not change meanwhile.

    Raises:
        PrunecliError: as `measure` and `check_unchanged`.
    """
    report = measure(checkpoint, selection, run, structure=True, pictures=pictures)
    check_unchanged(checkpoint)
    return replace(report, key=key)


def measure_each(
    sources: Sequence[Location | None],
    reading: ReadOptions,
    selection: Selection | None,
    run: Run,
    listener: Listener,
) -> Iterator[tuple[AnyCheckpoint, Report]]:
    """Yield several checkpoints, one open at a time, with their reports, which lack where the zeros lie.

    Raises:
        UsageError: two are standard input, or a pattern matches nothing in one of them.
        PrunecliError: as `open_for_ranks` and `measure`.
    """
    if sum(each is None for each in sources) > 1:
        raise UsageError("several checkpoints cannot come from one standard input; give all but one a path")
    if not sources:
        raise UsageError("there is nothing to report; give the paths of checkpoints")
    for source in sources:
        with open_for_ranks(source, reading, run, listener) as opened, with_progress(run, opened, listener) as shown:
            note_excludes(opened, [selection], listener)
            try:
                report = measure(opened, selection, shown)
            except UsageError as error:
                raise error.inside(show(opened.source.name or "standard input", 80)) from None
            check_unchanged(opened)
            yield opened, replace(report, key=reading.key)


def compare_with(
    baseline: Location | None, checkpoint: AnyCheckpoint, reading: ReadOptions, selection: Selection | None, run: Run
) -> "Comparison":
    """Compare an open checkpoint with an earlier one, None for standard input.

    Raises:
        UsageError: both are standard input.
        PrunecliError: as `open_any` and `compare`.
    """
    from prunecli.surgery.compare.compare import compare

    if baseline is None and checkpoint.source.name is None:
        raise UsageError("both checkpoints cannot come from one standard input; give one of them a path")
    with open_any(baseline, reading) as before:
        comparison = compare(before, checkpoint, selection, run)
        check_unchanged(before)
    check_unchanged(checkpoint)
    return comparison


def report_reader(source: Location | None, text: str | None) -> Callable[[], Report]:
    """Return a function that reads the named report, or the one next to the checkpoint if none is named.

    Raises:
        UsageError: checkpoint and report would both come from standard input, or neither has a name.
    """
    if text is None:
        if source is None:
            raise UsageError("a checkpoint from standard input has no report next to it; name the report")
        return lambda: read_report_beside(source)
    location = input_location(text, "REPORT")
    if source is None and location is None:
        raise UsageError("checkpoint and report cannot both come from one standard input; give one of them a path")
    return lambda: read_report(location)


def report_beside(source: Location | None) -> Report | None:
    """Return the report next to a checkpoint, None if there is none that can be read."""
    if source is None:
        return None
    try:
        return read_report_beside(source)
    except PrunecliError:
        return None
