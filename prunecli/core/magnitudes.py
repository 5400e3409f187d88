"""Whether the smallest values of a parameter were pruned, from elements that arrive in runs, in any order.

With a mask: no dropped value is larger than a kept one. Without a mask: there is a gap between zero and what is left,
which chance does not leave. Most parameters contradict that in their first few elements. As soon as some elements do,
whatever comes later does not matter, so the other elements are not looked at, and the answer is the same.
"""

from collections.abc import Sequence
from dataclasses import field

import numpy as np

from prunecli.core.order import Order
from prunecli.core.raw_elements import Flags, Unsigned
from prunecli.errors import UsageError
from prunecli.lean import dataclass

__all__ = ["MagnitudeCounter", "MagnitudeLook", "magnitude_look"]

_FIRST, _LAST, _MORE = 1 << 13, 1 << 21, 4
"""The number of elements that are looked at in the first step, and at most, and how much larger each step is."""
_GAP, _SHARE = 20, 1 << 12
"""How wide the gap must be: that many times the mean distance of the magnitudes left, if they were spread evenly.

Values that are left at random, and are at least as dense near zero as elsewhere, have one once in e**20 times. The gap
must also be at least one in `_SHARE` of the largest magnitude, which few elements of a dense parameter contradict.
"""


@dataclass(slots=True)
class MagnitudeLook:
    """What is compared in the elements of a parameter: dropped with kept values if it is `masked`, else what is left.

    Threads share it. `refuted` is set once any of them has seen that the answer is no, and is never unset.
    """

    order: Order
    elements: int
    masked: bool
    refuted: bool = False
    step: int = _FIRST
    nothing: tuple[int, int] = field(init=False)
    """The two keys where there are no values: above and below all keys."""
    tiny: int = field(init=False)
    """The key of the smallest number above zero."""

    def __post_init__(self) -> None:
        self.nothing, self.tiny = (1 << self.order.bits, -1), self.order.zero + 1

    def look(self, raw: Unsigned, flags: Flags) -> tuple[int, int] | None:
        """Return the key of the smallest value left in a run, and the largest of those that it is compared with.

        These are the dropped values, or all values without a mask. Returns None if the answer is no, and `nothing` if
        there are no values. `raw`, shape `(n,)`, is as stored; `flags` are the kept elements, or without a mask zeros.
        """
        least, most, start = *self.nothing, 0
        while start < raw.size:
            if self.refuted:
                return None
            step = self.step
            part, own = raw[start : start + step], flags[start : start + step]
            some, low, high = self.order.outermost(part, own, zeros=not self.masked)
            if some:
                least = min(least, low)
            if some < part.size if self.masked else some:
                most = max(most, high)
            if not self.holds(least, most, self.elements):
                self.refuted = True
            start, self.step = start + step, min(_MORE * step, _LAST)
        return None if self.refuted else (least, most)

    def holds(self, least: int, most: int, left: int) -> bool:
        """Whether the keys that `look` found fit a pruning of the smallest values that left at most `left` elements."""
        if self.masked or (least, most) == self.nothing:
            return most <= least
        if least <= self.tiny:
            return False
        small, large = self.order.values(np.array([least, most], dtype=np.uint64)).tolist()
        return bool(left * small > _GAP * large and _SHARE * small > large)


class MagnitudeCounter:
    """The findings in all elements of a parameter, which each arrive once.

    >>> look = MagnitudeLook(Order("uint8"), 4, masked=True)
    >>> counter = MagnitudeCounter(look)
    >>> counter.add(look.look(np.array([1, 2, 2, 3], np.uint8), np.array([False, False, True, True])))
    >>> counter.smallest_pruned
    True
    """

    def __init__(self, look: MagnitudeLook) -> None:
        self._look = look
        self._least, self._most = look.nothing
        self._refuted = False

    def add(self, found: Sequence[int] | None) -> None:
        """Add the findings in a run of elements."""
        if found is None:
            self._refuted = True
        else:
            self._least, self._most = min(self._least, found[0]), max(self._most, found[1])

    def drain(self) -> list[int] | bool | None:
        """Return the sum as JSON data, and reset the counter; None if nothing was added."""
        refuted, found = self._refuted, (self._least, self._most)
        (self._least, self._most), self._refuted = self._look.nothing, False
        return False if refuted else None if found == self._look.nothing else list(found)

    def merge(self, drained: Sequence[int] | bool) -> None:
        """Add the result of `drain` of a counter of the same parameter."""
        self.add(None if isinstance(drained, bool) else drained)

    @property
    def smallest_pruned(self) -> bool | None:
        """Whether no dropped value is larger than a kept one; None without a mask, or if it drops all or nothing."""
        nothing = self._look.nothing
        if not self._look.masked or (not self._refuted and (self._least == nothing[0] or self._most == nothing[1])):
            return None
        return not self._refuted and self._look.holds(self._least, self._most, self._look.elements)

    def smallest_left(self, zeros: int) -> float | None:
        """Return the smallest magnitude besides `zeros` zeros; None with a mask, or without a clear gap below it."""
        if self._look.masked or self._refuted or not zeros or self._most < 0:
            return None
        if not self._look.holds(self._least, self._most, self._look.elements - zeros):
            return None
        return float(self._look.order.values(np.array([self._least], dtype=np.uint64))[0])


def magnitude_look(name: str, dtype: str, elements: int, *, masked: bool) -> MagnitudeLook | None:
    """Return how to look at a parameter; None if its type has no order, or without a mask is not a floating type."""
    try:
        order = Order.of(name, dtype)
    except UsageError:
        return None
    return MagnitudeLook(order, elements, masked) if masked or order.nan is not None else None
