"""Raw elements of any type: find zeros and ones, clear, scale, fill masks.

Elements are handled as unsigned integers of their width. So bf16 and the fp8 family, which numpy does not support, cost
as much as fp16 and int8, and kept elements stay the same to the bit. A complex number is a structured element of two
integers (numpy does not have 16-byte integers, and a file in the other byte order swaps each half by itself). A mask is
an array of booleans, True where kept.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.block import BLOCK
from prunecli.core.scratch import Buffer

__all__ = [
    "Flags",
    "Unsigned",
    "all_ones",
    "all_true",
    "are_all_true",
    "clear_dropped",
    "count_zeros",
    "fill_mask",
    "halves",
    "is_one",
    "is_zero",
    "scale",
    "unsigned",
]

Flags = NDArray[np.bool_]

Unsigned = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64] | NDArray[np.void]

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


_everything = np.ones(BLOCK, dtype=np.bool_)


def all_true(count: int) -> Flags:
    """Return `count` true flags, read-only."""
    return _everything[:count] if count <= BLOCK else np.ones(count, dtype=np.bool_)


def are_all_true(flags: Flags) -> bool:
    """Whether flags are all true; those of `all_true` are not read for that."""
    return flags.base is _everything or bool(flags.all())


def unsigned(data: NDArray[np.uint8], itemsize: int, *, big_endian: bool = False, paired: bool = False) -> Unsigned:
    """Return a view of raw bytes as unsigned integers of `itemsize` bytes, in the byte order of the file.

    With `paired`, the view has pairs of integers of half that size.
    """
    viewed: Unsigned = data.view(_dtype(itemsize, big_endian, paired))
    return viewed


@functools.cache
def _dtype(itemsize: int, big_endian: bool, paired: bool) -> np.dtype[Any]:
    dtype = np.dtype(_UNSIGNED[itemsize // 2 if paired else itemsize]).newbyteorder(">" if big_endian else "<")
    return np.dtype([("real", dtype), ("imag", dtype)]) if paired else dtype


def halves(raw: Unsigned) -> NDArray[Any]:
    """Return a view of pairs, shape `(n,)`, as integers of shape `(n, 2)`."""
    pairs: NDArray[Any] = raw
    return pairs.view(pairs.dtype[0]).reshape(-1, 2)


def clear_dropped(raw: Unsigned, keep: Flags) -> None:
    """Set every element that is not kept to all zero bits (+0.0), in place; shapes `(n,)`.

    This takes one multiplication by 0 or 1 per element, several times faster than numpy's masked assignments.
    """
    if raw.dtype.names is None:
        np.multiply(raw, keep.view(np.uint8), out=raw)
    elif raw.itemsize in _UNSIGNED:
        clear_dropped(raw.view(_UNSIGNED[raw.itemsize]), keep)
    else:
        parts = halves(raw)
        np.multiply(parts, keep.view(np.uint8)[:, np.newaxis], out=parts)


def is_zero(raw: Unsigned, *, signed_zero: bool, out: Flags, room: Buffer) -> Flags:
    """Write into `out` which elements are zero, and return it; with `signed_zero`, a lone sign bit (-0.0) is zero, too.

    Adding an element to itself shifts the sign bit out. A pair is zero if both of its numbers are zero.
    """
    if kernel.count_zeros(raw, _magnitude(raw.dtype, signed_zero), None, None, out, clear=False) is not None:
        return out
    pairs = raw.dtype.names is not None
    numbers: NDArray[Any] = halves(raw).reshape(-1) if pairs else raw
    if signed_zero:
        shifted = room.bytes(raw.nbytes).view(numbers.dtype)
        numbers = np.add(numbers, numbers, out=shifted)
    if pairs and raw.itemsize in _UNSIGNED:
        numbers = numbers.view(_UNSIGNED[raw.itemsize])
    elif pairs:
        numbers = np.bitwise_or(numbers[::2], numbers[1::2])
    np.equal(numbers, 0, out=out)
    return out


def count_zeros(
    raw: Unsigned,
    zero: Flags,
    room: Buffer,
    *,
    signed_zero: bool,
    before: Flags | None = None,
    keep: Flags | None = None,
    clear: bool = False,
    flags: bool = True,
) -> tuple[int, int]:
    """Return the numbers of zeros with the old mask `before` and with the new one, `keep`; None keeps everything.

    Dropped elements count as zeros. `zero` contains the flags of zeros with the new mask afterwards; without `flags`,
    arbitrary values. With `clear`, elements that are not kept are set to +0.0 once they are counted. Shapes `(n,)`.
    """
    magnitude = _magnitude(raw.dtype, signed_zero)
    counts = kernel.count_zeros(raw, magnitude, before, keep, zero if flags else None, clear=clear and keep is not None)
    if counts is not None:
        return counts
    is_zero(raw, signed_zero=signed_zero, out=zero, room=room)
    if before is not None:
        _or_not(zero, before)
    was = now = int(np.count_nonzero(zero))
    if keep is not None:
        _or_not(zero, keep)
        now = int(np.count_nonzero(zero))
        if clear:
            clear_dropped(raw, keep)
    return was, now


def _or_not(flags: Flags, others: Flags) -> None:
    """Set `flags` in place where `others` are false."""
    np.greater_equal(flags, others, out=flags)


@functools.cache
def _magnitude(dtype: np.dtype[Any], signed_zero: bool) -> int:
    """Return the bits of an element, read as a native integer, that are all 0 if and only if it is zero.

    Those of the second half of a pair of 8-byte numbers are the same as those of the first.
    """
    number = dtype if dtype.names is None else dtype[0]
    bits = (1 << (8 * number.itemsize - signed_zero)) - 1
    stored = bits.to_bytes(number.itemsize, "big" if number.byteorder == ">" else "little")
    return int.from_bytes((dtype.itemsize // number.itemsize * stored)[:8], "little")  # as the kernel's machines read


def is_one(raw: Unsigned, one: int) -> Flags:
    """Return which elements are the number one, with the bit pattern `one`; in a pair, this is the first number."""
    found: Flags = raw == (one if raw.dtype.names is None else np.array((one, 0), dtype=raw.dtype))
    return found


def all_ones(raw: Unsigned, one: int) -> bool:
    """Whether all elements are the number one, as `is_one`; takes one byte of memory per element, at most a block."""
    equal = kernel.all_equal(raw, one) if raw.dtype.names is None and raw.dtype.isnative else None
    pieces = (raw[start : start + BLOCK] for start in range(0, raw.size, BLOCK))
    return all(is_one(piece, one).all() for piece in pieces) if equal is None else equal


def fill_mask(raw: Unsigned, keep: Flags, one: int) -> None:
    """Set elements to one where kept, else to zero; `one` is the bit pattern of one, in a pair of its first number."""
    numbers: NDArray[Any] = raw
    if raw.dtype.isnative and raw.dtype.names is None and kernel.fill(raw, one, keep):
        return
    if raw.dtype.names is not None:
        numbers, imaginary = halves(raw).T
        imaginary[:] = 0
    np.multiply(keep.view(np.uint8), numbers.dtype.type(one), out=numbers)


def scale(raw: Unsigned, mask: Unsigned, kind: str) -> None:
    """Multiply elements by a mask of the same type with values other than 0 and 1, in place, and round as torch does.

    `kind` is the name of the element type (float64, float32, float16 or bfloat16); for complex numbers, of the halves.
    The caller must clear the elements that the mask drops: a masked infinity becomes NaN here.
    """
    with np.errstate(all="ignore"):
        if raw.dtype.names is None:
            raw[:] = _narrowed(_widened(raw, kind) * _widened(mask, kind), kind, raw.dtype)
            return
        # As in torch: the products are rounded before they are added; 16-bit types are rounded only at the end.
        parts = halves(raw)
        (real, imaginary), (by_real, by_imaginary) = (_widened(halves(each), kind).T for each in (raw, mask))
        products = real * by_real - imaginary * by_imaginary, real * by_imaginary + imaginary * by_real
        for column, product in zip(parts.T, products, strict=True):
            column[:] = _narrowed(product, kind, parts.dtype)


def _widened(raw: NDArray[Any], kind: str) -> NDArray[Any]:
    """Return numbers in the type for multiplication: 16-bit types are converted exactly to float32."""
    if kind == "bfloat16":
        widened: NDArray[np.uint32] = raw.astype(np.uint32) << np.uint32(16)
        return widened.view(np.float32)
    floating: NDArray[Any] = raw.view(np.dtype(kind).newbyteorder(raw.dtype.byteorder))
    return floating.astype(np.float32) if kind == "float16" else floating


def _narrowed(values: NDArray[Any], kind: str, like: np.dtype[Any]) -> NDArray[Any]:
    """Return numbers as integers of their original width, rounded to nearest, ties to even; NaNs stay NaNs."""
    if kind != "bfloat16":
        return values.astype(np.dtype(kind).newbyteorder(like.byteorder)).view(like)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded[np.isnan(values)] = 0x7FC0
    narrowed: NDArray[np.uint16] = rounded.astype(np.uint16)
    return narrowed
