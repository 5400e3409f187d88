"""Masks as torch tensors of any dtype, made in pieces, with little memory besides the mask itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecli.core.block import BLOCK
from prunecli.core.raw_elements import Unsigned, fill_mask, unsigned
from prunecli.core.raw_elements import all_ones as every_element_is_one
from prunecli.core.scratch import Buffer

__all__ = [
    "Draw",
    "all_ones",
    "has_values",
    "kept_ones",
    "mask_after",
    "mask_from_flags",
    "mask_without",
    "masked",
    "nonzero_flags",
    "ones_like",
    "product",
    "write_mask",
]

Draw = Callable[[int, NDArray[np.bool_]], None]
"""A draw of elements: `draw(start, out)` writes which of those from `start` on, in row-major order, it contains."""

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
"""Integer types by element size, to copy elements as bits whatever their dtype; 16 bytes are two integers."""


def ones_like(like: Tensor) -> Tensor:
    """Return a mask of ones that uses the memory of one element."""
    return like.detach().new_ones(()).expand(like.shape)


def has_values(tensor: Tensor) -> bool:
    """Whether a tensor has values: not on the meta device, nor in a `FakeTensor`, whose storage is on that device."""
    return tensor.untyped_storage().device.type != "meta"


def product(values: Tensor, mask: Tensor) -> Tensor:
    """Return values times a mask, in the type of the values.

    torch multiplies numbers of 8 bits on the CPU only, and there not if a factor is a single number. Then they are
    multiplied as float32, and rounded once, as torch does it elsewhere.
    """
    factor = mask.to(values.dtype)
    if values.dtype.is_floating_point and values.dtype.itemsize == 1:
        several = all(each.numel() > 1 and any(each.stride()) for each in (values, factor))
        if values.device.type != "cpu" or not several:
            return (values.float() * factor.float()).to(values.dtype)
    return values * factor


def kept_ones(like: Tensor) -> Tensor:
    """Return a mask of ones with memory for every element; for tensors on the meta device, which take none."""
    return like.detach().new_ones(like.shape)


def _empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Return a new tensor on the CPU with arbitrary values.

    Numpy asks the kernel for huge pages, and torch does not. With huge pages, first accesses cost a sixth; without
    them, they would be half of the time that a mask takes.
    """
    if not shape.numel():
        return torch.empty(shape, dtype=dtype, device="cpu")
    raw = np.empty(shape.numel() * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(raw).view(dtype).view(shape)


def all_ones(mask: Tensor) -> bool:
    """Whether a mask is known at little cost to contain only ones; False if a check would take memory."""
    if mask.numel() and not any(mask.stride()):  # one element, expanded
        return bool(mask.flatten()[:1].to(torch.complex64 if mask.is_complex() else torch.float32) == 1)
    if mask.device.type != "cpu" or not mask.is_contiguous():
        return False
    return every_element_is_one(*_elements(mask))


def mask_after(before: Tensor, keep: NDArray[np.bool_]) -> Tensor:
    """Return a mask with zeros where `keep`, shape `(elements,)` in row-major order, is false, as well."""
    if all_ones(before):
        return mask_from_flags(keep, before)
    return masked(before, torch.from_numpy(keep).view(before.shape))


def mask_from_flags(keep: NDArray[np.bool_], like: Tensor) -> Tensor:
    """Return a new mask with the shape, dtype and device of `like`: 1 where `keep`, in row-major order, else 0."""
    mask = _empty(like.shape, like.dtype)
    raw, one = _elements(mask)
    fill_mask(raw, keep, one)
    return mask.to(like.device)


def mask_without(draw: Draw, like: Tensor) -> Tensor:
    """Return a new mask with the shape, dtype and device of `like`: 0 for the elements of a draw, else 1."""
    mask = _empty(like.shape, like.dtype)
    write_mask(draw, mask)
    return mask.to(like.device)


def write_mask(draw: Draw, mask: Tensor) -> None:
    """Set the elements of a contiguous tensor on the CPU to 0 if they are in a draw, else to 1."""
    raw, one = _elements(mask)
    room = Buffer()
    for start in range(0, raw.size, BLOCK):
        piece = raw[start : start + BLOCK]
        keep = room.flags(piece.size)
        draw(start, keep)
        fill_mask(piece, np.logical_not(keep, out=keep), one)


def _elements(mask: Tensor) -> tuple[Unsigned, int]:
    """Return a view of a contiguous CPU tensor as raw elements, and the bits of one; in a pair, of its first number."""
    raw, one = (
        unsigned(each.view(-1).view(torch.uint8).numpy(), mask.element_size(), paired=mask.is_complex())
        for each in (mask, torch.ones(1, dtype=mask.dtype, device="cpu"))
    )
    first: Any = one[0]
    return raw, int(first if one.dtype.names is None else first["real"])


def _bits(tensor: Tensor) -> NDArray[Any]:
    """Return a view of a contiguous CPU tensor as integers of its element size: `(n,)`, or `(n, 2)` for 16 bytes."""
    integers: NDArray[Any] = tensor.view(-1).view(_BITS[tensor.element_size()]).numpy()
    return integers.reshape(-1, 2) if tensor.element_size() > integers.itemsize else integers


def _beside(keep: NDArray[np.bool_], bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Return a view of flags as numbers in a shape that can multiply the result of `_bits`."""
    numbers = keep.view(np.uint8)
    return numbers if bits.ndim == 1 else numbers[:, np.newaxis]


def nonzero_flags(tensor: Tensor) -> Tensor:
    """Return which elements are not zero, as a new contiguous bool tensor of the same shape on the CPU."""
    return _empty(tensor.shape, torch.bool).copy_(tensor)


def masked(tensor: Tensor, keep: Tensor) -> Tensor:
    """Return a contiguous copy of a tensor of any dtype, +0.0 where `keep` is false; `keep` is contiguous on the CPU.

    The bits, as integers, are multiplied by zero or one, which is exact and works for every dtype. On the CPU, numpy
    multiplies: torch would widen all of `keep` first, and wait for threads, which may be late on a busy machine.
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
    except RuntimeError:  # not row-major: copied in order into the result, without a second copy
        source = _bits(result.copy_(tensor))
    np.multiply(source, _beside(keep.view(-1).numpy(), source), out=_bits(result))
    return result
