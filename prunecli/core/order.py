"""The order of elements by value: keys, unsigned integers of few bits that sort as the values do.

Magnitudes are in the order of their bits without the sign, so -0.0 equals +0.0. NaN is greater than everything: its key
is the largest number, whatever its bits. The compiled kernel makes, counts and compares keys several times faster.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.float8 import FLOAT8, float8_values
from prunecli.core.kernel import values as kernel
from prunecli.core.kernel.values import Kind
from prunecli.core.raw_elements import Flags, Unsigned, are_all_true
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["Keys", "Order", "common_orders", "occurrences"]

Keys = NDArray[Any]
"""Unsigned integers in the byte order of the machine, shape `(n,)`."""

_INFINITIES = {"float64": 0x7FF << 52, "float32": 0xFF << 23, "float16": 0x1F << 10, "bfloat16": 0xFF << 7}
"""The bits of infinity in the types whose magnitudes have the order of their bits."""
_INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
_WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_PIECE = 1 << 15
"""Elements that are turned into keys at once where the kernel does not do it."""


@dataclass(frozen=True, slots=True)
class Order:
    """The order of elements of a type: by magnitude, or as signed numbers.

    `common` is the floating type (float32 or float64) whose keys are used if elements of several types are compared.

    Raises:
        UsageError: `name`, which messages call the tensor, has a type without an order, such as complex numbers.
    """

    dtype: str
    signed: bool = False
    common: str = ""

    @classmethod
    def of(cls, name: str, dtype: str, *, signed: bool = False) -> "Order":
        """Return the order of a tensor's elements."""
        if dtype not in _INFINITIES and dtype not in FLOAT8 and dtype not in _INTEGERS:
            raise UsageError(f"only real numbers have an order, and {show(name)} is {dtype}; exclude it")
        return cls(dtype, signed)

    @property
    def bits(self) -> int:
        """The number of bits of a key."""
        kind = self.common or self.dtype
        if kind in _WIDTHS:
            return 8 * _WIDTHS[kind] - (not self.signed)
        return 8 * (1 if kind in FLOAT8 else np.dtype(kind).itemsize)

    @property
    def shift(self) -> int:
        """The number of bits below the upper 15 or 16 of a key (or 8): a multiple of 16."""
        return (self.bits - 1) // 16 * 16

    @property
    def nan(self) -> int | None:
        """The key of NaN, the largest; None if the type has none."""
        return None if self.dtype in _INTEGERS else (1 << self.bits) - 1

    @property
    def zero(self) -> int:
        """The key of zero."""
        width = {**_WIDTHS, **dict.fromkeys(FLOAT8, 1)}.get(self.dtype) or np.dtype(self.dtype).itemsize
        return int(self.keys(np.zeros(1, f"u{width}"))[0])

    def keys(self, raw: Unsigned) -> Keys:
        """Return the keys of elements as stored."""
        source, kind, infinity = self._prepared(raw)
        out = np.empty(source.shape, dtype=source.dtype)
        if not kernel.keys(source, kind, infinity, out):
            _write_keys(source, kind, infinity, out)
        return out

    def histogram(self, raw: Unsigned, candidates: Flags) -> NDArray[np.uint32]:
        """Return how many candidates have each number in the bits of their keys above `shift`."""
        bits, counts = self.bits - self.shift, None
        for source, kind, infinity, left in self._pieces(raw, candidates):
            found = kernel.histogram(source, kind, infinity, left, shift=self.shift, bits=bits)
            if found is None:
                keys = _candidate_keys(source, kind, infinity, left) >> source.dtype.type(self.shift)
                part = np.bincount(keys.astype(np.int64), minlength=1 << bits).astype(np.uint32)
            else:
                part = found[1]
            counts = part if counts is None else counts + part
        return np.zeros(1 << bits, np.uint32) if counts is None else counts

    def sums(self, raw: Unsigned, candidates: Flags, fine: int) -> NDArray[np.uint64] | None:
        """Return sums over the candidates with each number above `shift`, shape `(3, n)`; None without the kernel.

        These are their number, the sum of the `fine` bits of their keys below `shift`, and the sum of the squares of
        these.
        """
        found = np.zeros((1 << (self.bits - self.shift), 3), np.uint64)
        for source, kind, infinity, left in self._pieces(raw, candidates):
            if not kernel.sums(source, kind, infinity, left, self.shift, fine, found):
                return None
        return found.T

    def histogram_within(
        self, raw: Unsigned, candidates: Flags, first: int, span: int, shift: int = 0
    ) -> tuple[int, NDArray[np.uint32]]:
        """Return how many candidates have keys below `first`, and the numbers of those from there to `first + span`.

        These are counted by their distance from `first`, without its lowest `shift` bits.
        """
        below, counts = 0, np.zeros((span >> shift) + 1, np.uint32)
        for source, kind, infinity, left in self._pieces(raw, candidates):
            found = kernel.histogram(source, kind, infinity, left, shift=shift, first=first, span=span)
            if found is None:
                keys, of = _candidate_keys(source, kind, infinity, left), source.dtype.type
                inside = (keys[(keys >= of(first)) & (keys <= of(first + span))] - of(first)) >> of(shift)
                part = np.bincount(inside.astype(np.int64), minlength=counts.size).astype(np.uint32)
                found = int(np.count_nonzero(keys < of(first))), part
            below += found[0]
            counts += found[1]
        return below, counts

    def count(self, raw: Unsigned, candidates: Flags, threshold: int) -> tuple[int, int]:
        """Return how many candidates have keys below a threshold, and how many have that key."""
        below = equal = 0
        for source, kind, infinity, left in self._pieces(raw, candidates):
            found = kernel.below(source, kind, infinity, left, threshold, None, None)
            if found is None:
                keys, key = _candidate_keys(source, kind, infinity, left), source.dtype.type(threshold)
                found = int(np.count_nonzero(keys < key)), int(np.count_nonzero(keys == key))
            below, equal = below + found[0], equal + found[1]
        return below, equal

    def write_below(self, raw: Unsigned, threshold: int, out: Flags, tied: Flags | None = None) -> NDArray[np.int64]:
        """Write into `out` which elements have keys below a threshold.

        Returns the places of those of the candidates `tied` that have that key, in order; none without `tied`.
        """
        places, start = [np.empty(0, np.int64)], 0
        candidates = np.broadcast_to(np.False_, out.shape) if tied is None else tied
        for source, kind, infinity, left in self._pieces(raw, candidates):
            part = out[start : start + source.size]
            room = None if tied is None else np.empty(source.size, np.uint32)
            found = kernel.below(source, kind, infinity, left if room is not None else None, threshold, part, room)
            if found is not None:
                places += [] if room is None else [room[: found[0]].astype(np.int64) + start]
            else:
                keys, key = _candidate_keys(source, kind, infinity, None), source.dtype.type(threshold)
                np.less(keys, key, out=part)
                if tied is not None:
                    equal = keys == key
                    places.append(np.flatnonzero(equal if left is None else equal & left) + start)
            start += source.size
        return np.concatenate(places)

    def outermost(self, raw: Unsigned, flags: Flags, *, zeros: bool) -> tuple[int, int, int]:
        """Return the number of elements with a flag, their smallest key, and the largest key of the others.

        If the flags mark `zeros`: the number of elements without a flag, their smallest key, and the largest key of
        all. If there are no such elements, the smallest key is the largest number of the type, and the largest key 0.
        """
        source, kind, infinity = self._prepared(raw)
        found = kernel.outermost(source, kind, infinity, flags, zeros=zeros)
        if found is not None:
            return found
        keys = _candidate_keys(source, kind, infinity, None)
        left, above = (~flags, keys) if zeros else (flags, keys[~flags])
        least = int(keys[left].min(initial=np.iinfo(keys.dtype).max))
        return int(np.count_nonzero(left)), least, int(above.max(initial=0))

    def values(self, keys: Keys) -> NDArray[np.float64]:
        """Return the values of keys, magnitudes or signed numbers; the value of the key of NaN is any NaN."""
        kind = self.common or self.dtype
        if kind in FLOAT8:
            table, values = np.full(256, np.nan), float8_values(kind)
            table[_float8_keys(kind, self.signed)] = values if self.signed else np.abs(values)
            return table[keys]
        if kind in _INTEGERS:
            if self.signed and kind[0] == "i":
                keys = (keys ^ keys.dtype.type(1 << (self.bits - 1))).view(kind)
            return np.asarray(keys, dtype=np.float64)
        width = _WIDTHS[kind]
        bits, half = keys.astype(np.uint64), np.uint64((1 << (8 * width - 1)) - 1)
        if self.signed:
            lower = bits < half
            bits = np.where(lower, (half - bits) | (half + np.uint64(1)), bits - half)
        return _floats(bits.astype(f"u{width}"), kind).astype(np.float64)

    def _pieces(self, raw: Unsigned, candidates: Flags) -> Iterator[tuple[Keys, Kind, int, Flags | None]]:
        """Yield elements that the kernel can take, how, and their candidates, None if these are all.

        That is everything at once if it need not be converted.
        """
        everything = are_all_true(candidates)
        step = raw.size if self._is_direct(raw) else _PIECE
        for start in range(0, raw.size, max(step, 1)):
            part = slice(start, start + step)
            yield *self._prepared(raw[part]), None if everything else candidates[part]

    def _is_direct(self, raw: Unsigned) -> bool:
        return not self.common and raw.dtype.isnative and self.dtype in _WIDTHS

    def _prepared(self, raw: Unsigned) -> tuple[Keys, Kind, int]:
        """Return elements as the kernel takes them: as they are if their bits have an order, else as keys."""
        kind = Kind.SIGNED if self.signed else Kind.MAGNITUDE
        native: Keys = raw.astype(raw.dtype.newbyteorder("="), copy=False)
        if self.common:
            return _widened(native, self.dtype, self.common), kind, _INFINITIES[self.common]
        if self.dtype in _WIDTHS:
            return native, kind, _INFINITIES[self.dtype]
        if self.dtype in FLOAT8:
            return _float8_keys(self.dtype, self.signed)[native], Kind.AS_IS, 0
        if self.dtype[0] == "u":
            return native, Kind.AS_IS, 0
        if self.signed:
            return native ^ native.dtype.type(1 << (self.bits - 1)), Kind.AS_IS, 0
        return np.abs(native.view(self.dtype)).view(native.dtype), Kind.AS_IS, 0


