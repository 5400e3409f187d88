"""Kept elements times a factor of at least 1, in place, each rounded once to its own type."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Unsigned, halves

__all__ = ["RESCALABLE", "rescale"]

RESCALABLE = ("float64", "float32", "float16", "bfloat16")
"""The types whose elements can be multiplied, as can complex numbers of two of them."""

_PIECE = 1 << 16
"""Elements that are multiplied at once, which fit the cache of a processor; also the number of 16-bit patterns."""

_NATIVE = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def rescale(raw: Unsigned, factor: float, kind: str) -> bool:
    """Multiply elements of shape `(n,)`; infinities and NaNs stay as they are. Returns False if one became infinite.

    `kind` is the name of the element type, for complex numbers that of the halves. Products are computed in double
    precision, and rounded to nearest, ties to even.
    """
    numbers = raw if raw.dtype.names is None else halves(raw).reshape(-1)
    table = _table(factor, kind) if numbers.itemsize == 2 and numbers.size >= _PIECE else None
    fine = True
    for start in range(0, numbers.size, _PIECE):
        part = numbers[start : start + _PIECE]
        bits = part.astype(_NATIVE[part.itemsize], copy=False)
        made, overflows = _products(bits, factor, kind) if table is None else (table[0][bits], table[1][bits])
        fine = fine and not overflows.any()
        part[:] = made
    return fine


@functools.lru_cache(maxsize=4)
def _table(factor: float, kind: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the products of all patterns of a 16-bit type, and which of them overflow."""
    return _products(np.arange(1 << 16, dtype=np.uint16), factor, kind)


def _products(bits: NDArray[Any], factor: float, kind: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the products of native integers' floating values as such integers, and which of them overflow."""
    with np.errstate(all="ignore"):
        values = _values(bits, kind).astype(np.float64)
        finite = np.isfinite(values)
        values *= factor
        made = _rounded(values, kind)
        overflows = np.greater(finite, np.isfinite(_values(made, kind)))
    return np.where(finite, made, bits), overflows


def _values(bits: NDArray[Any], kind: str) -> NDArray[Any]:
    if kind == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(kind)


def _rounded(values: NDArray[np.float64], kind: str) -> NDArray[Any]:
    """Return doubles rounded to a type, as integers of its width."""
    if kind != "bfloat16":
        return values.astype(kind).view(_NATIVE[np.dtype(kind).itemsize])
    # Via float32 without a second rounding: what is inexact there gets an odd last bit, so that it is not a tie here.
    narrow = values.astype(np.float32)
    back, bits = narrow.astype(np.float64), narrow.view(np.uint32)
    bits -= (np.abs(back) > np.abs(values)).astype(np.uint32)
    bits |= (back != values).astype(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    made: NDArray[np.uint16] = rounded.astype(np.uint16)
    return made
