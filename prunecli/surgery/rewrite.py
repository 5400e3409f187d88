"""Carry a plan out: stream the checkpoint to its new place, and report what was counted on the way."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunecli.errors import UsageError, show
from prunecli.formats.base import ONLY_FILE
from prunecli.formats.folders.base import Folder
from prunecli.formats.io.locations import Url
from prunecli.formats.io.ordered import run_into
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.remote import RemoteSource
from prunecli.formats.io.sinks import PipeSink
from prunecli.formats.io.source import FileSource
from prunecli.formats.opening import AnyCheckpoint, check_unchanged
from prunecli.formats.outputs.file import Target, publish_file, stdout_failure
from prunecli.formats.outputs.output import Output, check_output, new_output
from prunecli.formats.outputs.resumable import Partial, discard_partial
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.replay import check_masks
from prunecli.surgery.report.codec import write_report
from prunecli.surgery.report.model import CheckpointRef, Report
from prunecli.surgery.rewrite_folder import (
    REMOTE_NOT_RESUMABLE,
    check_folder_destination,
    in_units,
    rehearse_folder,
    rewrite_folder,
)
from prunecli.surgery.run.destination import Destination, cumulative
from prunecli.surgery.run.edit import build_edit
from prunecli.surgery.run.resume import RewriteJob, Run, carry_out, unfinished_seed
from prunecli.surgery.run.units import OutputFile
from prunecli.terms import LINK, OUTPUT, REPORT

__all__ = ["rehearse", "rewrite", "unfinished"]


def rewrite(checkpoint: AnyCheckpoint, plan: Plan, destination: Destination, run: Run | None = None) -> Report:
    """Write the checkpoint that the plan describes, then its report; nothing is begun before both are found writable.

    Raises:
        OutputError: an output exists, cannot be written, or is the input; or as `rewrite_units.carry_out`.
        UsageError: standard output cannot be resumed, or written by several ranks.
        DamagedError: the input's data contradict its checksums.
    """
    run = run or Run()
    if isinstance(checkpoint, Folder):
        return rewrite_folder(checkpoint, plan, destination, run)
    _check_link(run)
    targets = run.ranks.from_leader(lambda: _check_file_destination(checkpoint, destination))
    surgery = build_edit(checkpoint, plan)
    counts = surgery.new_counts()
    pieces = list(checkpoint.file_pieces(ONLY_FILE, surgery.edit))
    if in_units(run):
        _in_units(checkpoint, plan, counts, pieces, targets.output, run)
    else:
        _in_one_go(checkpoint, plan, counts, pieces, targets.output, run)
    size = sum(piece.length for piece in pieces)
    output = CheckpointRef(None if destination.path is None else str(destination.path), checkpoint.format, size)
    return run.ranks.from_leader(lambda: write_report(checkpoint, plan, counts, output, targets.report))


def _in_one_go(
    checkpoint: AnyCheckpoint,
    plan: Plan,
    counts: Counts,
    pieces: Sequence[Piece],
    target: Output | None,
    run: Run,
) -> None:
    size = sum(piece.length for piece in pieces)
    told = cumulative(run.progress, size)
    if target is None:
        _to_stdout(pieces, checkpoint, run.threads, told, counts)
        check_masks(plan, counts)
    else:
        if isinstance(target, Target):
            discard_partial(target.final)
        with new_output(target, size) as sink:
            run_into(pieces, checkpoint.source, sink, jobs=run.threads, progress=told, found=counts.add)
            check_masks(plan, counts)
            check_unchanged(checkpoint)


def _in_units(
    checkpoint: AnyCheckpoint,
    plan: Plan,
    counts: Counts,
    pieces: Sequence[Piece],
    target: Output | None,
    run: Run,
) -> None:
    target = _unit_target(checkpoint, target)
    work = OutputFile(target.final.name, pieces, checkpoint.source, written=True)
    order = RewriteJob(checkpoint, plan, counts, [work], target.final, target.path)

    def finish(partial: Partial) -> None:
        check_masks(plan, counts)
        check_unchanged(checkpoint)
        publish_file(partial.output / work.name, target)

    carry_out(order, run, finish)


def _unit_target(checkpoint: AnyCheckpoint, target: Output | None) -> Target:
    """Return an output that can be made in units, by several runs or ranks."""
    if target is None or checkpoint.source.name is None:
        raise UsageError(f"a stream can neither be resumed nor spread over ranks; name files, with {OUTPUT} as well")
    if not isinstance(target, Target):
        raise UsageError(REMOTE_NOT_RESUMABLE.format(show(target.final)))
    return target


def unfinished(checkpoint: AnyCheckpoint, destination: Destination) -> int | None:
    """Return the seed of an unfinished output that can be resumed, None if there is none.

    Raises:
        PrunecliError: as `rehearse`.
    """
    target = (
        check_folder_destination(checkpoint, destination).output
        if isinstance(checkpoint, Folder)
        else _check_file_destination(checkpoint, destination).output
    )
    return None if target is None or isinstance(target.final, Url) else unfinished_seed(target.final)


def _check_link(run: Run) -> None:
    if run.link:
        raise UsageError(
            f"{LINK} is about files that a folder carries along unchanged; leave it out, as this is a single file"
        )


@dataclass(frozen=True, slots=True)
class _Targets:
    """Outputs found fit to be written; None for standard output, and for no report."""

    output: Output | None
    report: Output | None


def rehearse(checkpoint: AnyCheckpoint, plan: Plan, destination: Destination, run: Run | None = None) -> None:
    """Look whether `rewrite` could begin: whether outputs can be written, and the container takes the edit.

    Raises:
        UnsupportedError: it does not.
        OutputError: an output exists, is the input, or cannot be written.
        UsageError: both would be one file, or the output is none that can be resumed or spread over ranks.
    """
    run = run or Run()
    if isinstance(checkpoint, Folder):
        rehearse_folder(checkpoint, plan, destination, run)
        return
    _check_link(run)
    targets = _check_file_destination(checkpoint, destination)
    if in_units(run):
        _unit_target(checkpoint, targets.output)
    for _ in checkpoint.file_pieces(ONLY_FILE, build_edit(checkpoint, plan).edit):
        pass


def _check_file_destination(checkpoint: AnyCheckpoint, destination: Destination) -> _Targets:
    source = checkpoint.sources[ONLY_FILE]
    itself: os.stat_result | Url | None = source.status if isinstance(source, FileSource) else None
    if isinstance(source, RemoteSource):
        itself = source.store.url
    if destination.path is None:
        output = None
    else:
        output = check_output(destination.path, force=destination.force, source=itself)
    if destination.report is None:
        return _Targets(output, None)
    report = check_output(destination.report, force=destination.force, source=itself, option=REPORT)
    if output is not None and report.final == output.final:
        raise UsageError(f"the checkpoint and its report would be one file; give {REPORT} another name")
    return _Targets(output, report)


def _to_stdout(
    pieces: Sequence[Piece],
    checkpoint: AnyCheckpoint,
    jobs: int,
    progress: Callable[[int], None] | None,
    counts: Counts,
) -> None:
    """Stream to standard output."""
    try:
        run_into(pieces, checkpoint.source, PipeSink(1), jobs=jobs, progress=progress, found=counts.add)
        check_unchanged(checkpoint)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise stdout_failure(error) from error
