"""Groups of elements, of each of which the smallest are dropped."""

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.raw_elements import Flags, Unsigned, are_all_true
from prunecli.core.tie_words import tie_words

__all__ = ["count_dropped", "drop_smallest"]


_RUN = 1 << 16
"""Elements that numpy orders at once: it needs 32 bytes for each."""


def drop_smallest(
    keys: Unsigned | None, candidates: Flags, out: Flags, *, size: int, inner: int, kept: int, tie_key: int, start: int
) -> None:
    """Write into `out` which candidates are dropped: of each group all but the `kept` ones with the largest keys.

    A group consists of `size` elements, `inner` places apart; arrays contain whole groups, and begin with element
    `start` of the tensor. Equal keys are in the order of their tie words, as are all elements without `keys`.
    """
    some = None if are_all_true(candidates) else candidates
    if kernel.drop_smallest(keys, some, out, size, inner, kept, tie_key & ((1 << 64) - 1), start):
        return
    slab = size * inner
    step = max(_RUN // slab, 1) * slab
    for low in range(0, out.size, step):
        run = slice(low, low + step)
        words, grouped = tie_words(tie_key, np.arange(start + low, start + low + out[run].size)), (-1, size, inner)
        left = candidates[run].reshape(grouped)
        values = [] if keys is None else [keys[run].reshape(grouped)]
        order = np.lexsort((words.reshape(grouped), *values, ~left), axis=1)
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(size)[:, np.newaxis], axis=1)
        np.less(ranks, _surplus(left, kept)[:, np.newaxis], out=out[run].reshape(grouped))


def count_dropped(candidates: Flags, *, size: int, inner: int, kept: int) -> int:
    """Return how many elements of all groups are dropped."""
    return int(_surplus(candidates.reshape(-1, size, inner), kept).sum(dtype=np.int64))


def _surplus(candidates: Flags, kept: int) -> NDArray[np.int32]:
    found: NDArray[np.int32] = candidates.sum(axis=1, dtype=np.int32)
    found -= np.int32(kept)
    np.maximum(found, 0, out=found)
    return found
