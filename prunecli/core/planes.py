"""Elements taken apart for storage: kept ones moved together, numbers split into planes of their bytes, and back.

The bytes of a number are not alike: the exponents of weights take few values, their mantissas all. So a compressor
gets the first byte of all numbers, then the second of all, and so on. The sign, which is random, moves from the top to
the lowest place, beside the mantissa. The compiled kernel does the same in a fraction of the time.

All arrays are bytes of shape `(n,)`. Results lie in the `room` that is given for them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.raw_elements import Flags
from prunecli.core.scratch import Buffer

__all__ = ["SPARE", "gather", "merge_planes", "scatter", "split_planes"]

SPARE = 16
"""Bytes of memory behind the values of `scatter`, which may be read."""

_Bytes = NDArray[np.uint8]


def gather(raw: _Bytes, width: int, keep: Flags, kept: int, room: Buffer) -> _Bytes | None:
    """Return the bytes of the `kept` elements of `width` bytes that the flags keep; None if others have other bits."""
    out = room.bytes(raw.size)
    lost = kernel.gather(raw, width, keep, out)
    if lost is not None:
        return None if lost else out[: kept * width]
    if raw.reshape(-1, width)[~keep].any():
        return None
    return raw.view(f"V{width}")[keep].view(np.uint8)


def scatter(values: _Bytes, width: int, keep: Flags, out: _Bytes) -> None:
    """Write elements to where the flags keep some, and zeros elsewhere; the memory of `values` ends `SPARE` later."""
    if not kernel.scatter(values, width, keep, out):
        out.fill(0)
        out.view(f"V{width}")[keep] = values.view(f"V{width}")


def split_planes(raw: _Bytes, width: int, room: Buffer, *, rotate: bool, swap: bool) -> _Bytes:
    """Return the planes of numbers of `width` bytes one after the other, that of the lowest bytes first.

    With `rotate`, the sign bit moves to the lowest place; with `swap`, the numbers are big-endian.
    """
    if width == 1 and not rotate:
        return raw
    if swap:
        raw = _swapped(raw, width)
    planes = room.bytes(raw.size)
    if kernel.split_planes(raw, width, planes, rotate=rotate):
        return planes
    numbers: NDArray[Any] = raw.view(f"<u{width}")
    if rotate:
        one, back = numbers.dtype.type(1), numbers.dtype.type(8 * width - 1)
        numbers = (numbers << one) | (numbers >> back)
    planes.reshape(width, -1)[:] = numbers.view(np.uint8).reshape(-1, width).T
    return planes


def merge_planes(planes: Sequence[_Bytes], out: _Bytes, *, rotate: bool, swap: bool) -> None:
    """Write the numbers of planes, the reverse of `split_planes`; the planes may lie anywhere."""
    width = len(planes)
    if not kernel.merge_planes(planes, out, rotate=rotate):
        for byte, plane in enumerate(planes):
            out[byte::width] = plane
        if rotate:
            numbers: NDArray[Any] = out.view(f"<u{width}")
            one, back = numbers.dtype.type(1), numbers.dtype.type(8 * width - 1)
            numbers[:] = (numbers >> one) | (numbers << back)
    if swap:
        out[:] = _swapped(out, width)


def _swapped(raw: _Bytes, width: int) -> _Bytes:
    return np.ascontiguousarray(raw.reshape(-1, width)[:, ::-1]).reshape(-1)
