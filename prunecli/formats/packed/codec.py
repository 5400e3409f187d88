"""The bytes of one block: kept elements in planes of bytes, each compressed where that saves space, and back."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunecli.core.planes import SPARE, gather, merge_planes, scatter, split_planes
from prunecli.core.raw_elements import Flags, is_zero, unsigned
from prunecli.core.scratch import Buffer
from prunecli.errors import DamagedError, PrunecliError
from prunecli.lean import dataclass
from prunecli.terms import HERE

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = [
    "CONSTANT",
    "DENSE",
    "DRAWN",
    "PLAIN",
    "RAW",
    "STORED",
    "ZSTD",
    "CodecWorkspace",
    "Coded",
    "Drawn",
    "ElementType",
    "decode",
    "encode",
]

DENSE, DRAWN, STORED = 0, 1, 2
"""The forms of a block: all elements; those that a drawn mask keeps; those that a stored mask keeps, with that mask."""

RAW, ZSTD, CONSTANT = 0, 1, 2
"""The codings of a part of a block: as it is; a frame of zstd; one byte, which all of its bytes equal."""

_Bytes = NDArray[np.uint8]
_Part = tuple[int, bytes | memoryview]

_FAST: Mapping[int, int] = {
    zstd.CompressionParameter.strategy: zstd.Strategy.fast,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.window_log: 19,
    zstd.CompressionParameter.hash_log: 6,
}
_FASTER: Mapping[int, int] = {**_FAST, zstd.CompressionParameter.target_length: 1 << 17, 1002: 1}
"""Exponents have no repetitions, only unequal frequencies: looking for matches costs time and finds chance.

