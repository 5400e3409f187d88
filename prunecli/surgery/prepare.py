"""The steps of `apply`, `remove` and `restore` before anything is written: open the checkpoint, and make the plan."""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Literal

from prunecli.core.methods.masks import Masks
from prunecli.core.methods.request import MethodRequest
from prunecli.errors import worded_as_in_recipe
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint
from prunecli.lean import dataclass
from prunecli.surgery.apply import ApplyOptions, plan_request, read_request
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.jobs import with_progress, with_recorded_key
from prunecli.surgery.listing import Listener, note_excludes, open_for_ranks
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.methods import scores_in
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_bake
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.plan.restore import plan_restore
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import without_stamps
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.scan import RunScanner
from prunecli.terms import MASKS, SCORES, in_recipe

__all__ = ["PreparedRewrite", "prepare_apply", "prepare_unmasking"]


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
