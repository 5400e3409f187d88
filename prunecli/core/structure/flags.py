"""Fast functions on flags of zeros: bands and blocks of a matrix that are all zero, groups that are half zero."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.raw_elements import Flags
from prunecli.core.structure.model import BLOCK_SIDE

__all__ = ["bands_all_zero", "blocks_all_zero", "halved_groups", "halved_packed_groups", "most_kept"]

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int64)
_EIGHTS = (_BITS.sum(axis=1) >= 4).astype(np.int64)
_FOURS = (_BITS[:, :4].sum(axis=1) >= 2).astype(np.int64) + (_BITS[:, 4:].sum(axis=1) >= 2)
"""For a byte of eight flags: the number of its groups (of 8, of 4) in which at least half are zeros."""

_AT_ONCE = 1 << 20
"""The number of flags handled in one step if groups are strided."""

_FEW = 1 << 12
"""The number of flags that are examined first where all may not have to be."""

_EIGHT_ZEROS = np.uint64(0x0101010101010101)


def bands_all_zero(zero: Flags, row: int) -> Flags:
    """Return for each column of each band of blocks whether it is all zero; fastest for whole bands."""
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
    """Return for each block of each band whether it is all zero, eight flags at a time; bands begin at `column`."""
    wide = bands.shape[1]
    left, right = column % BLOCK_SIDE, -(column + wide) % BLOCK_SIDE
    padded = bands
    if left or right:
        padded = np.ones((bands.shape[0], left + wide + right), dtype=np.bool_)
        padded[:, left : left + wide] = bands
    words = padded.view(np.uint64).reshape(bands.shape[0], -1, BLOCK_SIDE // 8)
    full: Flags = (words[..., 0] & words[..., 1]) == _EIGHT_ZEROS
    return full


def halved_groups(flags: Flags, stride: int = 1) -> tuple[int, int]:
    """Return the number of groups of 4, and of groups of 8, in which at least half of the flags are set.

    The members of a group lie `stride` apart, so each run of 4 (or 8) times `stride` flags contains `stride` groups. A
    last half run for groups of 8 is not counted.
    """
    if stride == 1:
        found = kernel.halved_groups(flags)
        return halved_packed_groups(np.packbits(flags), 1, flags.size) if found is None else found
    groups_of_4 = eights = 0
    step = 8 * stride * max(1, _AT_ONCE // (8 * stride))
    for start in range(0, flags.size, step):
        part = flags[start : start + step].view(np.uint8).reshape(-1, 4, stride)
        counts = np.add.reduce(part, axis=1, dtype=np.uint8)
        groups_of_4 += int(np.count_nonzero(counts >= 2))
        pairs = counts[: len(counts) // 2 * 2].reshape(-1, 2, stride)
        eights += int(np.count_nonzero(pairs[:, 0] + pairs[:, 1] >= 4))
    return groups_of_4, eights


def halved_packed_groups(packed: NDArray[np.uint8], stride: int, count: int) -> tuple[int, int]:
    """Return the result of `halved_groups` for `count` packed flags, eight in a byte."""
    if stride == 1:
        found = np.bincount(packed, minlength=256)
        return int(found @ _FOURS), int(found @ _EIGHTS)
    groups_of_4 = eights = 0
    step = stride * max(1, _AT_ONCE // (8 * stride))  # bytes: whole groups of 8
    for start in range(0, packed.size, step):
        bits = np.unpackbits(packed[start : start + step], count=min(8 * step, count - 8 * start))
        more_fours, more_eights = halved_groups(bits.view(np.bool_), stride)
        groups_of_4, eights = groups_of_4 + more_fours, eights + more_eights
    return groups_of_4, eights


def most_kept(zero: Flags, inner: int, caps: bytes) -> bytes:
    """Return the largest number of nonzero elements in groups of 2, 4, ..., each at most its cap; a byte for each size.

    The elements of a group lie `inner` apart; the flags, shape `(n,)`, are whole groups of the largest size. Once some
    have shown that each number is its cap, the others are not looked at.
    """
    found = kernel.most_kept(zero, inner, caps) if any(caps) else caps
    if found is not None:
        return found
    band, most = inner << len(caps), bytes(len(caps))
    few = band * max(1, _FEW // band)
    for part in (zero[:few], zero[few:]):
        if part.size and most != caps:
            most = bytes(map(min, caps, map(max, most, _most_kept(part.view(np.uint8), inner, len(caps)))))
    return most


def _most_kept(counts: NDArray[np.uint8], inner: int, sizes: int) -> Iterator[int]:
    """Yield the largest number of nonzero elements in groups of each size, given which elements are zero."""
    for doubled in range(1, sizes + 1):
        if inner == 1:
            both = counts.view(np.uint16)
            counts = (both + (both >> 8)).astype(np.uint8)  # the low byte
        else:
            pairs = counts.reshape(-1, 2, inner)
            counts = (pairs[:, 0] + pairs[:, 1]).reshape(-1)
        yield (1 << doubled) - int(np.minimum.reduce(counts))
