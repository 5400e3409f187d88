"""The directory of a packed file: columns of numbers about its tensors and blocks. docs/packed.md describes it."""

import struct
from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import DrawnRound
from prunecli.errors import DamagedError, UnsupportedError
from prunecli.formats.packed.codec import CONSTANT, DENSE, DRAWN, PLAIN, RAW, STORED, ZSTD, ElementType
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = [
    "BIG_ENDIAN",
    "COLUMNS",
    "ROTATED",
    "STREAM",
    "VERSION",
    "Directory",
    "check_version",
    "parse_directory",
    "render_directory",
]

VERSION = 1
STREAM = 1
"""The version of the random stream; the same as in reports."""

_HEAD = struct.Struct("<IIQI6Q")
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

_LARGEST = 1 << 56
"""More bytes than any file has: sums of sizes below it are exact in 64 bits."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Directory:
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
        return int(np.unique(np.searchsorted(self.first_blocks, blocks, side="right")).size)

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
    def _key_starts(self) -> _Ints:
        return _starts(self.columns["key_bytes"].astype(np.int64))

    def rounds(self, tensor: int) -> list[DrawnRound]:
        """Return the rounds in which a tensor's mask was drawn."""
        if not self.columns["rounds"][tensor]:
            return []
        first, count = int(self.first_rounds[tensor]), int(self.columns["rounds"][tensor])
        return [self._round(index) for index in range(first, first + count)]

    def _round(self, index: int) -> DrawnRound:
        raw = self.columns["keys"][self._key_starts[index] : self._key_starts[index + 1]].tobytes()
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


def render_directory(directory: Directory) -> bytes:
    """Return the bytes of a directory."""
    columns = directory.columns
    sizes = (columns[name].size for name in ("width", "amount", "keys", "counts", "crc"))
    head = _HEAD.pack(VERSION, STREAM, directory.size, directory.crc, directory.literals, *sizes)
    return head + b"".join(columns[name].astype(kind, copy=False).tobytes() for name, kind, _ in COLUMNS)


def check_version(raw: bytes) -> None:
    """Check that a directory begins with the version that is read here.

    Raises:
        UnsupportedError: it has a newer version, or masks from another version of the random stream.
    """
    version, stream = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4))
    if version != VERSION or stream != STREAM:
        what = f"a packed file of version {version}" if version != VERSION else f"packed with random stream {stream}"
        raise UnsupportedError(f"{HERE} is {what}, and this prunecli reads version 1; use a newer prunecli")


def parse_directory(raw: bytes, data_size: int) -> Directory:
    """Return a directory, checked against itself and against the size of the data.

    Raises:
        DamagedError: it contradicts itself.
    """
    if len(raw) < _HEAD.size:
        raise _contradiction()
    _, _, size, crc, literals, *counts = _HEAD.unpack_from(raw)
    rows = dict(zip(("tensors", "rounds", "keys", "counts", "blocks"), counts, strict=True))
    columns: dict[str, NDArray[Any]] = {}
    at = _HEAD.size
    for name, kind, per in COLUMNS:
        dtype = np.dtype(kind)
        many = _parts(columns, rows) if per == "parts" else rows[per]
        if many > (len(raw) - at) // dtype.itemsize:
            raise _contradiction()
        columns[name] = np.frombuffer(raw, dtype, many, at)
        at += many * dtype.itemsize
    directory = Directory(size, crc, literals, columns)
    if at != len(raw) or not _is_consistent(directory) or int(directory.part_starts[-1]) != data_size:
        raise _contradiction()
    return directory


def _contradiction() -> DamagedError:
    return DamagedError(f"{HERE} has a directory that contradicts itself; fetch it again")


