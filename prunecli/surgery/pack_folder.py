"""Pack the files of a folder into another folder, one by one, and unpack them.

No file of a packed folder has a name that loaders look for (`config.json`, `model.safetensors`): a loader refuses it.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prunecli.core.drawn_mask import DrawnRound
from prunecli.errors import UsageError, raised_in, show
from prunecli.formats.base import AnyCheckpoint, PassthroughFile
from prunecli.formats.detect import open_location
from prunecli.formats.folders.files import list_files
from prunecli.formats.io.locations import Location
from prunecli.formats.io.sinks import FileSink, NullSink, Sink
from prunecli.formats.io.source import Source
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.opening import holds_checkpoint, open_any_folder
from prunecli.formats.outputs.file import finish, output_errors
from prunecli.formats.outputs.folder import LocalFolder, check_folder
from prunecli.formats.outputs.resumable import partial_of, partial_output
from prunecli.formats.packed.names import SUFFIX, original_name
from prunecli.formats.packed.write import PackedTensor, pack_into
from prunecli.surgery.listing import Listener
from prunecli.surgery.pack import (
    PackedFile,
    PackOptions,
    check_options,
    check_reports,
    is_local_folder,
    layout_of,
    pack_file,
    recorded_rounds,
    result_of,
    storages_of,
)
from prunecli.surgery.rescue import rescue_folder
from prunecli.surgery.run.options import Run
from prunecli.surgery.unpack import open_packed, unpack_file, unpacking_pieces

__all__ = ["pack_checkpoint", "unpack_checkpoint"]


def pack_checkpoint(
    location: Location | None, options: PackOptions, output: Location | None, run: Run, listener: Listener
) -> PackedFile:
    """Pack a checkpoint, in a file or in a folder on this machine; an `output` of None is standard output.

    Raises:
        UsageError: a folder would be streamed or is empty; or as `pack_file`.
        PrunecliError: as `pack_file` and `open_any_folder`.
    """
    if not isinstance(location, Path) or not is_local_folder(location):
        return pack_file(location, options, output, run, listener)
    check_options(options, run)
    files = _files(location)
    if _is_packed_folder(location):
        raise UsageError(f"{show(location)} is packed already; unpack it first")
    with open_any_folder(location, options.reading) as checkpoint:
        tensors = _tensors(checkpoint, files, recorded_rounds(checkpoint, location, options, listener))
        progress = listener.progress(checkpoint.source.label)
    target = None if options.dry_run else _target(location, output, options.force, _is_packed_folder)
    with progress as ticks, _writer(target) as new:
        transfer = Run(run.jobs, ticks).transfer(sum(each.size for each in files.values()))
        results = []
        for name, file in files.items():
            with open_location(file.path) as source, new(name + SUFFIX, source) as sink:
                own, verify = tensors.get(name, []), options.verify
                packed = pack_into(
                    source, own, sink, options.codec, transfer.threads, verify=verify, progress=transfer.progress
                )
            results.append(result_of(packed.size, packed.directory, None))
        result = _sum(output, results)
        check_reports(options, result)
    links = sum(isinstance(file.path, Path) and file.path.is_symlink() for file in files.values())
    if links:
        listener.note(f"{links:,} links are packed as the files that they lead to")
    return result


def _tensors(
    checkpoint: AnyCheckpoint, files: Mapping[str, PassthroughFile], rounds: Mapping[str, tuple[DrawnRound, ...]]
) -> dict[str, list[PackedTensor]]:
    """Return the tensors of each file; the storages of a folder lie in all of its sources, one after the other."""
    found: dict[str, list[PackedTensor]] = {}
    start, storages = 0, sorted(storages_of(checkpoint), key=lambda each: each[0].offset)
    offsets = [storage.offset for storage, _ in storages]
    for name, source in checkpoint.sources.items():
        stop = start + source.size
        inside = storages[bisect_left(offsets, start) : bisect_left(offsets, stop)]
        if name in files and source.size == files[name].size:  # records that are compressed make it another file
            places = ((storage.offset - start, storage, dtype) for storage, dtype in inside)
            found[name] = layout_of(places, source.size, rounds)
        start = stop
    return found


def unpack_checkpoint(
    location: Location | None,
    output: Location | None,
    run: Run,
    listener: Listener,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> PackedFile:
    """Write what was packed, a file or a folder on this machine; an `output` of None is standard output.

    Raises:
        UsageError: it is not packed, or a folder would be streamed.
        PrunecliError: as `unpack_file`.
    """
    if not isinstance(location, Path) or not is_local_folder(location):
        return unpack_file(location, output, run, listener, force=force, dry_run=dry_run)
    files = _files(location)
    if not _is_packed_folder(location):
        rescued = rescue_folder(location, output, run, listener, force=force, dry_run=dry_run)
        if rescued is not None:
            return rescued
    names = {name: _original(location, name) for name in files}
    target = None if dry_run else _target(location, output, force, holds_checkpoint)
    results = []
    with listener.progress(show(location)) as ticks, _writer(target) as new:
        transfer = Run(run.jobs, ticks).transfer(sum(each.size for each in files.values()))
        for name, file in files.items():
            with open_packed(file.path) as packed:
                if not dry_run:
                    with raised_in(packed.label), new(names[name], packed) as sink:
                        run_pieces(unpacking_pieces(packed), packed, sink, jobs=transfer.threads)
                transfer.count(file.size)
                results.append(result_of(packed.base.size, packed.directory, None))
    return _sum(output, results)


def _files(folder: Path) -> Mapping[str, PassthroughFile]:
    files = {each.name: each for each in list_files(folder)}
    if not files:
        raise UsageError(f"{show(folder)} contains no files")
    return files


def _original(folder: Path, name: str) -> str:
    """Return the name of the original of a file in a packed folder."""
    parent, slash, last = name.rpartition("/")
    found = original_name(last)
    if found is None:
        raise UsageError(
            f"{show(folder)} contains {show(name)}, which is not packed; unpack the files that end with {SUFFIX} alone"
        )
    return parent + slash + found


def _is_packed_folder(location: Location) -> bool:
    """Whether all files in a folder are packed: only then is it replaced by another packed folder."""
    return isinstance(location, Path) and all(each.name.endswith(SUFFIX) for each in list_files(location))


def _target(source: Path, output: Location | None, force: bool, replaceable: Callable[[Location], bool]) -> LocalFolder:
    if not isinstance(output, Path):
        raise UsageError("a folder is packed and unpacked on this machine only; name a folder here as the output")
    may = force and is_local_folder(output) and replaceable(output)
    return check_folder(output, force=force, source=source, replaceable=may)


@contextmanager
def _writer(target: LocalFolder | None) -> Iterator[Callable[[str, Source], "_NewFile"]]:
    """Yield a function that begins a file of the output; all files appear together at the end, or none does."""
    if target is None:
        yield lambda name, source: _NewFile(None, None)
        return
    with (
        output_errors(target.path, partial_of(target.final).root),
        partial_output(target.final, target.path, keep=False) as partial,
    ):
        partial.begin({})
        yield lambda name, source: _NewFile(partial.path_of(name), source.mode)
        target.publish(partial.output)


class _NewFile:
    """A new file of a folder, synced at the end; without a place, nothing is written."""

    def __init__(self, place: Path | None, mode: int | None) -> None:
        self._place, self._mode, self._descriptor = place, mode, -1

    def __enter__(self) -> Sink:
        if self._place is None:
            return NullSink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._place, flags, 0o600)
        return FileSink(self._descriptor)

    def __exit__(self, kind: object, *_: object) -> None:
        if self._descriptor < 0:
            return
        try:
            if kind is None:
                finish(self._descriptor, self._mode)
        finally:
            os.close(self._descriptor)


def _sum(output: Location | None, results: Iterable[PackedFile]) -> PackedFile:
    rows = [(each.bytes, each.original_bytes, each.drawn, each.stored) for each in results]
    return PackedFile(None if output is None else str(output), *map(sum, zip(*rows, strict=True)))
