"""Parse the directory of a packed file, which may come from anybody: nothing in it is believed before it is checked."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.errors import DamagedError, UnsupportedError
from prunecli.formats.packed.codec import CONSTANT, DENSE, DRAWN, RAW, STORED, ZSTD
from prunecli.formats.packed.directory import COLUMNS, HEAD, STREAM, VERSION, PackedDirectory
from prunecli.terms import HERE

__all__ = ["check_version", "parse_directory"]

_LARGEST = 1 << 56
"""More bytes than any file has: sums of sizes below it are exact in 64 bits."""


def check_version(raw: bytes) -> None:
    """Check that a directory begins with the version that is read here.

    Raises:
        UnsupportedError: it has a newer version, or masks from another version of the random stream.
    """
    version, stream = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4))
    if version != VERSION or stream != STREAM:
        what = f"a packed file of version {version}" if version != VERSION else f"packed with random stream {stream}"
        raise UnsupportedError(f"{HERE} is {what}, and this prunecli reads version 1; use a newer prunecli")


def parse_directory(raw: bytes, data_size: int) -> PackedDirectory:
    """Return a directory, checked against itself and against the size of the data.

    Raises:
        DamagedError: it contradicts itself.
    """
    if len(raw) < HEAD.size:
        raise _contradiction()
    _, _, size, crc, literals, *counts = HEAD.unpack_from(raw)
    rows = dict(zip(("tensors", "rounds", "keys", "counts", "blocks"), counts, strict=True))
    columns: dict[str, NDArray[Any]] = {}
    at = HEAD.size
    for name, kind, per in COLUMNS:
        dtype = np.dtype(kind)
        many = _parts(columns, rows) if per == "parts" else rows[per]
        if many > (len(raw) - at) // dtype.itemsize:
            raise _contradiction()
        columns[name] = np.frombuffer(raw, dtype, many, at)
        at += many * dtype.itemsize
    directory = PackedDirectory(size, crc, literals, columns)
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


def _is_consistent(directory: PackedDirectory) -> bool:
    return _sizes_agree(directory) and _blocks_agree(directory) and _rounds_agree(directory)


def _sizes_agree(directory: PackedDirectory) -> bool:
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


def _blocks_agree(directory: PackedDirectory) -> bool:
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


def _rounds_agree(directory: PackedDirectory) -> bool:
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


def _counts_agree(directory: PackedDirectory, tensor: int) -> bool:
    counts, first = directory.counts(tensor).astype(np.int64), int(directory.first_rounds[tensor])
    left = directory.columns["candidates"][first + 1 : first + 1 + counts.shape[0]]
    full = min(int(directory.elements[tensor]), BLOCK)
    falling = (np.diff(counts, axis=0) <= 0).all() and counts.max(initial=0) <= full
    return bool(falling) and np.array_equal(counts.sum(axis=1), left.astype(np.int64))


def _are_text(directory: PackedDirectory) -> bool:
    try:
        directory.columns["keys"].tobytes().decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    starts = directory.key_starts[:-1][directory.columns["key_bytes"] > 0]
    return not (directory.columns["keys"][starts] & 0xC0 == 0x80).any()