def _parts(columns: dict[str, NDArray[Any]], rows: dict[str, int]) -> int:
    """Return the number of parts, once all columns before them are known."""
    elements = columns["elements"]
    if elements.size and int(elements.max()) >= _LARGEST:
        raise _contradiction()
    blocks = -(-elements.astype(np.int64) // BLOCK)
    own = float(blocks.sum(dtype=np.float64))
    if own > rows["blocks"]:
        raise _contradiction()
    number = columns["number"].astype(np.int64)
    literal = rows["blocks"] - int(blocks.sum())
    return int((blocks * number).sum()) + literal + int(np.count_nonzero(columns["form"] == STORED))


def _is_consistent(directory: Directory) -> bool:
    return _sizes_agree(directory) and _blocks_agree(directory) and _rounds_agree(directory)


def _sizes_agree(directory: Directory) -> bool:
    columns = directory.columns
    gap, width, number = columns["gap"], columns["width"], columns["number"]
    if gap.size and (int(gap.max()) >= _LARGEST or not int(columns["elements"].min())):
        return False
    total = gap.sum(dtype=np.float64) + (columns["elements"].astype(np.float64) * width).sum() + directory.literals
    if total >= _LARGEST or not (np.isin(width, (1, 2, 4, 8, 16)) & np.isin(number, (1, 2, 4, 8))).all():
        return False
    if not ((width == number) | (width == 2 * number.astype(np.int64))).all() or (columns["flags"] > 3).any():
        return False
    if int(gap.sum()) > directory.literals:
        return False
    return int(directory.nbytes.sum()) + directory.literals == directory.size


def _blocks_agree(directory: Directory) -> bool:
    columns = directory.columns
    form, kept, coding = columns["form"], columns["kept"].astype(np.int64), columns["coding"]
    owners = np.diff(directory.first_blocks)
    if int(directory.first_blocks[-1]) != form.size or (form > STORED).any() or (coding > CONSTANT).any():
        return False
    full = np.full(form.size, BLOCK, dtype=np.int64)
    some = owners > 0
    last = directory.first_blocks[1:][some] - 1
    full[last] = directory.elements[some] - (owners[some] - 1) * BLOCK
    rounds = np.repeat(np.append(columns["rounds"], 0), owners)
    if ((form == DRAWN) & (rounds == 0)).any() or (kept > full).any() or ((form == DENSE) & (kept != full)).any():
        return False
    parts = np.diff(directory.first_parts)
    numbers = np.repeat(np.append(columns["number"].astype(np.int64), 1), owners)
    widths = np.repeat(np.append(columns["width"].astype(np.int64), 1), owners)
    expected = np.repeat(kept * widths // numbers, parts)
    masks = directory.first_parts[:-1][form == STORED]
    expected[masks] = -(-full[form == STORED] // 8)
    stored = columns["stored"]
    wrong = ((coding == RAW) & (stored != expected)) | ((coding == CONSTANT) & (stored != 1))
    return not (wrong | ((coding == ZSTD) & (stored >= expected))).any()


def _rounds_agree(directory: Directory) -> bool:
    columns = directory.columns
    rounds = columns["rounds"].astype(np.int64)
    lengths = columns["key_bytes"].astype(np.int64)
    if int(rounds.sum()) != columns["amount"].size or int(lengths.sum()) != columns["keys"].size:
        return False
    if int(directory.first_counts[-1]) != columns["counts"].size or (columns["amount"] > columns["candidates"]).any():
        return False
    drawn = np.flatnonzero(rounds)
    firsts = directory.first_rounds[:-1][drawn]
    expected = np.zeros(columns["amount"].size, dtype=np.uint64)
    if expected.size:
        expected[1:] = (columns["candidates"] - columns["amount"])[:-1]
        expected[firsts] = columns["elements"][drawn]
    if not np.array_equal(expected, columns["candidates"]):
        return False
    return all(_counts_agree(directory, int(tensor)) for tensor in np.flatnonzero(rounds > 1)) and _are_text(directory)


def _counts_agree(directory: Directory, tensor: int) -> bool:
    counts, first = directory.counts(tensor).astype(np.int64), int(directory.first_rounds[tensor])
    left = directory.columns["candidates"][first + 1 : first + 1 + counts.shape[0]]
    full = min(int(directory.elements[tensor]), BLOCK)
    falling = (np.diff(counts, axis=0) <= 0).all() and counts.max(initial=0) <= full
    return bool(falling) and np.array_equal(counts.sum(axis=1), left.astype(np.int64))


def _are_text(directory: Directory) -> bool:
    try:
        directory.columns["keys"].tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    starts = directory._key_starts[:-1][directory.columns["key_bytes"] > 0]
    return not (directory.columns["keys"][starts] & 0xC0 == 0x80).any()
