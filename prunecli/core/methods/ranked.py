"""The numbers by which a method ranks elements: weights by magnitude, or scores."""

from abc import abstractmethod
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from prunecli.core.methods.base import Block, Method, Target
from prunecli.core.methods.request import MethodRequest
from prunecli.core.order import Keys, Order
from prunecli.core.raw_elements import Unsigned
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.terms import ABS_SCORES

__all__ = [
    "NAN_STAYS",
    "Numbers",
    "Ranked",
    "RankingMethod",
    "SpecialScan",
    "elements_of",
    "flawed_note",
    "nan_in_scores",
    "negative_note",
    "score_settings",
]

_RUN = 1 << 17
"""Scores that are examined at once."""

NAN_STAYS = "NaN is not smaller than anything, and stays"
"""The note on parameters that contain NaN."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The weights, or the `scores`; they are compared by magnitude, or as `signed` numbers."""

    scores: bool = False
    signed: bool = False

    @classmethod
    def of(cls, request: MethodRequest) -> "Ranked":
        """Return what the methods `l1` and `scores` compare."""
        scores = request.name == "scores"
        return cls(scores, scores and not request.abs_scores)

    def numbers(self, target: Target) -> "Numbers":
        """Return the numbers of a target.

        Raises:
            UsageError: their type has no order.
        """
        dtype = target.scores_dtype if self.scores else None
        return Numbers(target.name, self, Order.of(target.name, dtype or target.dtype, signed=self.signed))


@dataclass(frozen=True, slots=True)
class Numbers:
    """The weights or scores of the tensor with a name, in their order."""

    name: str
    ranked: Ranked
    order: Order

    def keys(self, block: Block) -> Keys:
        """Return keys that are in the order of the numbers of a block."""
        return self.order.keys(elements_of(block, scores=self.ranked.scores))

    def values(self, block: Block, run: slice) -> NDArray[np.float64]:
        """Return the numbers of a run of a block as doubles, in new memory.

        Raises:
            UsageError: a candidate's score is NaN.
        """
        keys = self.order.keys(elements_of(block, scores=self.ranked.scores)[run])
        values = self.order.values(keys)
        if self.order.nan is not None:
            values[keys == self.order.nan] = np.nan
        if self.ranked.scores and bool(np.isnan(values[block.candidates[run]]).any()):
            raise nan_in_scores(self.name)
        return values

    @property
    def has_special(self) -> bool:
        """Whether some of them can be special: scores, or weights of a type that has NaN."""
        return self.ranked.scores or self.order.nan is not None

    @np.errstate(invalid="ignore")  # a signalling NaN is a NaN
    def special(self, block: Block) -> tuple[int, int]:
        """Return how many candidates of a block are NaN among weights, and how many are negative among scores.

        Raises:
            UsageError: a candidate's score is NaN.
        """
        if not self.ranked.scores:
            return self._nans(block), 0
        negative = 0
        for start in range(0, block.candidates.size, _RUN):
            run = slice(start, start + _RUN)
            negative += int(np.count_nonzero((self.values(block, run) < 0) & block.candidates[run]))
        return 0, negative

    def _nans(self, block: Block) -> int:
        """Return how many candidates of a block are NaN; the largest number says at once whether there are any."""
        raw = elements_of(block, scores=self.ranked.scores)
        if self.order.nan is None or self.order.outermost(raw, block.candidates, zeros=True)[2] != self.order.nan:
            return 0
        return self.order.count(raw, block.candidates, self.order.nan)[1]


class SpecialScan:
    """Counts what notes mention: NaN among weights, and negative scores. Without numbers, there is nothing to count."""

    def __init__(self, numbers: Numbers | None) -> None:
        self._numbers = numbers
        self.nans = self.negative = 0

    def look(self, block: Block) -> tuple[int, ...]:
        """Return the numbers of a block."""
        return (0, 0) if self._numbers is None else self._numbers.special(block)

    def add(self, found: tuple[int, ...]) -> None:
        """Add a block."""
        self.nans += found[0]
        self.negative += found[1]

    def merge(self, drained: tuple[int, ...]) -> None:
        """Add what was drained."""
        self.add(drained)

    def drain(self) -> tuple[int, ...]:
        """Return the sums, and reset them."""
        drained = self.nans, self.negative
        self.nans = self.negative = 0
        return drained


class RankingMethod(Method):
    """A method that may compare weights or scores, and gets what it compares."""

    @abstractmethod
    def compared(self) -> Ranked | None:
        """Return what is compared; None if the method draws at random."""

    @property
    def reads_values(self) -> bool:
        """Whether it gets the elements of the weight."""
        compared = self.compared()
        return compared is not None and not compared.scores

    @property
    def reads_scores(self) -> bool:
        """Whether it gets scores."""
        compared = self.compared()
        return compared is not None and compared.scores


def elements_of(block: Block, *, scores: bool) -> Unsigned:
    """Return the elements of a block that are compared: those of the weight, or scores."""
    raw = block.scores if scores else block.weight
    if raw is None:
        raise ValueError("a block lacks the numbers that the method compares")
    return raw


def nan_in_scores(name: str) -> UsageError:
    """Return the error for scores of a tensor that contain NaN."""
    return UsageError(f"the scores of {show(name)} contain NaN, which is neither small nor large")


def score_settings(request: MethodRequest) -> tuple[str, ...]:
    """Return the settings about scores that a request may have: those of the method `scores`."""
    return ("scores", "abs_scores") if request.name == "scores" else ()


def flawed_note(what: str, counts: Iterable[tuple[str, int]]) -> list[str]:
    """Return a note on parameters that have a count of something other than 0, given by name; none without any."""
    found = [(name, count) for name, count in counts if count]
    if not found:
        return []
    (name, count), others = found[0], len(found) - 1
    more = f", and some of {others:,} more parameter{'s' * (others > 1)}" if others else ""
    return [f"{what}: {count:,} of {show(name, 60)}{more}"]


def negative_note(counts: Iterable[tuple[str, int]]) -> list[str]:
    """Return the note on negative scores, given their numbers by parameter."""
    return flawed_note(f"negative scores are pruned before 0 and positive ones (see {ABS_SCORES})", counts)
