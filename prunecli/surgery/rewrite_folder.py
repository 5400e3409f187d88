"""Carry a plan out on a folder of shards: each shard rewritten or carried along, and the folder named at the end."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prunecli.errors import PrunecliError, UsageError
from prunecli.formats.base import Edit, Patch, Reading, TensorInfo
from prunecli.formats.commit import Target, check_target, write_small
from prunecli.formats.commit_folder import FolderTarget, check_folder, publish_folder
from prunecli.formats.folder import Folder
from prunecli.formats.opening import open_any_folder
from prunecli.formats.partial import Partial
from prunecli.formats.source import FileSource
from prunecli.formats.temp_files import umask
from prunecli.surgery.destinations import Destination
from prunecli.surgery.edits import Surgery, looks, prepare
from prunecli.surgery.plan import Plan
from prunecli.surgery.report import Place, Report, make_report, render_json
from prunecli.surgery.rewrite_units import Order, Run, carry_out
from prunecli.surgery.units import Work

__all__ = ["FolderTargets", "check_folder_destination", "rewrite_folder"]


@dataclass(frozen=True, slots=True)
class FolderTargets:
    """Outputs found fit to be written; no report if None."""

    output: FolderTarget
    report: Target | None


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
    output = check_folder(path, force=destination.force, source=folder.path, replaceable=replaceable)
    if destination.report is None:
        return FolderTargets(output, None)
    if Path(os.path.realpath(destination.report)).is_relative_to(output.final):
        raise UsageError("the report would lie in the folder that is written; give --report a place beside it")
    return FolderTargets(output, check_target(destination.report, force=destination.force, option="--report"))


def _holds_checkpoint(path: Path) -> bool:
    try:
        with open_any_folder(path, Reading(foreign=True)):
            return True
    except PrunecliError:
        return False


def rewrite_folder(folder: Folder, plan: Plan, destination: Destination, run: Run) -> Report:
    """Write the folder that the plan describes, then the report; a file in which nothing changes is carried along.

    Raises:
        OutputError: an output exists, cannot be written, or is the input; or as `rewrite_units.carry_out`.
        UsageError: as `check_folder_destination`.
        DamagedError: the input's data contradict its checksums.
    """
    targets = run.team.share(lambda: check_folder_destination(folder, destination))
    surgery = prepare(folder, plan)
    works = _divide(folder, plan, surgery)
    closing = folder.closing(surgery.edit)
    untouched = [work.name for work in works if not work.written]
    carried = [(other.name, other.path) for other in folder.others]
    carried += [(name, folder.path / name) for name in untouched]

    def finish(partial: Partial) -> None:
        for name, data in closing.items():
            (partial.output / name).write_bytes(data)
            (partial.output / name).chmod((folder.path / name).stat().st_mode & 0o777)
        publish_folder(partial.output, targets.output)

    order = Order(folder, plan, surgery, works, targets.output.final, targets.output.path, carried)
    carry_out(order, run, finish)
    size = sum(work.size for work in works if work.written) + sum(folder.sources[name].size for name in untouched)
    return run.team.share(lambda: _report(order, Place(str(destination.path), folder.format, size), targets.report))


def _report(order: Order, output: Place, target: Target | None) -> Report:
    report = make_report(order.checkpoint, order.plan, order.surgery, output)
    if target is not None:
        write_small(target, render_json(report))
    return report


def _divide(folder: Folder, plan: Plan, surgery: Surgery) -> list[Work]:
    """Describe each file of tensors: anew if something in it changes, else what there is to count in it."""
    planned = [each.parameter for each in plan.planned.values()]
    changed = [tensor for each in planned for tensor in (each.weight, each.mask) if tensor is not None]
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
            works.append(Work(name, list(folder.pieces(name, surgery.edit)), source, written=True, mode=mode))
        else:
            works.append(Work(name, looks(Edit(patches[name]), tensors[name]), folder.source, written=False))
    return works
