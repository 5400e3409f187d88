"""The smallest of each slice of a target: of every row, or of every slice that is a layer of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.amount import Amount, check_amount
from prunecli.core.methods.base import Block, Choice, Target
from prunecli.core.methods.ranked import Numbers, Ranked
from prunecli.core.methods.slices import Counts, Slices
from prunecli.core.order import Keys
from prunecli.core.random_stream import stream_key
from prunecli.core.raw_elements import Flags
from prunecli.core.tie_words import tie_words
from prunecli.errors import UsageError
from prunecli.lean import dataclass

__all__ = ["choose_rows", "replay_rows"]


def choose_rows(target: Target, amounts: Amount | Sequence[int], seed: int, ranked: Ranked) -> Choice:
    """Return the choice of the smallest numbers of each slice, given an amount of each, or the numbers of elements.

    The method's blocks must not split a slice.

    Raises:
        UsageError: a slice has fewer candidates, or its numbers have no order.
        ValueError: the target has no slices, or the numbers are not those of its slices.
    """
    slices = target.slices
    if slices is None:
        raise ValueError(f"{target.key} has no slices")
    each = slices.choose(amounts, target.name)
    what = {"amount": amounts} if isinstance(amounts, int | float) else {"pruned": list(amounts)}
    key = stream_key(seed, target.key, target.candidates, purpose="prunecli/1/rows")
    return _RowChoice(slices, each, ranked.numbers(target), key, {"slices": slices.count, **what})


def replay_rows(target: Target, seed: int, pruned: int, recorded: Mapping[str, Any], ranked: Ranked) -> Choice:
    """Return the choice that was recorded.

    Raises:
        ValueError, KeyError, TypeError: it is not such a record.
    """
    given = recorded["pruned"] if "pruned" in recorded else check_amount(recorded["amount"])
    if not isinstance(given, int | float | list):
        raise ValueError("pruned is not a list")
    try:
        choice = choose_rows(target, given, seed, ranked)
    except UsageError as error:
        raise ValueError(str(error)) from None
    if choice.pruned != pruned:
        raise ValueError(f"{choice.pruned} instead of {pruned}")
    return choice


@dataclass(frozen=True, slots=True, eq=False)
class _RowChoice:
    """The smallest `amounts` of each slice; of equal ones those with the smallest tie words."""

    slices: Slices
    amounts: int | Counts
    numbers: Numbers
    tie_key: int
    record: dict[str, Any]

    @property
    def pruned(self) -> int:
        return self.amounts * self.slices.count if isinstance(self.amounts, int) else int(self.amounts.sum())

    def drop(self, block: Block, out: Flags) -> None:
        size = self.slices.size
        first, count = block.start // size, out.size // size
        if block.start % size or out.size % size:
            raise ValueError("a block splits a slice")
        amounts = self.amounts
        wanted = np.full(count, amounts) if isinstance(amounts, int) else amounts[first : first + count]
        place = (count, size)
        keys = self.numbers.keys(block).reshape(place)
        _drop_rows(keys, block.candidates.reshape(place), wanted, block.start, self.tie_key, out.reshape(place))

    def as_dict(self) -> dict[str, Any]:
        return self.record


def _drop_rows(keys: Keys, left: Flags, wanted: Counts, start: int, tie_key: int, out: Flags) -> None:
    """Write into `out`, shape `(rows, elements)` as the others, the `wanted` smallest candidates of each row."""
    if not left.all():
        keys = np.where(left, keys, keys.dtype.type((1 << 8 * keys.itemsize) - 1))
    last = np.maximum(wanted - 1, 0)
    ordered = np.partition(keys, np.unique(last), axis=1)
    thresholds = np.take_along_axis(ordered, last[:, np.newaxis], axis=1)
    np.less(keys, thresholds, out=out)
    equal = np.equal(keys, thresholds)
    equal &= left
    missing: NDArray[np.int64] = wanted - np.count_nonzero(out, axis=1)
    whole = missing == np.count_nonzero(equal, axis=1)
    out |= equal & whole[:, np.newaxis]
    equal[whole] = False
    rows, columns = np.nonzero(equal)
    words = tie_words(tie_key, start + rows * keys.shape[1] + columns)
    order = np.lexsort((words, rows))
    rows, columns = rows[order], columns[order]
    begin = np.searchsorted(rows, rows)
    taken = np.arange(rows.size) - begin < missing[rows]
    out[rows[taken], columns[taken]] = True
