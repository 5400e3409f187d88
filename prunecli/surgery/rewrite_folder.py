"""Carry a plan out on a folder of shards: each shard rewritten or carried along, and the folder named at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prunecli.errors import UsageError, show
from prunecli.formats.base import Edit, PassthroughFile, Patch, TensorInfo
from prunecli.formats.folders.base import Folder
from prunecli.formats.io.locations import Url, lies_in
from prunecli.formats.io.ordered import run_into
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.source import FileSource
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.opening import check_unchanged, holds_checkpoint
from prunecli.formats.outputs.file import sync_path
from prunecli.formats.outputs.folder import FolderTarget, check_folder, publish_folder
from prunecli.formats.outputs.output import Output, check_output
from prunecli.formats.outputs.remote_folder import RemoteFolderTarget, check_remote_folder, new_remote_folder
from prunecli.formats.outputs.resumable import Partial
from prunecli.formats.outputs.temp_files import umask
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.replay import check_masks
from prunecli.surgery.report.codec import write_report
from prunecli.surgery.report.model import CheckpointRef, Report
from prunecli.surgery.run.destination import Destination, cumulative
from prunecli.surgery.run.edit import PreparedEdit, build_edit, read_only_pieces
from prunecli.surgery.run.resume import RewriteJob, Run, carry_out
from prunecli.surgery.run.units import OutputFile
from prunecli.terms import LINK, OUTPUT, REPORT

__all__ = [
    "REMOTE_NOT_RESUMABLE",
    "FolderTargets",
    "check_folder_destination",
    "in_units",
    "rehearse_folder",
    "rewrite_folder",
]

REMOTE_NOT_RESUMABLE = (
    "{} can neither be resumed nor spread over ranks, being behind a URL; write to this machine, then copy it there"
)
"""Why some runs are refused."""


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
        raise UsageError(f"a folder of shards cannot be streamed; give {OUTPUT} a path")
    path = destination.path
    replaceable = destination.force and holds_checkpoint(path)
    output: FolderTarget | RemoteFolderTarget
    if isinstance(path, Url):
        output = check_remote_folder(path, force=destination.force, source=folder.path, replaceable=replaceable)
    else:
        source = None if isinstance(folder.path, Url) else folder.path
        output = check_folder(path, force=destination.force, source=source, replaceable=replaceable)
    if destination.report is None:
        return FolderTargets(output, None)
    if lies_in(destination.report, path):
        raise UsageError(f"the report would lie in the folder that is written; give {REPORT} a place beside it")
    return FolderTargets(output, check_output(destination.report, force=destination.force, option=REPORT))


def in_units(run: Run) -> bool:
    """Whether a run is done in units that are written here, since it can be resumed or is spread over ranks."""
    return run.keep or run.ranks.size > 1


def rehearse_folder(folder: Folder, plan: Plan, destination: Destination, run: Run) -> None:
    """Look whether `rewrite_folder` could begin.

    Raises:
        UnsupportedError: a file of the folder does not take the edit.
        OutputError: as `check_folder_destination`.
        UsageError: as `check_folder_destination`, or the output is none that can be resumed or spread over ranks.
    """
    _check(folder, destination, run)
    _divide(folder, plan, build_edit(folder, plan))


def _check(folder: Folder, destination: Destination, run: Run) -> FolderTargets:
    targets = check_folder_destination(folder, destination)
    if in_units(run) and isinstance(targets.output, RemoteFolderTarget):
        raise UsageError(REMOTE_NOT_RESUMABLE.format(show(targets.output.final)))
    if run.link and isinstance(targets.output, RemoteFolderTarget):
        raise UsageError(f"{show(targets.output.final)} takes no hard links, being behind a URL; leave {LINK} out")
    return targets


def rewrite_folder(folder: Folder, plan: Plan, destination: Destination, run: Run) -> Report:
    """Write the folder that the plan describes, then the report; a file in which nothing changes is carried along.

    Raises:
        OutputError: an output exists, cannot be written, or is the input; or as `rewrite_units.carry_out`.
        UsageError: as `check_folder_destination`.
        DamagedError: the input's data contradict its checksums.
    """
    targets = run.ranks.from_leader(lambda: _check(folder, destination, run))
    surgery = build_edit(folder, plan)
    counts = surgery.new_counts()
    works = _divide(folder, plan, surgery)
    closing = folder.closing(surgery.edit)
    untouched = [work.name for work in works if not work.written]
    kept = [
        *folder.passthrough,
        *(PassthroughFile(name, folder.path / name, folder.sources[name].size) for name in untouched),
    ]
    size = sum(work.size for work in works if work.written) + sum(folder.sources[name].size for name in untouched)
    place = CheckpointRef(str(destination.path), folder.format, size)
    target = targets.output
    if isinstance(target, RemoteFolderTarget):
        _send(folder, works, kept, closing, target, run, counts, lambda: check_masks(plan, counts))
    else:

        def finish(partial: Partial) -> None:
            check_masks(plan, counts)
            for name, data in closing.items():
                (partial.output / name).write_bytes(data)
                if not isinstance(folder.path, Url):
                    (partial.output / name).chmod((folder.path / name).stat().st_mode & 0o777)
                sync_path(partial.output / name)
            check_unchanged(folder)
            publish_folder(partial.output, target)

        carry_out(RewriteJob(folder, plan, counts, works, target.final, target.path, kept), run, finish)
    return run.ranks.from_leader(lambda: write_report(folder, plan, counts, place, targets.report))


def _send(
    folder: Folder,
    works: Sequence[OutputFile],
    kept: Sequence[PassthroughFile],
    closing: Mapping[str, bytes],
    target: RemoteFolderTarget,
    run: Run,
    counts: Counts,
    check: Callable[[], None],
) -> None:
    """Make a folder behind a URL; it gets no index unless the `check` passes."""
    told = cumulative(run.progress, sum(work.size for work in works))
    with new_remote_folder(target) as made:
        for work in works:
            if work.written:
                with made.file(work.name, work.size) as sink:
                    run_into(work.pieces, work.source, sink, jobs=run.threads, progress=told, found=counts.add)
            else:
                run_pieces(work.pieces, work.source, NullSink(), jobs=run.threads, progress=told, found=counts.add)
        for each in kept:
            made.keep(each.name, each.path)
        check()
        for name, data in closing.items():
            made.write(name, data)
        check_unchanged(folder)


def _divide(folder: Folder, plan: Plan, surgery: PreparedEdit) -> list[OutputFile]:
    """Describe each file of tensors: anew if something in it changes, else what there is to count in it."""
    planned = [each.parameter for each in plan.planned.values()]
    changed = [tensor for each in planned for tensor in (each.weight, each.mask) if tensor is not None]
    changed += [tensor for own in plan.state.values() for tensor in own]
    touched = {folder.file_of(storage.key) for tensor in changed for storage in tensor.storages}
    patches: dict[str, dict[str, Sequence[Patch]]] = {name: {} for name in folder.sources}
    for key, found in surgery.edit.patches.items():
        patches[folder.file_of(key)][key] = found
    tensors: dict[str, list[TensorInfo]] = {name: [] for name in folder.sources}
    for tensor in folder.tensors.values():
        for storage in tensor.storages:
            tensors[folder.file_of(storage.key)].append(tensor)
    works = []
    for name, source in folder.sources.items():
        if name in touched:
            mode = source.status.st_mode & 0o777 if isinstance(source, FileSource) else 0o666 & ~umask()
            works.append(
                OutputFile(name, list(folder.file_pieces(name, surgery.edit)), source, written=True, mode=mode)
            )
        else:
            works.append(
                OutputFile(name, read_only_pieces(Edit(patches[name]), tensors[name]), folder.source, written=False)
            )
    return works
