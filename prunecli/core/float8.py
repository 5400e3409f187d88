"""The values of the types with eight bits, which numpy does not have."""

import functools

import numpy as np
from numpy.typing import NDArray

from prunecli.lean import dataclass

__all__ = ["FLOAT8", "float8_values"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The bits of the fraction, the bias of the exponent, and what the largest exponent means.

    A type is `finite` if only the largest fraction of the largest exponent is NaN; in a `unsigned_zero` type, only the
    pattern of -0.0 is.
    """

    fraction: int
    bias: int
    finite: bool = False
    unsigned_zero: bool = False


FLOAT8 = {
    "float8_e4m3fn": _Layout(3, 7, finite=True),
    "float8_e5m2": _Layout(2, 15),
    "float8_e4m3fnuz": _Layout(3, 8, unsigned_zero=True),
    "float8_e5m2fnuz": _Layout(2, 16, unsigned_zero=True),
}
"""The types by torch's names for them."""


@functools.cache
def float8_values(dtype: str) -> NDArray[np.float64]:
    """Return the value of each of the 256 patterns of a type."""
    layout, patterns = FLOAT8[dtype], np.arange(256)
    ones = (1 << layout.fraction) - 1
    exponent, fraction = (patterns & 0x7F) >> layout.fraction, patterns & ones
    normal = exponent > 0
    steps = np.where(normal, fraction + ones + 1, fraction).astype(np.float64)
    values: NDArray[np.float64] = np.ldexp(steps, np.where(normal, exponent, 1) - layout.bias - layout.fraction)
    values = np.where(patterns > 0x7F, -values, values)
    if layout.unsigned_zero:
        values[0x80] = np.nan
    elif layout.finite:
        values[[0x7F, 0xFF]] = np.nan
    else:
        top = exponent == 0x7F >> layout.fraction
        values[top & (fraction == 0)] *= np.inf
        values[top & (fraction > 0)] = np.nan
    return values
