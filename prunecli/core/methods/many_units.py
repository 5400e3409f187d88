"""The choice among very many units of a tensor, in passes that keep a few bits of each unit instead of its sum.

This needs bands: short runs of elements that contain whole units, as rows of a matrix contain its blocks of one row.
Blocks of elements contain whole bands, so that each pass computes the sums of units again, and forgets them. As for
single elements, passes over histograms find a range of sums that contains the threshold. When it contains few units, or
equal ones only, a last pass finds out which units lie below the range, and which ones inside. The sums, and so the
dropped units, are those that `units` computes of fewer units.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.methods.base import Block, Choice
from prunecli.core.methods.geometry import Combine, Geometry, UnitSums, joined
from prunecli.core.order import Keys, Order
from prunecli.core.raw_elements import Flags
from prunecli.lean import dataclass

__all__ = ["BandScan", "ManyUnits", "Range", "packed"]

_SPAN = 16
"""The bits of keys by which a pass over histograms divides a range."""
_FEW = 1 << 18
"""The number of units in a range whose keys are kept."""
_ORDER = Order("float64", signed=True)

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Range:
    """The keys of sums from `first` on with the same bits above `bits`; `below` candidates have smaller ones.

    `inside` is the number of candidates with these keys, None before the first pass.
    """

    first: int = 0
    bits: int = 64
    below: int = 0
    inside: int | None = None


@dataclass(frozen=True, slots=True)
class ManyUnits:
    """The units of a tensor with a number of elements, and what is computed of them.

    The sums of each `run` of elements are computed by `measured`, which returns the numbers that are combined of a part
    of a block, and how many scores are negative there; None at random. If some elements were pruned before, units are
    `counted`. `amount` returns how many units are dropped, given the candidates and those that contain NaN. `draw`
    takes a number of equal units, and how many of them are dropped, and returns a function that draws them: from one
    rank to another.
    """

    geometry: Geometry
    elements: int
    run: int
    combine: Combine
    counted: bool
    measured: Callable[[Block, slice], tuple[Doubles, int]] | None
    amount: Callable[[int, int], int]
    draw: Callable[[int, int], Callable[[int, int], Flags]]


_Few = tuple[int, int, bytes, bytes, Keys]
"""Of consecutive units: the first, their number, flags of those below the range and inside, keys of those inside."""


class BandScan:
    """A pass over a tensor: a histogram of the keys in a range, or with `last` which units lie below and inside it.

    Once all is added, `advance` returns the next pass; without one, `dropped` are the flags of the dropped units. Each
    block that it looks at contains whole bands.
    """

    def __init__(self, wanted: ManyUnits, within: Range, count: int | None = None, *, last: bool = False) -> None:
        self._wanted, self._range, self._count, self._last = wanted, within, count, last
        self._sums: NDArray[np.int64] | None = None
        self._flags: dict[int, _Few] = {}
        self.nans = self.negative = 0
        self.dropped: bytes | None = None
        self.choice: Choice | None = None
        """What follows, if this was the last pass."""

    @np.errstate(over="ignore", invalid="ignore")
    def look(self, block: Block) -> Any:
        """Return what is found in a block."""
        keys, left, first, negative = self._keys(block)
        within = self._range
        low, high = np.uint64(within.first), np.uint64(within.first + (1 << within.bits) - 1)
        inside = (keys >= low) & (keys <= high)
        if left is not None:
            inside &= left
        if self._last:
            below = keys < low if left is None else (keys < low) & left
            kept = keys[inside] if self._keeps_keys else np.empty(0, np.uint64)
            return first, keys.size, np.packbits(below).tobytes(), np.packbits(inside).tobytes(), kept
        numbers = ((keys[inside] - low) >> np.uint64(within.bits - _SPAN)).astype(np.int64)
        counts = np.bincount(numbers)
        occurring = np.flatnonzero(counts)
        return occurring, counts[occurring], negative if within.inside is None else 0

    @property
    def _keeps_keys(self) -> bool:
        return 0 < self._range.bits < 64

    def _keys(self, block: Block) -> tuple[Keys, Flags | None, int, int]:
        """Return the keys of the sums of units, which of them are candidates, the first unit and negative scores."""
        wanted, negative = self._wanted, 0
        sums: dict[int, UnitSums] = {}
        counts: dict[int, UnitSums] = {}
        stop = block.start + block.candidates.size
        for number in range(block.start // wanted.run, -(-stop // wanted.run)):
            place = max(number * wanted.run, block.start)
            run = slice(place - block.start, min((number + 1) * wanted.run, stop) - block.start)
            if wanted.measured is not None:
                values, found = wanted.measured(block, run)
                negative += found
                sums[number] = wanted.geometry.sums(place, values, wanted.combine)
            if wanted.counted:
                left = block.candidates[run].astype(np.int32)
                counts[number] = wanted.geometry.sums(place, left, np.add)
        total = _in_order(sums, wanted, wanted.combine) if sums else None
        every = _in_order(counts, wanted, np.add) if counts else None
        units = total or every
        if units is None:
            raise ValueError("a pass over units that are neither compared nor counted")
        keys = np.zeros(units.values.size, np.uint64) if total is None else _ORDER.keys(total.values.view(np.uint64))
        return keys, None if every is None else every.values > 0, units.first, negative

    def add(self, found: Any) -> None:
        """Add a block."""
        if self._last:
            self._flags[found[0]] = found
            return
        numbers, counts, negative = found
        if self._sums is None:
            self._sums = np.zeros(1 << _SPAN, np.int64)
        self._sums[numbers] += counts
        self.negative += negative

    def drain(self) -> Any:
        """Return what was added, and reset."""
        sums, flags, negative = self._sums, self._flags, self.negative
        self._sums, self._flags, self.negative = None, {}, 0
        return None if sums is None and not flags else (sums, flags, negative)

    def merge(self, drained: Any) -> None:
        """Add what was drained."""
        sums, flags, negative = drained
        self._flags |= flags
        self.negative += negative
        if sums is not None:
            self._sums = sums if self._sums is None else self._sums + sums

    def advance(self) -> "BandScan | None":
        """Return the next pass; None after the last one.

        Raises:
            UsageError: there are fewer units than are to be dropped, or too few without NaN.
        """
        if self._last:
            self.dropped = packed(self._chosen())
            self._flags = {}
            return None
        within, sums = self._range, np.zeros(1 << _SPAN, np.int64) if self._sums is None else self._sums
        self._sums = None
        if within.inside is None:
            self.nans = int(sums[-1])  # only NaN has these bits
            self._count = self._wanted.amount(int(sums.sum()), self.nans)
        count = self._count or 0
        if not count:
            self.dropped = bytes(-(-self._wanted.geometry.count // 8))
            return None
        ends = np.add.accumulate(sums)
        number, bits = int(np.searchsorted(ends, count - within.below)), within.bits - _SPAN
        inside = int(sums[number])
        below = within.below + int(ends[number]) - inside
        narrow = Range(within.first + (number << bits), bits, below, inside)
        return BandScan(self._wanted, narrow, count, last=not bits or inside <= _FEW)

    def _chosen(self) -> Iterator[Flags]:
        """Yield the flags of the dropped units, those of a block after those of another."""
        blocks = [self._flags.pop(first) for first in sorted(self._flags)]
        within, wanted = self._range, self._wanted
        if within.inside is None:  # at random, among the candidates
            left = sum(_unpacked(each[3], each[1])[1] for each in blocks)
            threshold, equal = None, left
            draw = wanted.draw(left, wanted.amount(left, 0))
        else:
            share = (self._count or 0) - within.below
            keys = np.concatenate([each[4] for each in blocks]) if self._keeps_keys else None
            threshold = None if keys is None else np.partition(keys, share - 1)[share - 1]
            equal = within.inside if keys is None else int(np.count_nonzero(keys == threshold))
            share -= 0 if keys is None else int(np.count_nonzero(keys < threshold))
            draw = wanted.draw(equal, share)
        rank = 0
        for _, count, below, inside, own in blocks:
            (dropped, _), (tied, ties) = _unpacked(below, count), _unpacked(inside, count)
            places = np.flatnonzero(tied)
            if threshold is not None:
                dropped[places[own < threshold]] = True
                places = places[own == threshold]
                ties = places.size
            dropped[places] = draw(rank, rank + ties)
            rank += ties
            yield dropped


def packed(flags: Iterator[Flags]) -> bytes:
    """Return flags that come in parts, 8 to a byte, the first in the highest bit."""
    found, rest = bytearray(), np.empty(0, np.bool_)
    for part in flags:
        rest = np.concatenate([rest, part])
        whole = rest.size // 8 * 8
        found += np.packbits(rest[:whole]).data
        rest = rest[whole:]
    return bytes(found) + np.packbits(rest).tobytes()


def _unpacked(flags: bytes, count: int) -> tuple[Flags, int]:
    """Return some flags, and how many are set."""
    found: Flags = np.unpackbits(np.frombuffer(flags, np.uint8), count=count).view(np.bool_)
    return found, int(np.count_nonzero(found))


def _in_order(runs: dict[int, UnitSums], wanted: ManyUnits, combine: Combine) -> UnitSums:
    """Combine the sums of some runs in the order of the tree over all runs of the tensor.

    It is a tree over blocks, each of which is a tree over its runs. Runs that do not touch these units are left out.
    """
    each, units = BLOCK // wanted.run, wanted.geometry.count
    blocks: dict[int, dict[int, UnitSums]] = {}
    for number, sums in runs.items():
        blocks.setdefault(number // each, {})[number % each] = sums
    elements = wanted.elements
    whole = -(-elements // wanted.run)
    totals = {block: _tree(own, min(each, whole - block * each), units, combine) for block, own in blocks.items()}
    return _tree(totals, -(-elements // BLOCK), units, combine)


def _tree(leaves: dict[int, UnitSums], count: int, units: int, combine: Combine) -> UnitSums:
    """Combine some of `count` leaves: whole binary trees as large as possible, then these one after the other."""
    whole: list[tuple[int, UnitSums]] = []
    level = 0
    while leaves:
        above: dict[int, UnitSums] = {}
        for number in sorted(leaves):
            parent, sums = number // 2, leaves[number]
            if (parent + 1) << (level + 1) > count:
                whole.append((number << level, sums))
            else:
                above[parent] = joined(above[parent], sums, units, combine) if parent in above else sums
        leaves, level = above, level + 1
    ordered = [sums for _, sums in sorted(whole, key=lambda each: each[0])]
    return reduce(lambda one, other: joined(one, other, units, combine), ordered)
