"""The threshold below which the smallest elements of some targets lie, found in passes over histograms of keys.

The first pass counts the upper 15 or 16 bits of all keys. One number of these contains the threshold, and each further
pass counts 16 more bits of the keys that have it. So 16-bit types need one pass, and float32 two. Which of the elements
that equal the threshold are dropped depends on their number in each block. So each block's counts near the expected
threshold are kept. A last pass counts the elements where the threshold turns out to be elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.methods.base import Block
from prunecli.core.methods.ranked import elements_of, nan_in_scores
from prunecli.core.order import Keys, Order, occurrences
from prunecli.core.raw_elements import Unsigned
from prunecli.lean import dataclass

__all__ = ["Counter", "Cut", "KeyRange", "Pool", "TargetShare"]

_NEAR, _NEAR_DEEPER = 256, 2048
"""How far around the expected threshold blocks keep their counts, in the first pass and in the others."""
_MOST, _MOST_EACH = 12 << 20, 1 << 10
"""The most bytes that these may take in a pool, and for each of its targets; beyond that, all are discarded."""
_FEW = 1 << 13
"""Elements that are sorted faster than a histogram of them is made."""

_RECORD = 400
"""About the bytes that a record takes besides its arrays."""

_Near = tuple[int, int, int, NDArray[np.uint16], NDArray[np.uint32]]
"""Of a block: candidates below a key, this key, the end of the keys that are kept, which of these occur, how often."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys that a pass counts: those from `first` on that have the same bits above `shift` + `bits`.

    `below` is the number of candidates with smaller keys, `inside` that of candidates with keys in the range.
    """

    first: int
    shift: int
    bits: int
    below: int
    inside: int


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the smallest end: all keys below `threshold`, and `equal` of the `tied` ones that have that key."""

    threshold: int
    equal: int
    tied: int


@dataclass(frozen=True, slots=True)
class TargetShare:
    """The part of a target: candidates below the threshold, tied ones, and tied ones before each block."""

    below: int
    tied: int
    before: Sequence[int]


class Pool:
    """Targets of which `count` elements are dropped together, and the sums of one pass over them.

    When all of their `elements` are counted, either the `next` range of keys is known, or the `cut`. `nans` candidates
    are NaN, `negative` ones are negative. A pass that only looks for the ties of some targets has the cut from the
    beginning (`known`).
    """

    def __init__(self, count: int, keys: KeyRange, known: Cut | None = None) -> None:
        self.count, self.keys, self.known = count, keys, known
        self.elements = 0
        self.counters: list[Counter] = []
        self.next: KeyRange | None = None
        self.cut: Cut | None = None
        self.nans = self.negative = 0
        self.forgetful = False
        self._sums: NDArray[np.int64] | None = None
        self._seen = self._stored = 0
        self._expected = 0, 0  # when this many elements were seen, this was the number of the threshold

    def join(self, order: Order, elements: int, name: str, *, scores: bool = False) -> "Counter":
        """Return the scan of a further target."""
        self.elements += elements
        self.counters.append(Counter(self, order, elements, name, scores=scores))
        return self.counters[-1]

    @property
    def finished(self) -> bool:
        """Whether the result is known."""
        return self.next is not None or self.cut is not None

    def add(self, size: int, numbers: NDArray[Any], counts: NDArray[Any]) -> None:
        """Add how often some numbers occur among `size` elements."""
        if self._sums is None:
            self._sums = np.zeros(1 << self.keys.bits, np.int64)
        self._sums[numbers] += counts
        self._seen += size

    def near(self, occurring: int) -> tuple[int, int]:
        """Return the range of numbers to keep of a block in which `occurring` ones occur: all, or those near the cut.

        The cut is the one expected from the blocks so far. It is computed again when more was seen.
        """
        keys, (seen, number) = self.keys, self._expected
        if self._sums is not None and 10 * self._seen > 11 * seen:
            ends = np.add.accumulate(self._sums)
            number = int(np.searchsorted(ends, (self.count - keys.below) / max(keys.inside, 1) * float(ends[-1])))
            self._expected = self._seen, number
        reach = _NEAR if keys.first == 0 else _NEAR_DEEPER
        if occurring <= 2 * reach:
            return 0, 1 << keys.bits
        return max(number - reach, 0), min(number + reach, 1 << keys.bits)

    def keep(self, size: int) -> bool:
        """Count bytes that counters keep; returns False, and makes all of them forget these, if there are too many."""
        self._stored += size
        if self._stored > _MOST + _MOST_EACH * len(self.counters) and self.known is None:
            self.forget()
        return not self.forgetful

    def forget(self) -> None:
        """Discard what is kept of blocks, and keep nothing from now on."""
        forgotten, self.forgetful = self.forgetful, True
        for each in () if forgotten else self.counters:
            each.blocks.clear()

    def drain(self) -> tuple[int, NDArray[Any], NDArray[Any]]:
        """Return the sums, and reset them."""
        sums, seen = self._sums, self._seen
        self._sums, self._seen, self._stored = None, 0, 0
        if sums is None:
            return 0, np.empty(0, np.int64), np.empty(0, np.int64)
        numbers = np.flatnonzero(sums)
        return seen, numbers, sums[numbers]

    def finish(self) -> None:
        """Find the result, once all elements were counted."""
        if self.finished or self._seen < self.elements or self._sums is None:
            return
        keys, ends = self.keys, np.add.accumulate(self._sums)
        if keys.shift + keys.bits == self.counters[0].order.bits:
            self._look_for_specials(self._sums)
        number = min(int(np.searchsorted(ends, self.count - keys.below)), ends.size - 1)
        inside, first = int(self._sums[number]), keys.first + (number << keys.shift)
        below = keys.below + int(ends[number]) - inside
        self._sums = None
        if keys.shift:
            self.next = KeyRange(first, keys.shift - 16, 16, below, inside)
            return
        self.cut = self.known or Cut(first, self.count - below, inside)
        for each in self.counters:
            each.settle(self.cut)

    def _look_for_specials(self, sums: NDArray[np.int64]) -> None:
        order = self.counters[0].order
        self.nans = 0 if order.nan is None else int(sums[-1])
        self.negative = int(sums[: order.zero >> self.keys.shift].sum()) if order.signed else 0


