"""Carry a plan out: stream the checkpoint to its new place, and report what was counted on the way."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunecli.errors import OutputError, UsageError
from prunecli.formats.base import Checkpoint
from prunecli.formats.folder import Folder
from prunecli.formats.locations import Url
from prunecli.formats.opening import Opened, confirm
from prunecli.formats.ordered import run_into
from prunecli.formats.outputs import Output, check_output, new_output, write_output
from prunecli.formats.pieces import Piece
from prunecli.formats.remote import RemoteSource
from prunecli.formats.sinks import PipeSink
from prunecli.formats.source import FileSource
from prunecli.formats.stream import default_jobs
from prunecli.surgery.destinations import Destination, Progress, counting
from prunecli.surgery.edits import prepare
from prunecli.surgery.plan import Plan
from prunecli.surgery.report import Place, Report, make_report, render_json
from prunecli.surgery.rewrite_folder import check_folder_destination, rewrite_folder

__all__ = ["check_destination", "rewrite"]


def rewrite(
    checkpoint: Opened,
    plan: Plan,
    destination: Destination,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write the checkpoint that the plan describes, then its report; nothing is begun before both are found writable.

    Raises:
        OutputError: an output exists, cannot be written, or is the input.
        DamagedError: the input's data contradict its checksums.
    """
    if isinstance(checkpoint, Folder):
        return rewrite_folder(checkpoint, plan, destination, jobs=jobs, progress=progress)
    targets = _check_file_destination(checkpoint, destination)
    surgery = prepare(checkpoint, plan)
    pieces = list(checkpoint.pieces(surgery.edit))
    size = sum(piece.length for piece in pieces)
    told = counting(progress, size)
    threads = default_jobs() if jobs is None else jobs
    if targets.output is None:
        _to_stdout(pieces, checkpoint, threads, told)
    else:
        with new_output(targets.output, size) as sink:
            run_into(pieces, checkpoint.source, sink, jobs=threads, progress=told)
            confirm(checkpoint)
    output = Place(None if destination.path is None else str(destination.path), checkpoint.format, size)
    report = make_report(checkpoint, plan, surgery, output)
    if targets.report is not None:
        write_output(targets.report, render_json(report))
    return report


@dataclass(frozen=True, slots=True)
class _Targets:
    """Outputs found fit to be written; None for standard output, and for no report."""

    output: Output | None
    report: Output | None


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
    itself: os.stat_result | Url | None = source.status if isinstance(source, FileSource) else None
    if isinstance(source, RemoteSource):
        itself = source.store.url
    if destination.path is None:
        output = None
    else:
        output = check_output(destination.path, force=destination.force, source=itself)
    if destination.report is None:
        return _Targets(output, None)
    report = check_output(destination.report, force=destination.force, source=itself, option="--report")
    if output is not None and report.final == output.final:
        raise UsageError("the checkpoint and its report would be one file; give --report another name")
    return _Targets(output, report)


def _to_stdout(
    pieces: Sequence[Piece], checkpoint: Checkpoint, jobs: int, progress: Callable[[int], None] | None
) -> None:
    """Stream to standard output."""
    try:
        run_into(pieces, checkpoint.source, PipeSink(1), jobs=jobs, progress=progress)
        confirm(checkpoint)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error
