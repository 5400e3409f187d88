"""Carry a plan out: stream the checkpoint to its new place, and report what was counted on the way."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunecli.errors import OutputError, UsageError
from prunecli.formats.base import Checkpoint
from prunecli.formats.commit import Target, check_target, new_file, publish_file, write_small
from prunecli.formats.folder import Folder
from prunecli.formats.opening import Opened
from prunecli.formats.pieces import Copy, Deferred, Fresh, Piece
from prunecli.formats.sinks import FileSink, PipeSink
from prunecli.formats.source import FileSource, Source
from prunecli.formats.stream import run_pieces
from prunecli.surgery.destinations import Destination, counting
from prunecli.surgery.edits import Surgery, prepare
from prunecli.surgery.plan import Plan
from prunecli.surgery.report import Place, Report, make_report, render_json
from prunecli.surgery.rewrite_folder import check_folder_destination, rewrite_folder
from prunecli.surgery.rewrite_units import Order, Run, carry_out, unfinished_seed
from prunecli.surgery.units import Work

__all__ = ["check_destination", "rewrite", "unfinished"]


def rewrite(checkpoint: Opened, plan: Plan, destination: Destination, run: Run | None = None) -> Report:
    """Write the checkpoint that the plan describes, then its report; nothing is begun before both are found writable.

    Raises:
        OutputError: an output exists, cannot be written, or is the input; or as `rewrite_units.carry_out`.
        UsageError: standard output cannot be resumed, or written by several ranks.
        DamagedError: the input's data contradict its checksums.
    """
    run = run or Run()
    if isinstance(checkpoint, Folder):
        return rewrite_folder(checkpoint, plan, destination, run)
    targets = run.team.share(lambda: _check_file_destination(checkpoint, destination))
    surgery = prepare(checkpoint, plan)
    pieces = list(checkpoint.pieces(surgery.edit))
    if run.keep or run.team.size > 1:
        _in_units(checkpoint, plan, surgery, pieces, targets.output, run)
    else:
        _in_one_go(checkpoint.source, pieces, targets.output, run)
    size = sum(piece.length for piece in pieces)
    output = Place(None if destination.path is None else str(destination.path), checkpoint.format, size)

    def report() -> Report:
        made = make_report(checkpoint, plan, surgery, output)
        if targets.report is not None:
            write_small(targets.report, render_json(made))
        return made

    return run.team.share(report)


def _in_one_go(source: Source, pieces: Sequence[Piece], target: Target | None, run: Run) -> None:
    size = sum(piece.length for piece in pieces)
    told = counting(run.progress, size)
    if target is None:
        _to_stdout(pieces, source, size, run.threads, told)
    else:
        with new_file(target, size) as descriptor:
            run_pieces(pieces, source, FileSink(descriptor), jobs=run.threads, progress=told)


def _in_units(
    checkpoint: Checkpoint, plan: Plan, surgery: Surgery, pieces: Sequence[Piece], target: Target | None, run: Run
) -> None:
    if target is None or checkpoint.source.name is None:
        raise UsageError("a stream can neither be resumed nor spread over ranks; name files, with -o as well")
    work = Work(target.final.name, pieces, checkpoint.source, written=True)
    order = Order(checkpoint, plan, surgery, [work], target.final, target.path)
    carry_out(order, run, lambda partial: publish_file(partial.output / work.name, target))


def unfinished(checkpoint: Opened, destination: Destination) -> int | None:
    """Return the seed of an unfinished output that can be resumed, None if there is none.

    Raises:
        PrunecliError: as `check_destination`.
    """
    if isinstance(checkpoint, Folder):
        return unfinished_seed(check_folder_destination(checkpoint, destination).output.final)
    target = _check_file_destination(checkpoint, destination).output
    return None if target is None else unfinished_seed(target.final)


@dataclass(frozen=True, slots=True)
class _Targets:
    """Outputs found fit to be written; None for standard output, and for no report."""

    output: Target | None
    report: Target | None


def check_destination(checkpoint: Opened, destination: Destination) -> None:
    """Look whether the outputs can be written, before anything is.

    Raises:
        OutputError: one exists, is the input, or cannot be written.
        UsageError: both would be one file, or a folder was asked for on standard output.
    """
    if isinstance(checkpoint, Folder):
        check_folder_destination(checkpoint, destination)
    else:
        _check_file_destination(checkpoint, destination)


def _check_file_destination(checkpoint: Checkpoint, destination: Destination) -> _Targets:
    source = checkpoint.source
    status = source.status if isinstance(source, FileSource) else None
    if destination.path is None:
        output = None
    else:
        output = check_target(destination.path, force=destination.force, source=status)
    if destination.report is None:
        return _Targets(output, None)
    report = check_target(destination.report, force=destination.force, source=status, option="--report")
    if output is not None and report.final == output.final:
        raise UsageError("the checkpoint and its report would be one file; give --report another name")
    return _Targets(output, report)


def _to_stdout(
    pieces: Sequence[Piece], source: Source, size: int, jobs: int, progress: Callable[[int], None] | None
) -> None:
    """Stream to standard output; through an unnamed temporary file if a checksum must stand before what it sums."""
    try:
        if _in_order(pieces):
            run_pieces(pieces, source, PipeSink(1), jobs=jobs, progress=progress)
            return
        with tempfile.TemporaryFile(prefix="prunecli-") as spool:
            run_pieces(pieces, source, FileSink(spool.fileno()), jobs=jobs, progress=progress)
            sink, at = PipeSink(1), 0
            while at < size:
                block = os.pread(spool.fileno(), 1 << 20, at)
                sink.write(memoryview(block), at)
                at += len(block)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def _in_order(pieces: Sequence[Piece]) -> bool:
    """Whether everything that depends on a checksum comes behind all that it sums."""
    last: dict[int, int] = {}
    for index, piece in enumerate(pieces):
        if isinstance(piece, Copy | Fresh) and piece.after is not None and piece.length:
            last[id(piece.after)] = index
    return all(
        last.get(id(checksum), -1) < index
        for index, piece in enumerate(pieces)
        if isinstance(piece, Deferred)
        for checksum in piece.needs
    )