def common_orders(types: Mapping[str, str], *, signed: bool = False) -> dict[str, Order]:
    """Return orders whose keys can be compared, given the types of tensors by name.

    Raises:
        UsageError: a type has no order, or integers are among other types.
    """
    orders = {name: Order.of(name, dtype, signed=signed) for name, dtype in types.items()}
    several = sorted(set(types.values()))
    if len(several) < 2:
        return orders
    for name, dtype in types.items():
        if dtype in _INTEGERS:
            other = next(each for each in several if each != dtype)
            raise UsageError(f"integers are ordered among themselves only: {show(name)} is {dtype}, others are {other}")
    common = "float64" if "float64" in several else "float32"
    return {name: Order(dtype, signed, "" if dtype == common else common) for name, dtype in types.items()}


def occurrences(found: Keys) -> tuple[Keys, NDArray[np.int64]]:
    """Return the numbers that occur in sorted ones, and how often; of few, several times as fast as `unique` of numpy.

    >>> occurrences(np.array([3, 3, 7], np.uint8))
    (array([3, 7], dtype=uint8), array([2, 1]))
    """
    first = np.ones(found.size, np.bool_)
    np.not_equal(found[1:], found[:-1], out=first[1:])
    places = first.nonzero()[0]
    counts = np.empty_like(places)
    np.subtract(places[1:], places[:-1], out=counts[:-1])
    counts[-1:] = found.size - places[-1:]
    return found[places], counts


