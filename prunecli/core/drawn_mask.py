"""A mask that is known by how it was drawn: one round of pruning after the other, each from the random stream."""

from collections.abc import Sequence

import numpy as np

from prunecli.core.random_stream import Subset, stream_key
from prunecli.core.raw_elements import Flags
from prunecli.lean import dataclass

__all__ = ["DrawnRound", "draw_kept"]


@dataclass(frozen=True, slots=True)
class DrawnRound:
    """A round of random pruning: `amount` of the `candidates` that were left were drawn by seed and key."""

    seed: int
    key: str
    candidates: int
    amount: int

    @property
    def subset(self) -> Subset:
        """The ranks of the candidates that were pruned."""
        return Subset(stream_key(self.seed, self.key, self.candidates), self.candidates, self.amount)


def draw_kept(subsets: Sequence[Subset], ranks: Sequence[int], out: Flags) -> list[int]:
    """Draw which elements of a run are kept after all rounds, and return how many were after each.

    `ranks` are those of the run's first candidate in each round; in the first round, all elements are candidates.
    """
    subsets[0].draw(ranks[0], out)
    np.logical_not(out, out=out)
    counts = [int(np.count_nonzero(out))]
    for subset, rank in zip(subsets[1:], ranks[1:], strict=True):
        places = np.flatnonzero(out)
        out[places[subset.span(rank, rank + places.size)]] = False
        counts.append(int(np.count_nonzero(out)))
    return counts
