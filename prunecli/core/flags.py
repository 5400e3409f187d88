"""Quick looks at flags of zeros: bands and blocks of a matrix that hold nothing else, groups of which half are."""

import numpy as np
from numpy.typing import NDArray

from prunecli.core.structure import BLOCK_SIDE

__all__ = ["bands_all_zero", "blocks_all_zero", "halved_groups"]

Flags = NDArray[np.bool_]

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int64)
_EIGHTS = (_BITS.sum(axis=1) >= 4).astype(np.int64)
_FOURS = (_BITS[:, :4].sum(axis=1) >= 2).astype(np.int64) + (_BITS[:, 4:].sum(axis=1) >= 2)
"""How many groups of 8, and of 4, a byte of eight flags has in which half are zeros."""

_EIGHT_ZEROS = np.uint64(0x0101010101010101)


def bands_all_zero(zero: Flags, row: int) -> Flags:
    """Tell of each column in each band of blocks whether all is zero; fastest where the band is whole."""
    side = BLOCK_SIDE
    head = min(-row % side, zero.shape[0])
    whole = (zero.shape[0] - head) // side * side
    bands: list[Flags] = []
    if head:
        bands.append(np.logical_and.reduce(zero[:head], axis=0, keepdims=True))
    if whole:
        middle = zero[head : head + whole].reshape(whole // side, side, -1)
        bands.append(np.logical_and.reduce(middle, axis=1))
    if head + whole < zero.shape[0]:
        bands.append(np.logical_and.reduce(zero[head + whole :], axis=0, keepdims=True))
    joined: Flags = np.concatenate(bands)
    return joined


def blocks_all_zero(bands: Flags, column: int) -> Flags:
    """Tell of each block in each band whether all is zero, eight flags at a time; the bands begin at `column`."""
    wide = bands.shape[1]
    left, right = column % BLOCK_SIDE, -(column + wide) % BLOCK_SIDE
    padded = bands
    if left or right:
        padded = np.ones((bands.shape[0], left + wide + right), dtype=np.bool_)
        padded[:, left : left + wide] = bands
    words = padded.view(np.uint64).reshape(bands.shape[0], -1, BLOCK_SIDE // 8)
    full: Flags = (words[..., 0] & words[..., 1]) == _EIGHT_ZEROS
    return full


def halved_groups(packed: NDArray[np.uint8]) -> tuple[int, int]:
    """Return in how many groups of 4, and of 8, flags of packed ones half or more are set."""
    found = np.bincount(packed, minlength=256)
    return int(found @ _FOURS), int(found @ _EIGHTS)
