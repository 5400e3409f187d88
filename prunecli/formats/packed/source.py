"""The original of a packed file as a source: readers of every format read it as if it had been unpacked."""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import Draws, draw_kept, draws_of
from prunecli.errors import DamagedError, UnsafeError, raised_in
from prunecli.formats.base import TensorInfo
from prunecli.formats.crc import crc32
from prunecli.formats.io.cache import BlockCache
from prunecli.formats.io.source import Source
from prunecli.formats.io.threads import PerThread
from prunecli.formats.packed.codec import DRAWN, CodecWorkspace, Drawn, decode
from prunecli.formats.packed.container import read_packed_directory
from prunecli.formats.packed.decoded import DecodedSource
from prunecli.formats.packed.directory import PackedDirectory
from prunecli.formats.packed.names import FORMS
from prunecli.terms import HERE

__all__ = ["PackedSource", "unpacked_source"]

_SMALL, _RATIO = 16 << 20, 64
"""What is read at once is limited to this many bytes, or this many times the size of the packed file if that is more.

Sizes in a file are trusted as far as the file has so many bytes. In a packed file, a byte can stand for millions.
"""

_Bytes = NDArray[np.uint8]


class PackedSource(DecodedSource):
    """The bytes of the original of a packed file. Blocks are decoded as they are read; a few are kept."""

    def __init__(self, base: Source, directory: PackedDirectory, data_start: int) -> None:
        super().__init__(base, directory.size)
        self.directory = directory
        self._data_start = data_start
        self._starts = np.append(directory.starts, directory.size)
        self._cache, self._rooms = BlockCache(), PerThread(CodecWorkspace)
        self._chain = lru_cache(maxsize=64)(self._new_chain)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on.

        Raises:
            UnsafeError: they are far more than the packed file has: no checkpoint has a directory or pickle like that.
        """
        if length > max(_SMALL, _RATIO * self.base.size):
            raise UnsafeError(
                f"{self.label} has {self.base.size} bytes and unpacks to {length} and more that describe tensors; no "
                "checkpoint needs that"
            )
        return super().read(offset, length)

    def stored_as(self, offset: int, size: int) -> str:
        """Return "dense", "drawn mask" or "stored mask"; the last one if that holds for some of the blocks there."""
        directory = self.directory
        first, stop = np.searchsorted(directory.starts, (offset, offset + size)).tolist()
        if first and int(directory.starts[first - 1] + directory.nbytes[first - 1]) > offset:
            first -= 1  # the tensor begins in one that begins before it
        blocks = directory.columns["form"][directory.first_blocks[first] : directory.first_blocks[max(first, stop)]]
        return FORMS[int(blocks.max(initial=0))]  # what is too small for blocks of its own is literal, and dense

    def prefetch(self, runs: Iterable[tuple[int, int]]) -> None:
        """Do nothing: what is read first are literal bytes, which lie in few blocks."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: the original ends too early, or a block is damaged.
            UnreadableError: the packed file cannot be read.
        """
        if offset + len(buffer) > self.size:
            raise DamagedError(f"{self.label} ends at byte {self.size}, in the middle of its data")
        out, at = np.frombuffer(buffer, dtype=np.uint8), 0
        while at < out.size:
            at += self._read_some(offset + at, out[at:])

    def _read_some(self, offset: int, out: _Bytes) -> int:
        """Fill the start of `out`, up to the end of a tensor or a block, and return the number of bytes."""
        directory = self.directory
        after = int(np.searchsorted(self._starts, offset, side="right"))  # tensors that begin here or before
        inside = offset - int(self._starts[after - 1]) if after else 0
        if after and inside < int(directory.nbytes[after - 1]):
            tensor, end = after - 1, int(directory.nbytes[after - 1])
        else:  # literal bytes; those before the next tensor end where it begins
            tensor, end = directory.tensors, int(directory.literal_ends[after])
            inside = end - (int(self._starts[after]) - offset)
        width = directory.kind(tensor).width
        block, start = divmod(inside, BLOCK * width)
        length = min(end - inside, BLOCK * width - start, out.size)
        whole = min(int(directory.elements[tensor]) * width - block * BLOCK * width, BLOCK * width)
        if start == 0 and length == whole:
            self._decode(tensor, block, out[:length])
        else:
            index = int(directory.first_blocks[tensor]) + block
            found = self._cache.get(index, whole, lambda each: self._decode(tensor, block, each))
            out[:length] = found[start : start + length]
        return length

    def _decode(self, tensor: int, block: int, out: _Bytes) -> None:
        directory = self.directory
        index = int(directory.first_blocks[tensor]) + block
        form, kept = int(directory.columns["form"][index]), int(directory.columns["kept"][index])
        first, stop = int(directory.first_parts[index]), int(directory.first_parts[index + 1])
        places = directory.part_starts[first : stop + 1]
        room = self._rooms.get()
        data = room.block.bytes(int(places[-1] - places[0])).data
        self.base.read_into(self._data_start + int(places[0]), data)
        offsets = (places - places[0]).tolist()
        codings = directory.columns["coding"][first:stop].tolist()
        parts = ((coding, data[offsets[n] : offsets[n + 1]]) for n, coding in enumerate(codings))
        with raised_in(self.label):
            kind = directory.kind(tensor)
            drawn = self._drawn(tensor, block, room.drawn.flags(out.size // kind.width)) if form == DRAWN else None
            decode(form, kept, kind, parts, drawn, out, room)
            if crc32(out.data) != int(directory.columns["crc"][index]):
                raise DamagedError(f"{HERE} has a damaged block: the CRC-32 of its bytes is wrong; fetch it again")

    def _drawn(self, tensor: int, block: int, flags: NDArray[np.bool_]) -> Drawn:
        draws, ranks = self._chain(tensor)
        return Drawn(flags, draw_kept(draws, [block * BLOCK, *(int(each) for each in ranks[:, block])], flags)[-1])

    def _new_chain(self, tensor: int) -> tuple[Draws, NDArray[np.int64]]:
        """Return the draws of a tensor's rounds, and by later round and block the rank of a block's first candidate."""
        counts = self.directory.counts(tensor).astype(np.int64)
        return draws_of(self.directory.rounds(tensor)), np.cumsum(counts, axis=1) - counts


def unpacked_source(source: Source, tensors: Mapping[str, TensorInfo]) -> PackedSource:
    """Return the original of a packed file as a source; `tensors` are the entries of the packed file.

    Raises:
        DamagedError, UnsupportedError: as `read_packed_directory`.
    """
    return PackedSource(source, *read_packed_directory(source, tensors))
