"""Tie words: a random number for each element, which orders elements that are equal otherwise."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["tie_words"]

_STEP = 0x9E3779B97F4A7C15
_LOW = (1 << 64) - 1


def tie_words(key: int, positions: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the words of the elements at positions in the stream of a key, different for different positions.

    They are outputs of SplitMix64 (Steele, Lea and Flood 2014), which can be computed in any order: position i has the
    output i + 1 of the generator whose seed is the low half of the key. The compiled kernel computes the same words.
    """
    words = positions.astype(np.uint64)
    words += np.uint64(1)
    words *= np.uint64(_STEP)
    words += np.uint64(key & _LOW)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words ^= words >> np.uint64(shift)
        words *= np.uint64(factor)
    words ^= words >> np.uint64(31)
    return words