The target length is the distance at which the strategy looks for matches. The other one, ZSTD_c_experimentalParam5, is
that frequencies are used nevertheless; libraries that do not know it get only the first ones.
"""

_FEW, _MANY = 64, 8
"""With fewer zeros than one in the first number a mask is not tried; with more than in the second, nothing else is."""

_SAMPLE = 1 << 14
"""About how many of the values that a drawn mask keeps are looked at: with many zeros, a stored mask may be smaller."""


class ElementType(NamedTuple):
    """The bytes of an element: `width` in all, in numbers of `number` bytes, whose sign may be `rotate`d."""

    width: int
    number: int = 1
    rotate: bool = False
    swap: bool = False


PLAIN = ElementType(1)
"""The type of bytes that are not the values of a tensor."""


class Drawn(NamedTuple):
    """The drawn mask of a block: its flags, and how many of them keep an element."""

    flags: Flags
    kept: int


@dataclass(frozen=True, slots=True)
class Coded:
    """A block as it is stored: its form, the number of kept elements, and its parts with their codings.

    Parts may lie in the block itself, or in the workspace, until that is used again.
    """

    form: int
    kept: int
    parts: Sequence[_Part]

    @property
    def size(self) -> int:
        """The bytes of all parts."""
        return sum(len(data) for _, data in self.parts)

    def owned(self) -> "Coded":
        """Return the same with memory of its own."""
        return Coded(self.form, self.kept, [(coding, bytes(data)) for coding, data in self.parts])


class CodecWorkspace:
    """The memory of one thread for its blocks, and its compressors: new ones for each block would cost more."""

    def __init__(self) -> None:
        self.block, self.values, self.planes, self.flags, self.drawn = (Buffer() for _ in range(5))
        self._values, self._plain = _for_values(), zstd.ZstdCompressor()

    def compressed(self, data: _Bytes, *, plain: bool) -> bytes:
        """Return a frame of bytes that are the values of a tensor, or (plain) others."""
        return (self._plain if plain else self._values).compress(data.data, zstd.ZstdCompressor.FLUSH_FRAME)


def _for_values() -> zstd.ZstdCompressor:
    try:
        return zstd.ZstdCompressor(options=_FASTER)
    except (ValueError, zstd.ZstdError):
        return zstd.ZstdCompressor(options=_FAST)


def encode(raw: _Bytes, kind: ElementType, drawn: Drawn | None, room: CodecWorkspace, *, compress: bool) -> Coded:
    """Return a block in the smallest form; `drawn` is a mask that may fit it, None without one."""
    found = None if drawn is None else _drawn(raw, kind, drawn, room, compress=compress)
    if found is None:
        return _undrawn(raw, kind, room, compress=compress)
    coded, has_zeros = found
    return _smaller(coded, lambda: _undrawn(raw, kind, room, compress=compress)) if has_zeros else coded


def _smaller(one: Coded, other: Callable[[], Coded]) -> Coded:
    return min(one.owned(), other(), key=lambda each: each.size)


def _drawn(
    raw: _Bytes, kind: ElementType, drawn: Drawn, room: CodecWorkspace, *, compress: bool
) -> tuple[Coded, bool] | None:
    """Return a block with a drawn mask, and whether many of the kept values are zero; None if the mask does not fit."""
    flags, kept = drawn
    values = gather(raw, kind.width, flags, kept, room.values)
    if values is None:
        return None
    sample = values.view(f"u{min(kind.width, 8)}")[:: kept // _SAMPLE + 1]
    zeros = sample.size - int(np.count_nonzero(sample))
    return Coded(DRAWN, kept, _parts(values, kind, room, compress=compress)), zeros * _FEW >= max(sample.size, 1)


def _undrawn(raw: _Bytes, kind: ElementType, room: CodecWorkspace, *, compress: bool) -> Coded:
    count = raw.size // kind.width
    if kind is PLAIN:
        return _dense(raw, kind, room, compress=compress)
    zeros = room.flags.flags(count)
    is_zero(unsigned(raw, kind.width, paired=kind.width == 16), signed_zero=False, out=zeros, room=room.planes)
    many = int(np.count_nonzero(zeros))
    if many == count or many * _FEW < count:
        return _dense(raw, kind, room, compress=compress)
    keep = np.logical_not(zeros, out=zeros)
    mask = _part(np.packbits(keep, bitorder="little"), room, compress=compress)
    values = gather(raw, kind.width, keep, count - many, room.values)
    if values is None:
        raise PrunecliError("zeros were found that are not zero; please report this")
    stored = Coded(STORED, count - many, [mask, *_parts(values, kind, room, compress=compress)])
    if many * _MANY >= count and kind.number > 1:
        return stored
    return _smaller(stored, lambda: _dense(raw, kind, room, compress=compress))


def _dense(raw: _Bytes, kind: ElementType, room: CodecWorkspace, *, compress: bool) -> Coded:
    return Coded(DENSE, raw.size // kind.width, _parts(raw, kind, room, compress=compress))


def _parts(values: _Bytes, kind: ElementType, room: CodecWorkspace, *, compress: bool) -> list[_Part]:
    planes = split_planes(values, kind.number, room.planes, rotate=kind.rotate, swap=kind.swap)
    return [_part(plane, room, compress=compress, plain=kind is PLAIN) for plane in planes.reshape(kind.number, -1)]


def _part(data: _Bytes, room: CodecWorkspace, *, compress: bool, plain: bool = False) -> _Part:
    if data.size and data[0] == data[-1] and (data == data[0]).all():
        return CONSTANT, data[:1].tobytes()
    if compress and data.size:
        packed = room.compressed(data, plain=plain)
        if len(packed) < data.size:
            return ZSTD, packed
    return RAW, data.data


def decode(
    form: int,
    kept: int,
    kind: ElementType,
    parts: Iterator[tuple[int, memoryview]],
    drawn: Drawn | None,
    out: _Bytes,
    room: CodecWorkspace,
) -> None:
    """Write the elements of a block into `out`. `parts` are its coded parts; `drawn` is its drawn mask, if it has one.

    Raises:
        DamagedError: the parts are not those of such a block.
    """
    mask = drawn
    if form == STORED:
        count = out.size // kind.width
        bits = _decoded(*next(parts), -(-count // 8))
        keep = np.unpackbits(bits, count=count, bitorder="little").view(np.bool_)
        mask = Drawn(keep, int(np.count_nonzero(keep)))
    if mask is not None and mask.kept != kept:
        raise DamagedError(f"{HERE} has a mask that does not keep as many elements as it says; fetch it again")
    size = kept * kind.width
    planes = [_decoded(*next(parts), size // kind.number) for _ in range(kind.number)]
    values = out if mask is None else room.values.bytes(size + SPARE)[:size]
    merge_planes(planes, values, rotate=kind.rotate, swap=kind.swap)
    if mask is not None:
        scatter(values, kind.width, mask.flags, out)


def _decoded(coding: int, data: memoryview, size: int) -> _Bytes:
    """Return the `size` bytes of a part; those of a raw one lie in `data`."""
    if coding == CONSTANT:
        return np.full(size, data[0] if len(data) else 0, dtype=np.uint8)
    unpacked: bytes | memoryview = data
    whole = True
    if coding == ZSTD:
        unpacker = zstd.ZstdDecompressor()
        try:  # a frame may claim any size: no more than is needed is ever made
            unpacked = unpacker.decompress(data, max_length=size + 1)
            whole = unpacker.eof and not unpacker.unused_data
        except (zstd.ZstdError, MemoryError):
            whole = False
    if len(unpacked) != size or not whole:
        raise DamagedError(f"{HERE} has a damaged block; fetch it again")
    return np.frombuffer(unpacked, dtype=np.uint8)
