"""Seeds, of whatever is drawn from them."""

import operator

import numpy as np

from prunecli.errors import UsageError

__all__ = ["check_seed"]


def check_seed(seed: object) -> int:
    """Return a seed, an integer of any type, as an int.

    Raises:
        TypeError: it is not an integer, or it is a bool.
        UsageError: it is negative, or has more than 128 bits.
    """
    if isinstance(seed, bool | np.bool_) or not hasattr(seed, "__index__"):
        raise TypeError(f"a seed is an int, not {type(seed).__name__} {seed!r}")
    value = operator.index(seed)
    if not 0 <= value < 1 << 128:
        raise UsageError("a seed is a whole number from 0 to 2**128 - 1")
    return value
