"""Unpack a packed file: write the original again, to the byte."""

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.errors import UsageError, raised_in, show
from prunecli.formats.base import ONLY_FILE
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location
from prunecli.formats.io.ordered import run_into
from prunecli.formats.io.pieces import Checksum, Copy, Outcome, Piece, WholeBlocks
from prunecli.formats.io.source import Source
from prunecli.formats.outputs.base import OutputContents, OutputFile, SingleFileOutput
from prunecli.formats.outputs.output import StandardOutput, check_output
from prunecli.formats.outputs.permissions import with_mode_of
from prunecli.formats.packed.names import FOLDER_SUFFIX, SUFFIX, is_packed, original_name
from prunecli.formats.packed.source import PackedSource, unpacked_source
from prunecli.formats.safetensors.read import looks_like_safetensors, read_safetensors
from prunecli.surgery.listing import Listener
from prunecli.surgery.packing import PackedFile, check_one_process, is_folder, result_of
from prunecli.surgery.places import beside, output_location
from prunecli.surgery.rescue import rescue_file
from prunecli.surgery.run.destination import default_output
from prunecli.surgery.run.options import Run
from prunecli.terms import OUTPUT

__all__ = ["unpack_file", "unpacked_location", "unpacking_pieces"]


def unpacked_location(source: Location | None, output: str | None) -> Location:
    """Return where the original goes: next to the packed file, by the name of the packed file, unless given.

    Raises:
        UsageError: the packed file has no name to derive one from.
        OutputError: as `output_location`.
    """
    if output is not None:
        return output_location(output, OUTPUT)
    if source is None:
        raise UsageError(f"a packed file from standard input needs a name for the output; give {OUTPUT} a path, or -")
    suffix = FOLDER_SUFFIX if is_folder(source) else SUFFIX
    if original_name(source.name, suffix) is None:
        raise UsageError(f"{show(source)} does not end with {suffix}; name the output with {OUTPUT}")
    return beside(source, _original_name)


def _original_name(source: Location) -> Location:
    default_output(source, "apply")  # refuses URLs to which nothing is written by default
    suffix = FOLDER_SUFFIX if is_folder(source) else SUFFIX
    return source.with_name(original_name(source.name, suffix) or source.name)


def _read_packed(source: Source) -> PackedSource | None:
    if not looks_like_safetensors(source.read(0, min(source.size, 9))):
        return None
    found = read_safetensors(source)
    return unpacked_source(source, found.tensors) if is_packed(found.metadata) else None


class _Decoded(WholeBlocks):
    """The content of a tensor, whose source checks the CRC-32 of each block: it needs no second sum for the whole."""

    __slots__ = ("_crcs", "_first")

    def __init__(self, block: int, crcs: NDArray[np.uint32], first: int) -> None:
        super().__init__(block)
        self._crcs, self._first = crcs, first

    def fill(self, data: NDArray[np.uint8], start: int, workspace: None) -> Outcome:
        """Leave the bytes as they are."""
        return Outcome(False, crc=int(self._crcs[self._first + start // self.block]))


def unpacking_pieces(packed: PackedSource) -> list[Piece]:
    """Return the pieces of the original over the source that decodes it, with a check of the whole."""
    directory = packed.directory
    whole = Checksum(packed.size, directory.crc, f"what {packed.label} was packed from")
    crcs = directory.columns["crc"]
    pieces: list[Piece] = []
    at = 0
    columns = (directory.starts, directory.nbytes, directory.columns["width"], directory.first_blocks[:-2])
    for start, size, width, first in zip(*(each.tolist() for each in columns), strict=True):
        if start > at:
            pieces.append(Copy(at, start - at, None, whole, None, at))
        pieces.append(Copy(start, size, _Decoded(BLOCK * width, crcs, first), whole, None, start))
        at = start + size
    if packed.size > at:
        pieces.append(Copy(at, packed.size - at, None, whole, None, at))
    return pieces


def unpack_file(
    location: Location | None,
    output: Location | None,
    run: Run,
    listener: Listener,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> PackedFile:
    """Write the original of a packed file; an `output` of None is standard output.

    Of a file with sparse tensors (`sparse-bitmask`), the dense file is written.

    Raises:
        UsageError: it is not a packed file.
        DamagedError: a block, or the whole, is not what was packed.
        OutputError: it was not written; an earlier file with its name is unchanged.
    """
    check_one_process(run)
    with open_location(location) as source:
        packed = _read_packed(source)
        if packed is None:
            rescued = rescue_file(source, output, run, listener, force=force, dry_run=dry_run)
            if rescued is None:
                raise UsageError(f"{source.label} is not a packed file; 'prunecli pack' makes one")
            return rescued
        target: SingleFileOutput = StandardOutput()
        if output is not None:
            target = with_mode_of(check_output(output, force=force, source=packed.base), packed.mode)
        if not dry_run:
            _write(packed, target, run, listener)
        return result_of(packed.base.size, packed.directory, output)


def _write(packed: PackedSource, target: SingleFileOutput, run: Run, listener: Listener) -> None:
    file = OutputFile(ONLY_FILE, unpacking_pieces(packed), packed)
    contents = OutputContents([file])
    with listener.progress(packed.label) as ticks, raised_in(packed.label):
        transfer = Run(run.jobs, ticks).transfer(packed.size)
        with target.begin(contents, transfer) as writer, writer.sink(file) as sink:
            run_into(file.pieces, packed, sink, jobs=transfer.threads, progress=transfer.progress)
            packed.check_unchanged()
