"""N:M patterns in a tensor's zeros, computed from flags that arrive in runs, in any order.

An N:M pattern has at most N nonzero elements in every group of M neighbours along a dimension. Looked for are groups of
2, 4, 8 and 16 of which at most half are nonzero. Many zeros at random places have patterns, too, so a pattern counts
only where chance does not make it: in each part of some 65,000 elements, as many zeros at random would leave more than
N nonzero elements in 20 groups, and in one of 32. A dense or randomly pruned tensor is refuted by its first part. As
soon as some elements refute a pattern, whatever comes later does not matter, so the other elements are not looked at.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.array_text import packed, unpacked
from prunecli.core.structure.counter import Window
from prunecli.core.structure.flags import most_kept
from prunecli.core.structure.model import Pattern
from prunecli.lean import dataclass

__all__ = ["PatternCounter", "PatternLook", "pattern_look"]

_SIZES = (2, 4, 8, 16)
"""The sizes of groups."""

_PART = 1 << 16
"""The smallest number of elements that is judged by itself, in a larger tensor."""

_BAND = 1 << 19
"""The largest number of elements from the first one of a group to the last one of those beside it: half a block."""

_SURE, _OFTEN, _STEPS = 20, 32, 256
"""How many groups chance would have to spoil, so that it leaves the pattern once in e**20 times, and one in how many.

