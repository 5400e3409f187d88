"""Slices of a tensor along its first dimension, each of which is drawn as a tensor of its own.

Slice 3 of `NAME` is drawn as a parameter named `NAME#3` would be: from the same stream, over its own candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.amount import Amount, check_amount
from prunecli.core.random_stream import draw_slices
from prunecli.core.raw_elements import Flags
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

if TYPE_CHECKING:
    from prunecli.core.methods.base import Block, Choice

__all__ = ["SlicedDraw", "Slices", "count_each", "replay_slices"]

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """The slices of a target: how many, and the elements of each.

    `candidates` are the unpruned elements of each slice; None if all elements are candidates.
    """

    count: int
    size: int
    candidates: Counts | None = None

    def record(self, amounts: "Amount | Sequence[int]") -> dict[str, Any]:
        """Return what a report contains of a choice slice by slice, given an amount of each or the numbers."""
        what = {"amount": amounts} if isinstance(amounts, int | float) else {"pruned": list(amounts)}
        return {"slices": self.count, **what}

    def left(self, number: int) -> int:
        """Return the number of candidates of a slice."""
        return self.size if self.candidates is None else int(self.candidates[number])

    def choose(self, amounts: "Amount | Sequence[int]", name: str) -> int | Counts:
        """Return how many elements of each slice are pruned: as `count_each`, or the given numbers themselves.

        Raises:
            ValueError: the given numbers are not one for each slice, within its candidates.
        """
        if isinstance(amounts, int | float):
            return count_each(amounts, self, name)
        if len(amounts) != self.count or not all(type(each) is int and 0 <= each <= self.size for each in amounts):
            raise ValueError(f"not {self.count} numbers up to {self.size}")
        found, left = np.array(amounts, dtype=np.int64), self.candidates
        if left is not None and bool((found > left).any()):
            raise ValueError("more than there are candidates")
        return found


def count_each(amount: Amount, slices: Slices, name: str) -> int | Counts:
    """Return how many elements of each slice an amount prunes, one number if it is the same for all.

    Raises:
        UsageError: a slice has fewer candidates than that.
    """
    left = slices.candidates
    if isinstance(amount, float):
        return round(amount * slices.size) if left is None else np.rint(amount * left).astype(np.int64)
    fewest = slices.size if left is None else int(left.min(initial=amount))
    if amount > fewest:
        has = f"a row has {fewest:,}" if left is None else f"{fewest:,} of row {int(left.argmin())} are left unpruned"
        raise UsageError(f"cannot prune {amount:,} elements of every row of {show(name)}: {has}")
    return amount


@dataclass(frozen=True, slots=True, eq=False)
class SlicedDraw:
    """A subset of the candidates of each slice. `amounts` are their sizes, `before` the candidates before each block.

    `record` is what a report contains. The rank of a candidate counts the candidates of its slice that precede it.
    """

    seed: int
    key: str
    slices: Slices
    amounts: int | Counts
    before: Sequence[int] | None
    record: dict[str, Any]

    @property
    def pruned(self) -> int:
        """The number of dropped elements."""
        return self.amounts * self.slices.count if isinstance(self.amounts, int) else int(self.amounts.sum())

    def drop(self, block: "Block", out: Flags) -> None:
        """Write into `out` which elements of a block are dropped."""
        size, left = self.slices.size, self.slices.candidates
        first, last = block.start // size, -(-(block.start + out.size) // size)
        if left is None or self.before is None:
            self._draw(first, last, block.start - first * size, out)
            return
        places = np.flatnonzero(block.candidates)
        drawn = np.empty(places.size, dtype=np.bool_)
        self._draw(first, last, self.before[block.index] - int(left[:first].sum()), drawn)
        out.fill(False)
        out[places] = drawn

    def _draw(self, first: int, last: int, rank: int, out: Flags) -> None:
        """Draw into `out` the candidates of the slices `first .. last - 1` one after the other, from a rank on."""
        count, left, amounts = last - first, self.slices.candidates, self.amounts
        sizes = np.full(count, self.slices.size) if left is None else left[first:last]
        most = np.full(count, amounts) if isinstance(amounts, int) else amounts[first:last]
        draw_slices(self.seed, self.key, first, sizes, most, rank, out)

    def as_dict(self) -> dict[str, Any]:
        """Return what replays the choice: the number of slices, and an amount of each or the numbers of elements."""
        return self.record


def replay_slices(
    choose: "Callable[[Amount | Sequence[int]], Choice]", pruned: int, recorded: Mapping[str, Any]
) -> "Choice":
    """Return what `choose` chooses by a record of slices.

    Raises:
        ValueError: the record contradicts itself, or the target.
    """
    if "pruned" in recorded and not isinstance(recorded["pruned"], list):
        raise ValueError("pruned is not a list")
    try:
        choice = choose(recorded["pruned"] if "pruned" in recorded else check_amount(recorded["amount"]))
    except UsageError as error:
        raise ValueError(str(error)) from None
    if choice.pruned != pruned:
        raise ValueError(f"{choice.pruned} instead of {pruned}")
    return choice
