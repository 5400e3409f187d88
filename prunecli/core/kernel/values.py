"""The part of the compiled kernel that turns elements into keys, which are in the order of their values."""

import ctypes
import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel

__all__ = ["Kind", "below", "drop_in_rows", "histogram", "keys", "outermost", "sums"]

_Counts = ctypes.c_int64 * 2


class Kind(enum.IntEnum):
    """How elements become keys: they are keys already, by magnitude, or as signed numbers."""

    AS_IS = 0
    MAGNITUDE = 1
    SIGNED = 2


def keys(raw: NDArray[Any], kind: Kind, infinity: int, out: NDArray[Any]) -> bool:
    """Write the keys of elements of at most 8 bytes into `out`; returns False if nothing was done."""
    library = _library(raw)
    if library is None or not out.flags.c_contiguous:
        return False
    library.prunecli_keys(kernel._address(raw), raw.size, raw.itemsize, kind, infinity, kernel._address(out))
    return True


def histogram(
    raw: NDArray[Any],
    kind: Kind,
    infinity: int,
    candidates: NDArray[np.bool_] | None,
    *,
    shift: int,
    bits: int = 0,
    first: int = 0,
    span: int = 0,
) -> tuple[int, NDArray[np.uint32]] | None:
    """Count keys as `order.Order.histogram` and `order.Order.histogram_within` do; None if nothing was done."""
    library = _library(raw, candidates)
    if library is None:
        return None
    counts = np.zeros((2, 1 << bits) if bits else (1, (span >> shift) + 1), dtype=np.uint32)
    left = None if candidates is None else kernel._address(candidates)
    place = kernel._address(raw), raw.size, raw.itemsize, kind, infinity, left
    found = library.prunecli_histogram(*place, shift, bits, first, span, kernel._address(counts))
    return found, counts[0] + counts[1] if bits else counts[0]


def sums(
    raw: NDArray[Any],
    kind: Kind,
    infinity: int,
    candidates: NDArray[np.bool_] | None,
    shift: int,
    fine: int,
    out: NDArray[np.uint64],
) -> bool:
    """Add to `out`, shape `(n, 3)`, what `order.Order.sums` returns of elements of 4 or 8 bytes.

    Returns False if nothing was done.
    """
    library = _library(raw, candidates)
    if library is None or raw.itemsize < 4:
        return False
    left = None if candidates is None else kernel._address(candidates)
    place = kernel._address(raw), raw.size, raw.itemsize, kind, infinity, left
    library.prunecli_sums(*place, shift, fine, kernel._address(out))
    return True


def below(
    raw: NDArray[Any],
    kind: Kind,
    infinity: int,
    candidates: NDArray[np.bool_] | None,
    threshold: int,
    out: NDArray[np.bool_] | None,
    tied: NDArray[np.uint32] | None,
) -> tuple[int, int] | None:
    """Compare keys to a threshold; None if nothing was done.

    With `out`, writes which are below it, and returns how many places of equal candidates were written to `tied`, and
    0. Without it, returns the numbers of candidates below it and equal to it.
    """
    library = _library(raw, candidates, out)
    if library is None or raw.size >= 1 << 32:
        return None
    counts = _Counts()
    left, flags, places = (None if each is None else kernel._address(each) for each in (candidates, out, tied))
    place = kernel._address(raw), raw.size, raw.itemsize, kind, infinity, left
    found = library.prunecli_below(*place, threshold, flags, places, ctypes.byref(counts))
    return (counts[0], counts[1]) if out is None else (found, 0)


def outermost(
    raw: NDArray[Any], kind: Kind, infinity: int, flags: NDArray[np.bool_], *, zeros: bool
) -> tuple[int, int, int] | None:
    """Return what `order.Order.outermost` does; None if nothing was done."""
    library = _library(raw, flags)
    if library is None:
        return None
    found = (ctypes.c_uint64 * 2)((1 << (8 * raw.itemsize)) - 1, 0)
    place = kernel._address(raw), raw.size, raw.itemsize, kind, infinity, kernel._address(flags)
    flagged: int = library.prunecli_outermost(*place, zeros, ctypes.byref(found))
    return raw.size - flagged if zeros else flagged, found[0], found[1]


def drop_in_rows(
    own: NDArray[Any],
    candidates: NDArray[np.bool_],
    counts: NDArray[np.int64],
    size: int,
    nan: int | None,
    tie_key: int,
    start: int,
    out: NDArray[np.bool_],
) -> int | None:
    """Flag the smallest keys of each row of `size` elements, as `row_ranks.drop_in_rows`; None if nothing was done.

    Returns the first row in which NaN would be dropped, or -1.

    Raises:
        MemoryError: there was not enough memory for a row.
    """
    library = _library(own, candidates, out)
    if library is None:
        return None
    arrays = kernel._address(own), own.itemsize, kernel._address(candidates), kernel._address(counts), counts.size, size
    key, has_nan = tie_key & ((1 << 64) - 1), nan is not None
    wrong: int = library.prunecli_drop_in_rows(*arrays, has_nan, nan or 0, key, start, kernel._address(out))
    if wrong < -1:
        raise MemoryError
    return wrong


def _library(raw: NDArray[Any], *flags: NDArray[np.bool_] | None) -> "ctypes.CDLL | None":  # a string, as in `kernel`
    """Return the library if it can work on these arrays."""
    library = kernel._library()
    suits = raw.itemsize <= 8 and raw.dtype.isnative and kernel._simple(raw, *flags)
    return library if suits else None