The share of elements that chance would leave is rounded up to a multiple of one in `_STEPS`.
"""


@dataclass(frozen=True, slots=True)
class _Line:
    """The groups along a dimension, whose elements lie `inner` apart, of the sizes 2, 4, ... in `sizes`.

    `part` is the number of elements of all parts but the last, which is up to twice as long.
    """

    dim: int
    inner: int
    sizes: Sequence[int]
    elements: int
    part: int
    parts: int

    def bound(self, index: int) -> int:
        """Return the first element of a part, or the number of all elements."""
        return self.elements if index == self.parts else index * self.part

    def is_refuted(self, zero: Flags, caps: bytes) -> bool:
        """Whether a part refutes all sizes."""
        own = caps[: len(self.sizes)]
        return most_kept(zero, self.inner, own) == own

    def examine(self, zero: Flags, most: list[int], refuted: list[bool]) -> None:
        """Update the largest number of nonzero elements in groups of each size, and what a whole part refutes."""
        caps = _caps_of(zero)[: len(self.sizes)]
        found = most_kept(zero, self.inner, caps)
        for at, (kept, cap) in enumerate(zip(found, caps, strict=True)):
            most[at] = max(most[at], kept)
            if kept == cap:
                refuted[at] = True

    def examine_some(self, kept: NDArray[np.int64], refuted: list[bool]) -> None:
        """Note which sizes have a group with too many of some nonzero elements, given by their indices."""
        place, beside = np.divmod(kept, self.inner)
        for at, size in enumerate(self.sizes):
            groups = place // size * self.inner + beside
            if groups.size and np.unique(groups, return_counts=True)[1].max() > size // 2:
                refuted[at] = True


@dataclass(slots=True)
class _Found:
    """What some elements show along a dimension: the largest numbers of nonzero ones, and which sizes are refuted.

    Parts that have not arrived as a whole come as packed flags of nonzero elements, from a byte on, or as indices.
    """

    most: list[int]
    refuted: list[bool]
    ends: Sequence[tuple[int, NDArray[np.uint8]]] = ()
    places: NDArray[np.int64] | None = None


class PatternLook:
    """What is looked for in the elements of a tensor, along each of its `lines`; threads share it.

    `refuted`: there is no pattern. `_refuted` has a flag for each size along each line, set once and never unset.
    """

    __slots__ = ("_refuted", "_width", "elements", "lines", "refuted")

    def __init__(self, shape: Sequence[int]) -> None:
        self.elements, self._width, self.refuted = math.prod(shape), math.prod(shape[1:]), False
        self.lines = _lines_of(tuple(shape), _PART)
        self._refuted = [[False] * len(line.sizes) for line in self.lines]

    def look(self, first: int, zero: Flags, window: Window | None = None) -> Sequence[_Found] | None:
        """Return the findings in a run of elements, see `StructureCounter.look`; None if there is no pattern."""
        if not self.refuted and zero.size == self.elements <= _PART:
            caps = _caps_of(zero)  # all sizes of most small tensors are refuted at once
            self.refuted = all(line.is_refuted(zero, caps) for line in self.lines)
        if self.refuted:
            return None
        top, left, wide = window or (0, 0, self._width)
        if wide != self._width:
            row, column = np.divmod(np.arange(first, first + zero.size), wide)
            return self.look_at((top + row) * self._width + left + column, zero)
        start = top * wide + first
        return self._concluded(
            [_look_at_run(*each, start, zero) for each in zip(self.lines, self._refuted, strict=True)]
        )

    def look_at(self, logical: NDArray[np.int64], zero: Flags) -> Sequence[_Found] | None:
        """Return the findings in elements, given by their row-major indices; None if there is no pattern."""
        if self.refuted:
            return None
        kept, found = logical[~zero], []
        for line, refuted in zip(self.lines, self._refuted, strict=True):
            line.examine_some(kept[:_PART], refuted)
            found.append(_Found([0] * len(line.sizes), refuted.copy(), places=None if all(refuted) else kept))
        return self._concluded(found)

    def _concluded(self, found: Sequence[_Found]) -> Sequence[_Found] | None:
        if not any(False in each.refuted for each in found):
            self.refuted = True
            return None
        return found


class PatternCounter:
    """The findings in all elements of a tensor, which each arrive once.

    >>> look = PatternLook((64, 64))
    >>> counter = PatternCounter(look)
    >>> counter.add(look.look(0, np.tile([True, True, False, False], 1024)))
    >>> counter.result(density=0.5)
    (Pattern(n_of_m='2:4', dim=1),)
    """

    __slots__ = ("_bits", "_found", "_look", "_refuted")

    def __init__(self, look: PatternLook) -> None:
        self._look = look
        self._refuted = False
        self._found: list[_Found] | None = None
        self._bits: list[NDArray[np.uint8] | None] = []

    def add(self, found: Sequence[_Found] | None) -> None:
        """Add the findings in some elements."""
        if found is None:
            self._refuted, self._found = True, None
        if found is None or self._refuted:
            return
        if self._found is None:
            self._found = [_Found([0] * len(each.most), [False] * len(each.most)) for each in found]
            self._bits = [None] * len(found)
        for at, (own, new) in enumerate(zip(self._found, found, strict=True)):
            own.most = list(map(max, own.most, new.most))
            own.refuted = [one or other for one, other in zip(own.refuted, new.refuted, strict=True)]
            if all(own.refuted):
                self._bits[at] = None
            elif new.ends or new.places is not None:
                self._add_bits(at, new)

    def drain(self) -> list[Any] | bool | None:
        """Return the sum as JSON data, and reset the counter; None if nothing was added."""
        refuted, found, bits = self._refuted, self._found, self._bits
        self._refuted, self._found, self._bits = False, None, []
        if refuted or found is None:
            return False if refuted else None
        return [
            [each.most, each.refuted, None if own is None else packed(own)]
            for each, own in zip(found, bits, strict=True)
        ]

    def merge(self, drained: Sequence[Any] | bool) -> None:
        """Add the result of `drain` of a counter of the same tensor."""
        if isinstance(drained, bool):
            self.add(None)
        else:
            self.add([_Found(most, no, [] if bits is None else [(0, unpacked(bits))]) for most, no, bits in drained])

    def result(self, density: float) -> tuple[Pattern, ...]:
        """Return the tightest pattern along each dimension that has one, after every element has arrived.

        `density` is the share of nonzero elements outside the empty rows and columns. There, at least half as many
        elements as in the pattern must be zero: a few empty columns can have a pattern by chance.
        """
        if self._refuted or self._found is None:
            return ()
        tightest = []
        for line, found, bits in zip(self._look.lines, self._found, self._bits, strict=True):
            most, refuted = found.most.copy(), found.refuted.copy()
            if bits is not None:
                _examine_bits(line, bits, most, refuted)
            holding = [
                (most / size, size, most)
                for size, most, no in zip(line.sizes, most, refuted, strict=True)
                if not no and most and 2 * density <= 1 + most / size
            ]
            if holding:
                _, size, kept = min(holding)
                tightest.append(Pattern(f"{kept}:{size}", line.dim))
        return tuple(tightest)

    def _add_bits(self, at: int, new: _Found) -> None:
        bits = self._bits[at]
        if bits is None:
            self._bits[at] = bits = np.zeros(-(-self._look.elements // 8), dtype=np.uint8)
        for start, flags in new.ends:
            bits[start : start + flags.size] |= flags
        if new.places is not None:
            np.bitwise_or.at(bits, new.places >> 3, np.uint8(0x80) >> (new.places & 7).astype(np.uint8))


def pattern_look(shape: Sequence[int]) -> PatternLook | None:
    """Return how to look at a tensor; None for vectors, and for tensors that are too small to show a pattern."""
    return PatternLook(shape) if len(shape) > 1 and math.prod(shape) >= 4 * _SURE else None


@lru_cache(maxsize=256)
def _lines_of(shape: Sequence[int], least: int) -> Sequence[_Line]:
    """Return the dimensions of a matrix, of a tensor of three dimensions, and outputs and inputs of a convolution.

    Parts have some `least` elements. Dimensions without groups are left out.
    """
    elements, lines = math.prod(shape), []
    for dim in range(len(shape) if len(shape) <= 3 else 2):
        inner = math.prod(shape[dim + 1 :])
        sizes = [size for size in _SIZES if shape[dim] % size == 0 and size * inner <= _BAND]
        if sizes:
            band = sizes[-1] * inner
            part = band * max(1, least // band)
            lines.append(_Line(dim, inner, sizes, elements, part, max(1, elements // part)))
    return lines


def _look_at_run(line: _Line, refuted: list[bool], first: int, zero: Flags) -> _Found:
    """Return the findings along a dimension in a run of elements in row-major order from `first` on."""
    most, stop = [0] * len(line.sizes), first + zero.size
    low = min(-(-first // line.part), line.parts)
    high = line.parts if stop == line.elements else min(stop // line.part, line.parts - 1)
    begin = end = zero.size
    if low < high:
        begin, end = line.bound(low) - first, line.bound(high) - first
    for index in range(low, high):
        if all(refuted):
            break
        line.examine(zero[line.bound(index) - first : line.bound(index + 1) - first], most, refuted)
    found = _Found(most, refuted.copy())
    if not all(found.refuted):
        ends = [(own, cut) for own, cut in ((0, zero[:begin]), (end, zero[end:])) if cut.size]
        found.ends = [_packed_kept(first + own, cut) for own, cut in ends]
    return found


def _packed_kept(first: int, zero: Flags) -> tuple[int, NDArray[np.uint8]]:
    """Return packed flags of the nonzero elements, and the number of the byte with that of the first element."""
    padded = np.zeros(first % 8 + zero.size, dtype=np.bool_)
    np.logical_not(zero, out=padded[first % 8 :])
    return first // 8, np.packbits(padded)


def _examine_bits(line: _Line, bits: NDArray[np.uint8], most: list[int], refuted: list[bool]) -> None:
    """Examine the parts of which some nonzero elements are in `bits`; no other part has any."""
    for index in range(line.parts):
        start, stop = line.bound(index), line.bound(index + 1)
        part = bits[start // 8 : -(-stop // 8)]
        if part.any() and not all(refuted):
            kept = np.unpackbits(part)[start % 8 :][: stop - start]
            line.examine(kept == 0, most, refuted)


def _caps_of(zero: Flags) -> bytes:
    """Return for each size the smallest N that a pattern cannot have in a part; 0 if too few elements are zero."""
    kept = zero.size - int(np.count_nonzero(zero))
    return bytes(len(_SIZES)) if 2 * kept > zero.size else _caps(zero.size, -(-kept * _STEPS // zero.size))


@lru_cache(maxsize=256)
def _caps(elements: int, steps: int) -> bytes:
    """Return for each size the smallest N that a pattern cannot have in `elements`; `steps` is the nonzero share.

    N is more than half of the size, or if the zeros lay at random places, fewer than `_SURE` groups, or than one in
    `_OFTEN`, would have N nonzero elements or more.
    """
    share, found = steps / _STEPS, []
    for size in _SIZES:
        more, bound, enough = 0.0, size, max(_SURE * size / elements, 1 / _OFTEN)
        while bound and more < enough:
            more += math.comb(size, bound) * share**bound * (1 - share) ** (size - bound)
            bound -= 1
        found.append(1 + (min(bound, size // 2) if more >= enough else 0))
    return bytes(found)
