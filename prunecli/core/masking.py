"""Masks on raw blocks: zero elements of any type, count zeros, and the digest that identifies a mask.

Elements are seen as unsigned integers of their width, so that bf16 and the fp8 family, which numpy does not know, cost
what fp16 and int8 cost, and what is kept is kept to the bit. A mask is an array of booleans, True where kept.
"""

import hashlib
import threading
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunecli.core.scratch import Scratch

__all__ = ["MaskDigest", "Unsigned", "clear_dropped", "is_zero", "scale", "unsigned"]

Unsigned = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.uint32] | NDArray[np.uint64]

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

DIGEST_BLOCK = 1 << 20
"""Elements to a leaf of a mask's digest."""


def unsigned(data: NDArray[np.uint8], itemsize: int, *, big_endian: bool = False) -> Unsigned:
    """See raw bytes as unsigned integers of `itemsize` bytes, in the byte order of the file; shares memory."""
    dtype = np.dtype(_UNSIGNED[itemsize]).newbyteorder(">" if big_endian else "<")
    viewed: Unsigned = data.view(dtype)
    return viewed


def clear_dropped(raw: Unsigned, keep: NDArray[np.bool_]) -> None:
    """Set every element that is not kept to all zero bits (+0.0), in place; shapes `(n,)`.

    One multiplication by 0 or 1 an element, several times faster than numpy's masked assignments.
    """
    np.multiply(raw, keep.view(np.uint8), out=raw)


_scratch = Scratch()


def is_zero(raw: Unsigned, *, signed_zero: bool, out: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which elements are zero, into `out`; with `signed_zero`, the lone sign bit (-0.0) is one too.

    Adding an element to itself shifts the sign bit out.
    """
    if not signed_zero:
        np.equal(raw, 0, out=out)
        return out
    shifted = _scratch.bytes("shifted", raw.nbytes).view(raw.dtype)
    np.equal(np.add(raw, raw, out=shifted), 0, out=out)
    return out


class MaskDigest:
    """The digest that names a mask in reports, gathered block by block in any order.

    SHA-256 over the SHA-256 digests of the packed bits (`numpy.packbits`, True where kept) of every 2**20 elements in
    row-major order. A tree, so that threads need not wait for each other.
    """

    def __init__(self) -> None:
        self._leaves: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def add(self, start: int, keep: NDArray[np.bool_]) -> None:
        """Take in the elements from `start`, a multiple of 2**20, on; at most one block of them."""
        leaf = hashlib.sha256(np.packbits(keep).data).digest()
        with self._lock:
            self._leaves[start // DIGEST_BLOCK] = leaf

    def take(self) -> dict[int, bytes]:
        """Hand over the leaves that were added, by block, and begin anew: what one process tells another."""
        with self._lock:
            leaves, self._leaves = self._leaves, {}
        return leaves

    def give(self, leaves: Mapping[int, bytes]) -> None:
        """Take in leaves that were handed over."""
        with self._lock:
            self._leaves.update(leaves)

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        return hashlib.sha256(b"".join(leaf for _, leaf in sorted(self._leaves.items()))).hexdigest()


def scale(raw: Unsigned, mask: Unsigned, kind: str) -> None:
    """Multiply elements by a mask of their own type that holds more than 0 and 1, in place, rounding as torch does.

    `kind` is the element type's name: float64, float32, float16 or bfloat16. What the mask drops is for the caller to
    clear: a masked infinity has become NaN here.
    """
    with np.errstate(all="ignore"):
        if kind == "bfloat16":
            product = _from_bfloat16(raw) * _from_bfloat16(mask)
            raw[:] = _to_bfloat16(product)
        else:
            floating = np.dtype(kind).newbyteorder(raw.dtype.byteorder)
            np.multiply(raw.view(floating), mask.view(floating), out=raw.view(floating))


def _from_bfloat16(raw: Unsigned) -> NDArray[np.float32]:
    widened = raw.astype(np.uint32) << np.uint32(16)
    return widened.view(np.float32)


def _to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; NaNs stay NaNs."""
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded[np.isnan(values)] = 0x7FC0
    narrowed: NDArray[np.uint16] = rounded.astype(np.uint16)
    return narrowed
