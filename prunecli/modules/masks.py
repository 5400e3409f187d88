"""Masks as torch tensors: made in pieces, of any dtype, with little memory beside the mask itself."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecli.core.block import BLOCK
from prunecli.core.random_stream import Subset
from prunecli.core.scratch import Buffer

__all__ = [
    "all_ones",
    "clear_chosen",
    "has_values",
    "kept_ones",
    "mask_from_flags",
    "mask_from_ones",
    "masked",
    "nonzero_flags",
    "ones_like",
]

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
"""By element size: integers to move elements as bits, whatever arithmetic torch has for their dtype; two for 16."""


def ones_like(like: Tensor) -> Tensor:
    """Return a mask of ones that takes the memory of one element."""
    return like.detach().new_ones(()).expand(like.shape)


def has_values(tensor: Tensor) -> bool:
    """Whether there are elements to look at: not on the meta device, nor in a `FakeTensor`, which lies there."""
    return tensor.untyped_storage().device.type != "meta"


def kept_ones(like: Tensor) -> Tensor:
    """Return a mask of ones with all its memory, where that is none."""
    return like.detach().new_ones(like.shape)


def _empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return a new tensor on the CPU, its values arbitrary.

    Numpy asks the kernel for huge pages and torch does not. First touches then cost a sixth, and would else be half
    of the time that a mask takes.
    """
    if not shape.numel():
        return torch.empty(shape, dtype=dtype, device="cpu")
    raw = np.empty(shape.numel() * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)


def all_ones(mask: Tensor) -> bool:
    """Tell whether a mask is seen to hold nothing but ones, at little cost: False where a look would take memory."""
    if mask.numel() and not any(mask.stride()):  # one element, expanded
        return bool(mask.flatten()[:1].to(torch.complex64 if mask.is_complex() else torch.float32) == 1)
    if mask.device.type != "cpu" or not mask.is_contiguous():
        return False
    raw = _bits(mask)
    one = _bits(torch.ones(1, dtype=mask.dtype, device="cpu"))[0]
    room = Buffer()
    pieces = (raw[start : start + BLOCK] for start in range(0, len(raw), BLOCK))
    return all(np.equal(piece, one, out=room.flags(piece.size).reshape(piece.shape)).all() for piece in pieces)


def mask_from_flags(keep: NDArray[np.bool_], like: Tensor) -> Tensor:
    """Return a new mask of the shape, dtype and device of `like`: 1 where `keep`, in row-major order, else 0."""
    mask = _empty(like.shape, like.dtype)
    raw = _bits(mask)
    np.multiply(_beside(keep, raw), _bits(torch.ones(1, dtype=like.dtype, device="cpu"))[0], out=raw)
    return mask.to(like.device)


def mask_from_ones(subset: Subset, like: Tensor) -> Tensor:
    """Return a new mask of the shape, dtype and device of `like`: 0 where `subset` chooses, else 1."""
    mask = _empty(like.shape, like.dtype)
    raw = _bits(mask)
    one = _bits(torch.ones(1, dtype=like.dtype, device="cpu"))[0]
    room = Buffer()
    for start in range(0, len(raw), BLOCK):
        piece = raw[start : start + BLOCK]
        keep = room.flags(len(piece))
        subset.draw(start, keep)
        np.multiply(_beside(np.logical_not(keep, out=keep), piece), one, out=piece)
    return mask.to(like.device)


def _bits(tensor: Tensor) -> NDArray[Any]:
    """See a contiguous tensor on the CPU, of any dtype, as integers of its element size: `(n,)`, or `(n, 2)` of 16."""
    integers: NDArray[Any] = tensor.view(-1).view(_BITS[tensor.element_size()]).numpy()
    return integers.reshape(-1, 2) if tensor.element_size() > integers.itemsize else integers


def _beside(keep: NDArray[np.bool_], bits: NDArray[Any]) -> NDArray[np.uint8]:
    """See flags as numbers that multiply what `_bits` gave."""
    numbers = keep.view(np.uint8)
    return numbers if bits.ndim == 1 else numbers[:, np.newaxis]


def nonzero_flags(tensor: Tensor) -> Tensor:
    """Return which elements are not zero: a new bool tensor on the CPU, of the same shape, contiguous."""
    return _empty(tensor.shape, torch.bool).copy_(tensor)


def clear_chosen(subset: Subset, keep: NDArray[np.bool_]) -> None:
    """Set what `subset` chooses among the true elements to false, in place."""
    ranks, drawn = keep[:0], 0
    for start in range(0, keep.size, BLOCK):
        piece = keep[start : start + BLOCK]
        places = np.flatnonzero(piece)
        if ranks.size < places.size:  # whole blocks of ranks, so that each is drawn once
            ranks = np.concatenate([ranks, subset.span(drawn, min(drawn + BLOCK, subset.candidates))])
            drawn += BLOCK
        piece[places] = ~ranks[: places.size]
        ranks = ranks[places.size :]


def masked(tensor: Tensor, keep: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor of any dtype, +0.0 where `keep`, on the CPU and contiguous, is false.

    A product with zero or one of the bits as integers: exact, and known for every dtype. On the CPU it is numpy's;
    torch would widen all of `keep` first, and wait for threads that a busy machine may not give it.
    """
    if tensor.device.type != "cpu":
        numbers = tensor.contiguous().view(-1).view(_BITS[tensor.element_size()])
        beside = keep.to(tensor.device).view(-1, 1)
        return (
            torch.mul(numbers.view(len(beside), max(tensor.element_size() // 8, 1)), beside)
            .view(tensor.dtype)
            .view(tensor.shape)
        )
    result = _empty(tensor.shape, tensor.dtype)
    try:
        source = _bits(tensor)
    except RuntimeError:  # not row-major: put in order first, without a second copy
        source = _bits(result.copy_(tensor))
    np.multiply(source, _beside(keep.view(-1).numpy(), source), out=_bits(result))
    return result
