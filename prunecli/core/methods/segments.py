"""Segments of the keys of a layer, and bounds of the LAMP scores in them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.methods.base import Block
from prunecli.core.methods.ranked import elements_of
from prunecli.core.order import Order, occurrences
from prunecli.core.raw_elements import Unsigned
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["Doubles", "LayerScan", "Segments"]

_PIECE = 1 << 16
"""Elements whose sums are computed at once: these are exact in doubles."""
_FINE = 16
"""The bits below those of a segment that its sums take into account: all of them for float32."""
_STEP, _SEGMENTS = 12, 1 << 16
"""How many bits a pass adds at most, and how many segments of a layer it counts."""
_TINY = 1 << 8
"""Elements of a layer whose keys are all counted at once: hardly fewer segments would contain them."""
_SLACK = 1e-5
"""More than the rounding error of the bounds of a score, as a part of the score."""

Doubles = NDArray[np.float64]
Integers = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Ranges of keys that contain candidates of a layer, in order: those from `first` on with equal bits above `shift`.

    `sums`, shape `(3, n)`, are the numbers of candidates, the sums of their distances from the first key in units of
    the lowest bit that is taken into account, and the sums of the squares of these. All are integers, so that their
    order does not matter.
    """

    first: Integers
    shift: Integers
    sums: Integers

    def where(self, chosen: NDArray[np.bool_]) -> "Segments":
        """Return some of the segments."""
        return Segments(self.first[chosen], self.shift[chosen], self.sums[:, chosen])

    def joined(self, others: "Segments") -> "Segments":
        """Return these segments and others in the order of their keys."""
        first = np.concatenate([self.first, others.first])
        places = np.argsort(first)
        shift = np.concatenate([self.shift, others.shift])
        return Segments(first[places], shift[places], np.concatenate([self.sums, others.sums], axis=1)[:, places])

    def scores(self, order: Order, name: str) -> tuple[Doubles, Doubles]:
        """Return the bounds of the scores in each segment of the layer `name`, which are equal if it is a single key.

        Raises:
            UsageError: it has infinite weights.
        """
        low = order.values(self.first)
        if low.size and low[-1] == np.inf:
            raise UsageError(f"LAMP scores need finite weights, and {show(name)} has infinite ones")
        if not self.shift.any():
            low = np.ldexp(low, -int(np.frexp(low[-1])[1])) if low.size else low
            squares = low * low
            exact = _ratio(squares, np.add.accumulate((self.sums[0] * low * low)[::-1])[::-1])
            return exact, exact
        single, shift = self.shift == 0, self.shift.astype(np.int64)
        high = order.values(self.first + (np.uint64(1) << self.shift) - np.uint64(1))
        exponent = int(np.frexp(high[-1])[1]) if high.size else 0
        low, high = np.ldexp(low, -exponent), np.ldexp(high, -exponent)  # squares stay within the doubles
        unit = (high - low) / np.where(single, 1.0, np.ldexp(1.0, shift) - 1.0)
        unit = np.ldexp(unit, np.maximum(shift - _FINE, 0))
        count, distance, square = self.sums.astype(np.float64)
        inside = count * low * low + 2.0 * low * unit * distance + unit * unit * square
        from_here = np.add.accumulate(inside[::-1])[::-1]
        above = np.append(from_here[1:], 0.0)[: inside.size]
        exact = _ratio(low * low, from_here)
        most = _ratio(high * high, above + high * high)
        return np.where(single, exact, exact * (1.0 - _SLACK)), np.where(single, exact, most * (1.0 + _SLACK))


def _ratio(one: Doubles, other: Doubles) -> Doubles:
    return np.divide(one, other, out=np.zeros_like(one), where=other > 0.0)


_NONE = Segments(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty((3, 0), np.uint64))

_Found = tuple[int, int, Integers, Integers]
"""Of a block: its size, the bits of a part, the numbers of the parts that occur, and their sums."""