class Counter:
    """The scan of one target of a pool: its `name` is for messages, and its elements are the target's or its scores."""

    def __init__(self, pool: Pool, order: Order, elements: int, name: str, *, scores: bool) -> None:
        self.pool, self.order, self.elements, self.name, self.scores = pool, order, elements, name, scores
        self.blocks: dict[int, _Near] = {}
        self.share: TargetShare | None = None

    def look(self, block: Block) -> Any:
        """Return what is found in a block: its number and size, and its keys; of a whole target, the result at once."""
        raw = elements_of(block, scores=self.scores)
        if len(self.pool.counters) == 1 and raw.size == self.elements and self.pool.known is None:
            return self._result(block)
        below, numbers, counts = self._counted(raw, block)
        if self.pool.keys.first == 0 and numbers.size:
            self._check(int(numbers[-1]))
        return block.index, raw.size, below, numbers, counts

    def _result(self, block: Block) -> tuple[Cut, TargetShare | None, int, int]:
        """Return the cut of a target that is seen as a whole, its share, and how many are NaN and negative."""
        raw = elements_of(block, scores=self.scores)
        if raw.size <= _FEW:
            return self._result_of_few(np.sort(self.order.keys(raw)[block.candidates]))
        keys, first = self.pool.keys, None
        while True:
            pool = Pool(self.pool.count, keys)
            counter = pool.join(self.order, self.elements, self.name, scores=self.scores)
            below, numbers, counts = counter._counted(raw, block)
            if first is None and numbers.size:
                self._check(int(numbers[-1]))
            counter.add((block.index, raw.size, below, numbers, counts))
            first = first or pool
            if pool.next is None:
                return pool.cut or Cut(0, 0, 0), counter.share, first.nans, first.negative
            keys = pool.next

    def _result_of_few(self, keys: Keys) -> tuple[Cut, TargetShare | None, int, int]:
        """Return the same from the sorted keys of all candidates."""
        order, count, of = self.order, self.pool.count, keys.dtype.type
        threshold = keys[min(count, keys.size) - 1] if keys.size else of(0)
        below, end = int(keys.searchsorted(threshold)), int(keys.searchsorted(threshold, "right"))
        cut = Cut(int(threshold), count - below, end - below)
        nans = 0 if order.nan is None else keys.size - int(keys.searchsorted(of(order.nan)))
        if nans and self.scores:
            raise nan_in_scores(self.name)
        negative = int(keys.searchsorted(of(order.zero))) if order.signed else 0
        return cut, TargetShare(below, cut.tied, () if cut.equal == cut.tied else [0]), nans, negative

    def _check(self, largest: int) -> None:
        """Refuse scores that are NaN."""
        order, shift = self.order, self.pool.keys.shift
        if self.scores and order.nan is not None and largest == order.nan >> shift:
            raise nan_in_scores(self.name)

    def _counted(self, raw: Unsigned, block: Block) -> tuple[int, NDArray[Any], NDArray[Any]]:
        """Return how many candidates are below the range of keys, which numbers occur in it, and how often."""
        keys, order, candidates = self.pool.keys, self.order, block.candidates
        last = keys.first + (1 << keys.shift + keys.bits) - 1
        if raw.size <= _FEW:
            found = np.sort(order.keys(raw)[candidates])
            of = found.dtype.type
            start, stop = found.searchsorted(of(keys.first)), found.searchsorted(of(last), "right")
            numbers, counts = occurrences((found[start:stop] - of(keys.first)) >> of(keys.shift))
            return int(start), numbers, counts
        if keys.bits == 0:
            below, equal = order.count(raw, candidates, keys.first)
            return below, np.zeros(1, np.int64), np.array([equal])
        if keys.shift + keys.bits == order.bits:
            below, every = 0, order.histogram(raw, candidates)
        else:
            below, every = order.histogram_within(raw, candidates, keys.first, last - keys.first, keys.shift)
        occurring = np.flatnonzero(every)
        return below, occurring, every[occurring]

    def add(self, found: Any) -> None:
        """Add a block, or the result of the whole target."""
        if len(found) == 4:
            self.pool.cut, self.share, self.pool.nans, self.pool.negative = found
            return
        index, size, below, numbers, counts = found
        pool = self.pool
        pool.add(size, numbers, counts)
        if pool.keys.shift == 0 and not pool.forgetful:
            low, high = pool.near(numbers.size)
            start, stop = np.searchsorted(numbers, (low, high))
            near = (numbers[start:stop] - low).astype(np.uint16), counts[start:stop].astype(np.uint32)
            if pool.keep(_RECORD + near[0].nbytes + near[1].nbytes):
                first = pool.keys.first
                self.blocks[index] = below + int(counts[:start].sum()), first + low, first + high, *near
        if len(pool.counters) == 1:
            pool.finish()

    def drain(self) -> Any:
        """Return what was added, or the result if it is known, and reset."""
        pool, alone = self.pool, len(self.pool.counters) == 1
        if alone and pool.finished:
            result = pool.next, pool.cut, self.share, pool.nans, pool.negative
            pool.next = pool.cut = self.share = None
            return result
        seen, numbers, counts = pool.drain()
        blocks, self.blocks = self.blocks, {}
        return (seen, numbers, counts, blocks, pool.forgetful, None) if seen or blocks else None

    def merge(self, drained: Any) -> None:
        """Add what was drained."""
        pool = self.pool
        if len(drained) == 5:
            pool.next, pool.cut, self.share, pool.nans, pool.negative = drained
            return
        seen, numbers, counts, blocks, forgetful, _ = drained
        pool.add(seen, numbers, counts)
        if forgetful:
            pool.forget()
        if pool.keep(sum(_RECORD + each[3].nbytes + each[4].nbytes for each in blocks.values())):
            self.blocks |= blocks
        if len(pool.counters) == 1:
            pool.finish()

    def settle(self, cut: Cut) -> None:
        """Find the target's share of a cut, if what was kept of blocks says it."""
        blocks, self.blocks = self.blocks, {}
        if len(self.pool.counters) == 1 and self.pool.known is None and cut.equal == cut.tied:
            self.share = TargetShare(self.pool.count - cut.equal, cut.tied, ())
        if self.share is not None or self.pool.forgetful:
            return
        below, ends = 0, [0] * (max(blocks, default=-1) + 2)
        for index in range(len(ends) - 1):
            ends[index + 1] = ends[index]
            if index in blocks:
                smaller, low, high, numbers, counts = blocks[index]
                if not low <= cut.threshold < high:
                    return
                start, stop = np.searchsorted(numbers, (cut.threshold - low, cut.threshold - low + 1))
                below += smaller + int(counts[:start].sum())
                ends[index + 1] += int(counts[start:stop].sum())
        self.share = TargetShare(below, ends[-1], ends[:-1])