def _candidate_keys(raw: Keys, kind: Kind, infinity: int, left: Flags | None) -> Keys:
    keys = np.empty(raw.shape, dtype=raw.dtype)
    _write_keys(raw, kind, infinity, keys)
    return keys if left is None else keys[left]


def _write_keys(raw: Keys, kind: Kind, infinity: int, out: Keys) -> None:
    """Write keys, as the kernel does."""
    if kind == Kind.AS_IS:
        out[:] = raw
        return
    of = raw.dtype.type
    largest = of((1 << (8 * raw.itemsize - 1)) - 1)
    magnitude = raw & largest
    nan = magnitude > of(infinity)
    if kind == Kind.SIGNED:
        out[:] = np.where(raw > largest, largest - magnitude, largest + magnitude)
        out[nan] = of((1 << 8 * raw.itemsize) - 1)
    else:
        out[:] = magnitude
        out[nan] = largest


def _floats(bits: Keys, kind: str) -> NDArray[Any]:
    if kind == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(kind)


def _widened(native: Keys, dtype: str, common: str) -> Keys:
    """Return the bits of elements in a wider floating type."""
    floats = float8_values(dtype)[native] if dtype in FLOAT8 else _floats(native, dtype)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return floats.astype(common).view(f"u{_WIDTHS[common]}")


@functools.cache
def _float8_keys(dtype: str, signed: bool) -> NDArray[np.uint8]:
    """Return the key of each pattern: its rank among the values of the type."""
    values = float8_values(dtype)
    shown = values if signed else np.abs(values)
    ranks = np.searchsorted(np.unique(shown[~np.isnan(shown)]), shown).astype(np.uint8)
    return np.where(np.isnan(shown), np.uint8(255), ranks)
