"""The directory of a packed file: columns of numbers about its tensors and blocks. docs/packed.md describes it."""

import struct
from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import DrawnRound
from prunecli.formats.packed.codec import PLAIN, STORED, ElementType
from prunecli.lean import dataclass

__all__ = [
    "BIG_ENDIAN",
    "COLUMNS",
    "HEAD",
    "ROTATED",
    "STREAM",
    "VERSION",
    "PackedDirectory",
    "render_directory",
]

VERSION = 1
STREAM = 1
"""The version of the random stream; the same as in reports."""

HEAD = struct.Struct("<IIQI6Q")
"""Version, stream, size and CRC-32 of the original, literal bytes; tensors, rounds, bytes of keys, counts, blocks."""

ROTATED, BIG_ENDIAN = 1, 2

COLUMNS = (
    ("gap", "<u8", "tensors"),
    ("elements", "<u8", "tensors"),
    ("width", "u1", "tensors"),
    ("number", "u1", "tensors"),
    ("flags", "u1", "tensors"),
    ("rounds", "u1", "tensors"),
    ("candidates", "<u8", "rounds"),
    ("amount", "<u8", "rounds"),
    ("seed", "V16", "rounds"),
    ("key_bytes", "<u4", "rounds"),
    ("keys", "u1", "keys"),
    ("counts", "<u4", "counts"),
    ("crc", "<u4", "blocks"),
    ("form", "u1", "blocks"),
    ("kept", "<u4", "blocks"),
    ("coding", "u1", "parts"),
    ("stored", "<u4", "parts"),
)
"""The columns in their order: name, type, and what there is one of for each row. The parts follow from the others."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PackedDirectory:
    """What a packed file says about the original: `size` and `crc` of the whole, and its columns by name.

    The original is an alternation of literal bytes (`gap` before each tensor, then the rest) and the values of tensors.
    Blocks are those of the tensors in order, then those of all literal bytes, taken as one run.
    """

    size: int
    crc: int
    literals: int
    columns: dict[str, NDArray[Any]] = field(compare=False)

    @property
    def tensors(self) -> int:
        """The number of tensors."""
        return int(self.columns["width"].size)

    def kind(self, tensor: int) -> ElementType:
        """Return the type of a tensor's elements; that of literal bytes for the index behind the last tensor."""
        if tensor == self.tensors:
            return PLAIN
        width, number, flags = (int(self.columns[name][tensor]) for name in ("width", "number", "flags"))
        return ElementType(width, number, bool(flags & ROTATED), bool(flags & BIG_ENDIAN))

    def tensors_with(self, form: int) -> int:
        """Return the number of tensors with blocks of a form."""
        blocks = np.flatnonzero(self.columns["form"] == form)
        owners = np.searchsorted(self.first_blocks, blocks, side="right")  # in order; np.unique would import numpy.ma
        return int(np.count_nonzero(np.diff(owners, prepend=0)))

    @cached_property
    def nbytes(self) -> _Ints:
        """The bytes of each tensor."""
        found: _Ints = self.columns["elements"].astype(np.int64) * self.columns["width"]
        return found

    @cached_property
    def starts(self) -> _Ints:
        """The offset of each tensor in the original."""
        gaps = self.columns["gap"].astype(np.int64)
        found: _Ints = np.cumsum(gaps) + np.cumsum(self.nbytes) - self.nbytes
        return found

    @cached_property
    def literal_ends(self) -> _Ints:
        """The number of literal bytes before each tensor, and of all."""
        found: _Ints = np.append(np.cumsum(self.columns["gap"].astype(np.int64)), self.literals)
        return found

    @cached_property
    def elements(self) -> _Ints:
        """The elements of each tensor, and the number of literal bytes."""
        found: _Ints = np.append(self.columns["elements"].astype(np.int64), self.literals)
        return found

    @cached_property
    def first_blocks(self) -> _Ints:
        """The index of each tensor's first block, of that of the literal bytes, and the number of all blocks."""
        return _starts(-(-self.elements // BLOCK))

    @cached_property
    def first_rounds(self) -> _Ints:
        """The index of each tensor's first round."""
        return _starts(self.columns["rounds"].astype(np.int64))

    @cached_property
    def first_counts(self) -> _Ints:
        """The index of each tensor's first count."""
        later = np.maximum(self.columns["rounds"].astype(np.int64) - 1, 0)
        return _starts(later * np.diff(self.first_blocks)[:-1])

    @cached_property
    def first_parts(self) -> _Ints:
        """The index of each block's first part, and the number of parts."""
        numbers = np.append(self.columns["number"].astype(np.int64), 1)
        return _starts(np.repeat(numbers, np.diff(self.first_blocks)) + (self.columns["form"] == STORED))

    @cached_property
    def part_starts(self) -> _Ints:
        """The offset of each part in the data, and the size of the data."""
        return _starts(self.columns["stored"].astype(np.int64))

    @cached_property
    def key_starts(self) -> _Ints:
        """The offset of each round's key in the keys, and the length of all keys."""
        return _starts(self.columns["key_bytes"].astype(np.int64))

    def rounds(self, tensor: int) -> list[DrawnRound]:
        """Return the rounds in which a tensor's mask was drawn."""
        if not self.columns["rounds"][tensor]:
            return []
        first, count = int(self.first_rounds[tensor]), int(self.columns["rounds"][tensor])
        return [self._round(index) for index in range(first, first + count)]

    def _round(self, index: int) -> DrawnRound:
        raw = self.columns["keys"][self.key_starts[index] : self.key_starts[index + 1]].tobytes()
        seed = int.from_bytes(self.columns["seed"][index].tobytes(), "little")
        candidates, amount = int(self.columns["candidates"][index]), int(self.columns["amount"][index])
        return DrawnRound(seed, raw.decode("utf-8", "surrogatepass"), candidates, amount)

    def counts(self, tensor: int) -> NDArray[np.uint32]:
        """Return how many elements of each block are left after each round but the last, shape (rounds - 1, blocks)."""
        blocks = int(self.first_blocks[tensor + 1] - self.first_blocks[tensor])
        first, rows = int(self.first_counts[tensor]), int(self.columns["rounds"][tensor]) - 1
        found: NDArray[np.uint32] = self.columns["counts"][first : first + rows * blocks].reshape(rows, blocks)
        return found


def _starts(sizes: _Ints) -> _Ints:
    found = np.zeros(sizes.size + 1, dtype=np.int64)
    np.cumsum(sizes, out=found[1:])
    return found


def render_directory(directory: PackedDirectory) -> bytes:
    """Return the bytes of a directory."""
    columns = directory.columns
    sizes = (columns[name].size for name in ("width", "amount", "keys", "counts", "crc"))
    head = HEAD.pack(VERSION, STREAM, directory.size, directory.crc, directory.literals, *sizes)
    return head + b"".join(columns[name].astype(kind, copy=False).tobytes() for name, kind, _ in COLUMNS)
