"""Rows of elements, of each of which the smallest are dropped."""

import numpy as np
from numpy.typing import NDArray

from prunecli.core.kernel import values as kernel
from prunecli.core.order import Keys
from prunecli.core.raw_elements import Flags
from prunecli.core.tie_words import tie_words

__all__ = ["drop_in_rows"]


def drop_in_rows(
    keys: Keys,
    candidates: Flags,
    counts: NDArray[np.int64],
    size: int,
    nan: int | None,
    tie_key: int,
    start: int,
    out: Flags,
) -> int:
    """Write into `out` which candidates are dropped: of each row of `size` elements the `counts[row]` smallest.

    Equal keys are in the order of their tie words; `start` is the position of the first element. Returns the first row
    in which an element with the key `nan` would be dropped, or -1.
    """
    wrong = kernel.drop_in_rows(keys, candidates, counts, size, nan, tie_key, start, out)
    if wrong is not None:
        return wrong
    out.fill(False)
    for row, count in enumerate(counts.tolist()):
        if not count:
            continue
        places = np.flatnonzero(candidates[row * size : (row + 1) * size]) + row * size
        own = keys[places]
        threshold = np.partition(own, count - 1)[count - 1]
        if int(threshold) == nan:
            return row
        below, tied = places[own < threshold], places[own == threshold]
        out[below] = True
        out[tied[np.argsort(tie_words(tie_key, tied + start))[: count - below.size]]] = True
    return -1