class LayerScan:
    """Divides segments `first` of a layer, whose bits above `shift` are equal, and counts parts of `1 << lower` keys.

    `rest` are the other segments of the layer.
    """

    def __init__(self, order: Order, elements: int, first: Integers, shift: int, rest: Segments = _NONE) -> None:
        self.order, self.elements, self.first, self.shift, self.rest = order, elements, first, shift, rest
        whole = shift == order.bits
        more = min(_STEP, (_SEGMENTS // first.size).bit_length() - 1)
        self.lower = order.shift if whole else max(shift - max(more, 1), 0)
        self.nans = 0
        self.counts: dict[str, int] | None = None
        """What follows for all layers; the first scan of the first pass keeps it."""
        self._sums: Integers | None = None
        self._seen = 0
        self._whole: _Found | None = None
        """What was found in a layer of one block, which takes less memory than the sums of all parts."""
        self._found: Segments | None = None

    def look(self, block: Block) -> _Found:
        """Return the size of a block, the numbers of the parts that occur in it, and their sums.

        The parts of a tiny layer are single keys.
        """
        raw = elements_of(block, scores=False)
        if raw.size == self.elements <= _TINY:
            keys, counts = occurrences(np.sort(self.order.keys(raw)[block.candidates]))
            found = np.zeros((3, keys.size), np.uint64)
            found[0] = counts
            return raw.size, 0, keys.astype(np.uint64), found
        sums = self._sums_of(raw, block)
        numbers = np.flatnonzero(sums[0]).astype(np.uint64)
        return raw.size, self.lower, numbers, sums[:, numbers].astype(np.uint64)

    def _sums_of(self, raw: Unsigned, block: Block) -> NDArray[Any]:
        """Return the sums of all parts; those of the first pass are computed by the kernel, if it is there."""
        if self.lower and self.shift == self.order.bits:
            found = self.order.sums(raw, block.candidates, min(self.lower, _FINE))
            if found is not None:
                return found
        sums = np.zeros((3, self.first.size << (self.shift - self.lower)))
        if self.lower == 0 and self.shift == self.order.bits:
            sums[0] = self.order.histogram(raw, block.candidates)
            return sums
        for start in range(0, raw.size, _PIECE):
            piece = slice(start, start + _PIECE)
            self._add_sums(self.order.keys(raw[piece])[block.candidates[piece]].astype(np.uint64), sums)
        return sums

    def _add_sums(self, keys: Integers, sums: Doubles) -> None:
        """Add those of some keys."""
        first, width = self.first, np.uint64(self.shift)
        if self.shift < self.order.bits:
            keys = keys[(keys >= first[0]) & (keys <= first[-1] + (np.uint64(1) << width) - np.uint64(1))]
        places = np.searchsorted(first, keys, side="right") - 1 if first.size > 1 else np.zeros(keys.size, np.int64)
        distances = keys - first[places]
        inside = distances >> width == 0
        if not inside.all():
            places, distances = places[inside], distances[inside]
        numbers = (places << (self.shift - self.lower)) + (distances >> np.uint64(self.lower)).astype(np.int64)
        fine = (distances & np.uint64((1 << self.lower) - 1)) >> np.uint64(max(self.lower - _FINE, 0))
        weights = fine.astype(np.float64)
        size = sums.shape[1]
        sums[0] += np.bincount(numbers, minlength=size)
        if self.lower:
            sums[1] += np.bincount(numbers, weights, size)
            sums[2] += np.bincount(numbers, weights * weights, size)

    def add(self, found: _Found) -> None:
        """Add a block, and forget what is not needed after the last one."""
        size, _, numbers, sums = found
        if size == self.elements:
            self._whole = found
            return
        if self._sums is None:
            self._sums = np.zeros((3, self.first.size << (self.shift - self.lower)), np.uint64)
        self._sums[:, numbers] += sums
        self._seen += size

    def drain(self) -> Any:
        """Return the sums, and reset them."""
        sums, seen, whole = self._sums, self._seen, self._whole
        self._sums, self._seen, self._whole = None, 0, None
        if sums is None:
            return whole
        numbers = np.flatnonzero(sums[0]).astype(np.uint64)
        return seen, self.lower, numbers, sums[:, numbers]

    merge = add

    @property
    def segments(self) -> Segments:
        """All segments of the layer after this pass, without that of NaN."""
        if self._found is None:
            _, shift, numbers, sums = self.drain() or (0, 0, np.empty(0, np.uint64), np.empty((3, 0), np.uint64))
            bits, lower = np.uint64(self.shift - shift), np.uint64(shift)
            first = self.first[numbers >> bits] + ((numbers & ((np.uint64(1) << bits) - np.uint64(1))) << lower)
            made = Segments(first, np.full(first.size, lower), sums)
            if self.order.nan is not None and self.shift == self.order.bits:
                is_nan = made.first >> lower == self.order.nan >> shift
                self.nans = int(made.sums[0, is_nan].sum())
                made = made.where(~is_nan)
            self._found = self.rest.joined(made) if self.rest.first.size else made
        return self._found

    def release(self) -> None:
        """Free the segments."""
        self._found, self.rest = None, _NONE

    def divided(self, chosen: NDArray[np.bool_]) -> "LayerScan":
        """Return a scan that divides those of the chosen segments that are largest."""
        segments = self.segments
        largest = chosen & (segments.shift == segments.shift[chosen].max())
        shift = int(segments.shift[largest][0])
        return LayerScan(self.order, self.elements, segments.first[largest], shift, segments.where(~largest))
