"""Carry a plan out on a folder of shards: each shard rewritten or carried along, and the folder named at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunecli.errors import PrunecliError, UsageError
from prunecli.formats.base import Edit
from prunecli.formats.commit_folder import FolderTarget, NewFolder, check_folder, new_folder
from prunecli.formats.detect import open_location
from prunecli.formats.folder import Folder, Kept
from prunecli.formats.locations import Location, Url, lies_in
from prunecli.formats.opening import confirm
from prunecli.formats.ordered import run_into
from prunecli.formats.outputs import Output, check_output, write_output
from prunecli.formats.pieces import Copy, Piece
from prunecli.formats.remote_folder import RemoteFolderTarget, check_remote_folder, new_remote_folder
from prunecli.formats.sharded import open_folder
from prunecli.formats.sinks import FileSink, NullSink
from prunecli.formats.source import FileSource
from prunecli.formats.stream import default_jobs, run_pieces
from prunecli.surgery.destinations import Destination, Progress, counting
from prunecli.surgery.edits import Surgery, looks, prepare
from prunecli.surgery.plan import Plan
from prunecli.surgery.report import Place, Report, make_report, render_json

__all__ = ["FolderTargets", "check_folder_destination", "rewrite_folder"]


@dataclass(frozen=True, slots=True)
class FolderTargets:
    """Outputs found fit to be written; no report if None."""

    output: FolderTarget | RemoteFolderTarget
    report: Output | None


def check_folder_destination(folder: Folder, destination: Destination) -> FolderTargets:
    """Look whether the outputs can be written, before anything is.

    Raises:
        OutputError: one exists, is the input, or cannot be written.
        UsageError: a folder was asked for on standard output, or the report would lie in the folder.
    """
    if destination.path is None:
        raise UsageError("a folder of shards cannot be streamed; give -o a path")
    path = destination.path
    replaceable = destination.force and _holds_checkpoint(path)
    output: FolderTarget | RemoteFolderTarget
    if isinstance(path, Url):
        output = check_remote_folder(path, force=destination.force, source=folder.path, replaceable=replaceable)
    else:
        source = None if isinstance(folder.path, Url) else folder.path
        output = check_folder(path, force=destination.force, source=source, replaceable=replaceable)
    if destination.report is None:
        return FolderTargets(output, None)
    if lies_in(destination.report, path):
        raise UsageError("the report would lie in the folder that is written; give --report a place beside it")
    report = check_output(destination.report, force=destination.force, option="--report")
    return FolderTargets(output, report)


def _holds_checkpoint(path: Location) -> bool:
    try:
        with open_folder(path):
            return True
    except PrunecliError:
        return False


def rewrite_folder(
    folder: Folder,
    plan: Plan,
    destination: Destination,
    *,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write the folder that the plan describes, then the report; a file in which nothing changes is carried along.

    Raises:
        OutputError: an output exists, cannot be written, or is the input.
        UsageError: as `check_folder_destination`.
        DamagedError: the input's data contradict its checksums.
    """
    targets = check_folder_destination(folder, destination)
    surgery = prepare(folder, plan)
    work = _divide(folder, plan, surgery)
    threads = default_jobs() if jobs is None else jobs
    total = sum(work.sizes.values())
    told = counting(progress, total)
    closing = folder.closing(surgery.edit)
    kept = [*folder.others, *(Kept(name, folder.path / name, folder.sources[name].size) for name in work.untouched)]
    if isinstance(targets.output, RemoteFolderTarget):
        with new_remote_folder(targets.output) as there:
            for name, pieces in work.pieces.items():
                with there.file(name, work.sizes[name]) as sink:
                    run_into(pieces, folder.sources[name], sink, jobs=threads, progress=told)
            run_pieces(work.looks, folder.source, NullSink(), jobs=threads)
            for each in kept:
                there.keep(each.name, each.path, each.size)
            for name, data in closing.items():
                there.write(name, data)
            confirm(folder)
    else:
        with new_folder(targets.output, total + sum(map(len, closing.values()))) as made:
            for name, pieces in work.pieces.items():
                source = folder.sources[name]
                mode = source.status.st_mode & 0o777 if isinstance(source, FileSource) else None
                with made.file(name, work.sizes[name], mode) as descriptor:
                    run_pieces(pieces, source, FileSink(descriptor), jobs=threads, progress=told)
            run_pieces(work.looks, folder.source, NullSink(), jobs=threads)
            for each in kept:
                _keep_here(made, each, threads)
            for name, data in closing.items():  # last, so that a folder without them is seen to be none
                made.write(name, data)
            confirm(folder)
    size = total + sum(folder.sources[name].size for name in work.untouched)
    report = make_report(folder, plan, surgery, Place(str(destination.path), folder.format, size))
    if targets.report is not None:
        write_output(targets.report, render_json(report))
    return report


def _keep_here(made: NewFolder, kept: Kept, jobs: int) -> None:
    """Carry a file along into a folder on this machine, from wherever it lies."""
    if not isinstance(kept.path, Url):
        made.keep(kept.name, kept.path)
        return
    with open_location(kept.path) as source, made.file(kept.name, source.size) as descriptor:
        run_pieces([Copy(0, source.size)], source, FileSink(descriptor), jobs=jobs)
        source.confirm()


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be done: pieces and size of each file that changes, the others, and what to count in those."""

    pieces: Mapping[str, Sequence[Piece]]
    sizes: Mapping[str, int]
    untouched: Sequence[str]
    looks: Sequence[Copy]


def _divide(folder: Folder, plan: Plan, surgery: Surgery) -> _Work:
    planned = [each.parameter for each in plan.planned.values()]
    changed = [tensor for each in planned for tensor in (each.weight, each.mask) if tensor is not None]
    touched = {folder.file_of(tensor.storage.key) for tensor in changed}
    pieces = {name: list(folder.pieces(name, surgery.edit)) for name in folder.sources if name in touched}
    elsewhere = {key: each for key, each in surgery.edit.patches.items() if folder.file_of(key) not in touched}
    return _Work(
        pieces,
        {name: sum(piece.length for piece in found) for name, found in pieces.items()},
        [name for name in folder.sources if name not in touched],
        looks(Edit(elsewhere), folder.tensors.values()),
    )
