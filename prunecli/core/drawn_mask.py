"""A mask that is known by how it was drawn: one round of pruning after the other, each from the random stream."""

from collections.abc import Iterable, Sequence

import numpy as np

from prunecli.core.random_stream import Subset, stream_key
from prunecli.core.raw_elements import Flags
from prunecli.lean import dataclass

__all__ = ["DrawnRound", "Draws", "draw_kept", "draws_of"]

Draws = Sequence[Subset]
"""The draws of the rounds of one mask, one after the other."""


@dataclass(frozen=True, slots=True)
class DrawnRound:
    """A round of random pruning: `amount` of the `candidates` that were left were drawn by seed and key."""

    seed: int
    key: str
    candidates: int
    amount: int


def draws_of(rounds: Iterable[DrawnRound]) -> Draws:
    """Return the draws of rounds: the ranks, among the candidates of each, of those that were pruned."""
    return [Subset(stream_key(each.seed, each.key, each.candidates), each.candidates, each.amount) for each in rounds]


def draw_kept(draws: Draws, ranks: Sequence[int], out: Flags) -> list[int]:
    """Draw which elements of a run are kept after all rounds, and return how many were after each.

    `ranks` are those of the run's first candidate in each round; in the first round, all elements are candidates.
    """
    draws[0].draw(ranks[0], out)
    np.logical_not(out, out=out)
    counts = [int(np.count_nonzero(out))]
    for subset, rank in zip(draws[1:], ranks[1:], strict=True):
        places = np.flatnonzero(out)
        out[places[subset.span(rank, rank + places.size)]] = False
        counts.append(int(np.count_nonzero(out)))
    return counts
