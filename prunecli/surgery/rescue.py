"""Unpack checkpoints with sparse tensors (`sparse-bitmask`): no library reads them any more."""

from collections.abc import Iterator
from contextlib import ExitStack

from prunecli.errors import UnreadableError, UnsupportedError
from prunecli.formats.base import AnyCheckpoint, Edit, PassthroughFile, ReadOptions
from prunecli.formats.detect import open_location, read_checkpoint
from prunecli.formats.io.locations import Location, permissions
from prunecli.formats.io.ordered import run_into
from prunecli.formats.io.pieces import Copy, Literal, Piece, WholeBlocks
from prunecli.formats.io.source import Source
from prunecli.formats.opening import check_unchanged, open_any
from prunecli.formats.outputs.base import Output, OutputContents, OutputFile
from prunecli.formats.outputs.output import StandardOutput, check_checkpoint_output
from prunecli.formats.packed.bitmask_config import CONFIG, LARGEST, without_sparsity
from prunecli.formats.packed.bitmask_source import DenseSource
from prunecli.formats.safetensors.read import looks_like_safetensors
from prunecli.surgery.listing import Listener
from prunecli.surgery.packing import PackedFile
from prunecli.surgery.run.options import Run

__all__ = ["rescue_file", "rescue_folder"]

_READING = ReadOptions(read_only=True)


def rescue_file(
    source: Source, output: Location | None, run: Run, listener: Listener, *, force: bool, dry_run: bool
) -> PackedFile | None:
    """Write the dense file that a safetensors file with sparse tensors makes; return None if it has none.

    An `output` of None is standard output.

    Raises:
        DamagedError: the sparse tensors contradict themselves; nothing is written then.
        PrunecliError: as `check_checkpoint_output`.
        OutputError: it was not written; an earlier file with its name is unchanged.
    """
    if not looks_like_safetensors(source.read(0, min(source.size, 9))):
        return None
    return _rescue(read_checkpoint(source), output, run, listener, force=force, dry_run=dry_run)


def rescue_folder(
    location: Location, output: Location | None, run: Run, listener: Listener, *, force: bool, dry_run: bool
) -> PackedFile | None:
    """Write the dense folder that a folder with sparse tensors makes; return None if it has none.

    Raises:
        PrunecliError: as `rescue_file`.
    """
    with ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(open_any(location, _READING))
        except (UnreadableError, UnsupportedError):  # it is not a checkpoint: the caller says what is expected
            return None
        return _rescue(checkpoint, output, run, listener, force=force, dry_run=dry_run)


def _rescue(
    checkpoint: AnyCheckpoint, output: Location | None, run: Run, listener: Listener, *, force: bool, dry_run: bool
) -> PackedFile | None:
    dense = [source for source in checkpoint.sources.values() if isinstance(source, DenseSource)]
    if not dense:
        return None
    target = StandardOutput() if dry_run else check_checkpoint_output(checkpoint, output, force=force)
    for each in dense:
        each.check_sparse()
    contents = _contents(checkpoint)
    if not dry_run:
        with listener.progress(checkpoint.source.label) as ticks:
            _write(checkpoint, contents, target, Run(run.jobs, ticks))
    before = sum(each.base.size for each in dense) + sum(each.size for each in contents.passthrough)
    tensors = sum(len(each.sparse) for each in dense)
    return PackedFile(None if output is None else str(output), before, contents.bytes, 0, tensors)


def _write(checkpoint: AnyCheckpoint, contents: OutputContents, target: Output, run: Run) -> None:
    transfer = run.transfer(contents.bytes)
    with target.begin(contents, transfer) as writer:
        for file in contents.files:
            with writer.sink(file) as sink:
                run_into(file.pieces, file.source, sink, jobs=transfer.threads, progress=transfer.progress)
        for each in contents.passthrough:
            writer.keep(each)
        check_unchanged(checkpoint)


def _contents(checkpoint: AnyCheckpoint) -> OutputContents:
    """Describe the dense checkpoint. Files without sparse tensors are carried along, and so are all others."""
    folder = checkpoint.path if checkpoint.is_folder else None
    files: list[OutputFile] = []
    passthrough: list[PassthroughFile] = []
    for name, source in checkpoint.sources.items():
        if isinstance(source, DenseSource):
            files.append(OutputFile(name, list(_pieces(source)), source, mode=source.mode))
        elif folder is not None:
            passthrough.append(PassthroughFile(name, folder / name, source.size))
    for each in checkpoint.passthrough:
        config = _dense_config(each)
        if config is None:
            passthrough.append(each)
        else:
            files.append(OutputFile(each.name, [Literal(config)], checkpoint.source, mode=permissions(each.path)))
    for name, data in checkpoint.closing(Edit()).items():
        mode = None if folder is None else permissions(folder / name)
        files.append(OutputFile(name, [Literal(data)], checkpoint.source, mode=mode, closing=True))
    return OutputContents(files, passthrough)


def _dense_config(file: PassthroughFile) -> bytes | None:
    """Return a configuration without the entry about sparse tensors; None if it has none, or is another file."""
    if file.name != CONFIG or file.size > LARGEST:
        return None
    with open_location(file.path) as source:
        raw = source.read(0, source.size)
        found = without_sparsity(raw, source.label)
    return None if found == raw else found


def _pieces(source: DenseSource) -> Iterator[Piece]:
    """Yield the pieces of a dense file over its source; sparse tensors are cut into the blocks that are decoded."""
    at = 0
    for run in source.runs:
        if run.tensor is not None and run.size:
            if run.start > at:
                yield Copy(at, run.start - at)
            yield Copy(run.start, run.size, WholeBlocks(run.tensor.block))
            at = run.start + run.size
    if source.size > at:
        yield Copy(at, source.size - at)
