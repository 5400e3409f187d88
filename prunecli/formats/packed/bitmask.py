"""A tensor in the format `sparse-bitmask` of compressed-tensors and SparseML: its values and a bitmask of their places.

Zeros are not among the values. The bitmask has a bit for each element, the lowest bit of a byte first; each row (along
the last dimension) begins with a new byte. `row_offsets` are the numbers of values in the rows before each row, counted
along the first dimension only.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.planes import SPARE, scatter
from prunecli.core.scratch import Buffer
from prunecli.errors import DamagedError, show
from prunecli.formats.base import TensorInfo
from prunecli.formats.dtypes import DType
from prunecli.formats.io.source import Source
from prunecli.formats.io.threads import Once, PerThread
from prunecli.terms import HERE

__all__ = ["BitmaskBuffers", "BitmaskTensor", "Member", "damaged"]

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1).astype(np.uint8)
"""The number of bits that are 1 in each byte."""

_Bytes = NDArray[np.uint8]
_Ints = NDArray[np.int64]


class Member(NamedTuple):
    """One of the tensors that describe a sparse one, and the file that contains it."""

    source: Source
    info: TensorInfo

    def read_into(self, start: int, out: _Bytes) -> None:
        """Fill `out` with bytes of the tensor."""
        self.source.read_into(self.info.storage.offset + start, out.data)


def damaged(name: str, what: str) -> DamagedError:
    """Return the error for a sparse tensor that contradicts itself."""
    return DamagedError(f"{HERE}: {show(name)} {what}; fetch it again")


class BitmaskBuffers:
    """The memory of one thread for a block: its values, and its part of the bitmask."""

    def __init__(self) -> None:
        self.values, self.bits = Buffer(), Buffer()


class BitmaskTensor:
    """A sparse tensor under its `name` in the dense file, read in runs of its dense bytes.

    It is cut into blocks of rows, or of parts of a row, with up to `BLOCK` elements each. All blocks of the bitmask are
    read once, to find out where their values begin, and to compare them with `row_offsets`. The members are the values,
    the bitmask and the offsets, if there are any; `rooms` is the memory of threads, shared by many tensors.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        members: tuple[Member, Member, Member | None],
        rooms: PerThread[BitmaskBuffers],
    ) -> None:
        self.name, self.shape = name, shape
        self._values, self._bitmask, self._offsets = members
        self._columns, self._rows = shape[-1], math.prod(shape[:-1])
        self._row_bytes = -(-self._columns // 8)
        self._parts = max(-(-self._columns // BLOCK), 1)  # of a row
        self._together = max(BLOCK // max(self._columns, 1), 1)  # rows in a block
        self._starts, self._rooms = Once(self._counted), rooms

    @property
    def dtype(self) -> DType:
        """The type of its elements."""
        return self._values.info.dtype

    @property
    def nbytes(self) -> int:
        """Its bytes in the dense file."""
        return self._rows * self._columns * self.dtype.itemsize

    @property
    def block(self) -> int:
        """The size of a block in bytes."""
        return (self._together * self._columns if self._parts == 1 else BLOCK) * self.dtype.itemsize

    def place(self, start: int) -> tuple[int, int, int]:
        """Return the block with the byte `start`, the byte where it begins, and its size."""
        width = self.dtype.itemsize
        if self._parts == 1:
            index = start // self.block
            return index, index * self.block, min(self.block, self.nbytes - index * self.block)
        row, inside = divmod(start, self._columns * width)
        part = inside // self.block
        first = row * self._columns * width + part * self.block
        return row * self._parts + part, first, min(self.block, self._columns * width - part * self.block)

    def decode(self, start: int, out: _Bytes) -> None:
        """Write the block that begins at the byte `start` into `out`.

        Raises:
            DamagedError: the bitmask contradicts the other members.
        """
        index = self.place(start)[0]
        starts, width = self.starts(), self.dtype.itemsize
        flags = self._flags(index)
        kept = int(starts[index + 1] - starts[index])
        if int(np.count_nonzero(flags)) != kept:  # the file has changed
            raise self._contradiction()
        values = self._rooms.get().values.bytes(kept * width + SPARE)[: kept * width]
        self._values.read_into(int(starts[index]) * width, values)
        scatter(values, width, flags, out)

    def starts(self) -> _Ints:
        """Return the number of values before each block, and of all; they are counted and checked once.

        Raises:
            DamagedError: the bitmask contradicts the other members.
        """
        return self._starts.get()

    def _counted(self) -> _Ints:
        starts = self._new_starts()
        if int(starts[-1]) != self._values.info.elements:
            raise self._contradiction()
        return starts

    def _new_starts(self) -> _Ints:
        blocks = self._blocks()
        starts = np.zeros(len(blocks) + 1, dtype=np.int64)
        if not blocks:  # other dimensions may have any size
            return starts
        totals = np.zeros(math.prod(self.shape[1:-1]), dtype=np.int64)  # of the rows before, for each of the others
        row, count = 0, 0
        for index in range(len(blocks)):
            bits = self._bits(index)
            by_row = _ONES[bits].sum(axis=1, dtype=np.int64)
            starts[index + 1] = starts[index] + by_row.sum()
            if self._parts > 1:
                count += int(by_row[0])
                if (index + 1) % self._parts:
                    continue
                by_row, count = np.array([count]), 0
            self._check_offsets(row, by_row, totals)
            row += by_row.size
        return starts

    def _check_offsets(self, row: int, by_row: _Ints, totals: _Ints) -> None:
        """Compare `row_offsets` from a row on with the numbers of values in the rows; add these to the totals."""
        if self._offsets is None:
            return
        recorded = np.empty(by_row.size, dtype="<i8")
        self._offsets.read_into(8 * row, recorded.view(np.uint8))
        at = 0
        for first, many in _whole_runs(row, by_row.size, totals.size):
            counts = by_row[at : at + many].reshape(-1, min(many, totals.size))
            own = totals[first : first + counts.shape[1]]
            expected = own + np.cumsum(counts, axis=0) - counts
            if not np.array_equal(expected.reshape(-1), recorded[at : at + many]):
                raise damaged(self.name, "has row_offsets that contradict its bitmask")
            own += counts.sum(axis=0)
            at += many

    def _contradiction(self) -> DamagedError:
        return damaged(self.name, "has another number of values than its bitmask says")

    def _blocks(self) -> range:
        if not self.nbytes:
            return range(0)
        return range(self._rows * self._parts if self._parts > 1 else -(-self._rows // self._together))

    def _bits(self, index: int) -> _Bytes:
        """Return the bytes of a block of the bitmask, a row for each of its rows."""
        if self._parts > 1:
            row, part = divmod(index, self._parts)
            first, shape = row * self._row_bytes + part * (BLOCK // 8), (1, self._part_bytes(part))
        else:
            row = index * self._together
            first, shape = row * self._row_bytes, (min(self._together, self._rows - row), self._row_bytes)
        bits = self._rooms.get().bits.bytes(shape[0] * shape[1])
        self._bitmask.read_into(first, bits)
        found = bits.reshape(shape)
        spare = self._columns % 8
        if spare and self._ends_rows(index) and (found[:, -1] >> spare).any():
            raise damaged(self.name, "has bits in its bitmask behind the end of a row")
        return found

    def _ends_rows(self, index: int) -> bool:
        return (index + 1) % self._parts == 0

    def _part_bytes(self, part: int) -> int:
        return min(BLOCK // 8, self._row_bytes - part * (BLOCK // 8))

    def _flags(self, index: int) -> NDArray[np.bool_]:
        bits = self._bits(index)
        count = self._columns
        if self._parts > 1:
            count = min(BLOCK, self._columns - index % self._parts * BLOCK)
        return np.unpackbits(bits, axis=1, count=count, bitorder="little").view(np.bool_).reshape(-1)


def _whole_runs(row: int, many: int, inner: int) -> Iterator[tuple[int, int]]:
    """Cut consecutive rows into runs that end with the last of `inner` rows, or are a part of those.

    Yields the place of the first one among the `inner`, and the number of rows.
    """
    stop = row + many
    while row < stop:
        first = row % inner
        run = min(inner - first, stop - row) if first or stop - row < inner else (stop - row) // inner * inner
        yield first, run
        row += run
