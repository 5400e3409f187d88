"""The smallest elements of each row of a tensor, exact in every row; rows are its slices along the first dimension.

A row is chosen from its own elements alone, so nothing is counted before but for notes, and blocks contain whole rows.
Equal elements are in the order of their tie words.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Block, Target
from prunecli.core.methods.ranked import elements_of, nan_in_scores
from prunecli.core.methods.slices import Slices
from prunecli.core.order import Order
from prunecli.core.random_stream import stream_key
from prunecli.core.raw_elements import Flags
from prunecli.core.row_ranks import drop_in_rows
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["SmallestOfRows"]

_PURPOSE = "prunecli/1/ties/rows"
_LONGEST = 1 << 22
"""The most elements of a row, which is in memory as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class SmallestOfRows:
    """The smallest candidates of each slice. `amounts` are their numbers, `record` is what a report contains."""

    name: str
    order: Order
    slices: Slices
    amounts: int | NDArray[np.int64]
    key: int
    scores: bool
    record: dict[str, Any]

    @classmethod
    def of(
        cls, target: Target, amounts: Amount | Sequence[int], order: Order, seed: int, *, scores: bool
    ) -> "SmallestOfRows":
        """Return the choice for a target with slices.

        Raises:
            UsageError: a slice has fewer candidates, or is too long.
            ValueError: the target has no slices, or the numbers are not those of its slices.
        """
        slices = target.slices
        if slices is None:
            raise ValueError(f"{target.key} has no slices")
        if slices.size > _LONGEST:
            raise UsageError(
                f"rows of {show(target.name)} have {slices.size:,} elements, and those with more than {_LONGEST:,} "
                "cannot be ordered row by row; exclude it"
            )
        key = stream_key(seed, target.key, target.candidates, purpose=_PURPOSE)
        each = slices.choose(amounts, target.name)
        return cls(target.name, order, slices, each, key, scores, slices.record(amounts))

    @property
    def pruned(self) -> int:
        """The number of dropped elements."""
        return self.amounts * self.slices.count if isinstance(self.amounts, int) else int(self.amounts.sum())

    def drop(self, block: Block, out: Flags) -> None:
        """Write into `out` which elements of a block are dropped.

        Raises:
            UsageError: a row has too few elements that are not NaN, or a score is NaN.
            ValueError: the block does not contain whole rows.
        """
        size = self.slices.size
        first, begun = divmod(block.start, size)
        if begun or out.size % size:
            raise ValueError("a block begins or ends within a row")
        rows = slice(first, first + out.size // size)
        given = self.amounts
        counts = np.full(rows.stop - first, given) if isinstance(given, int) else np.ascontiguousarray(given[rows])
        keys = self.order.keys(elements_of(block, scores=self.scores))
        if self.scores and self.order.nan is not None and bool((block.candidates & (keys == self.order.nan)).any()):
            raise nan_in_scores(self.name)
        wrong = drop_in_rows(keys, block.candidates, counts, size, self.order.nan, self.key, block.start, out)
        if wrong >= 0:
            raise UsageError(
                f"cannot prune {int(counts[wrong]):,} elements of row {first + wrong} of {show(self.name)}: too many "
                "are NaN, which is not smaller than anything"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return what replays the choice: the number of slices, and an amount of each or the numbers of elements."""
        return self.record
