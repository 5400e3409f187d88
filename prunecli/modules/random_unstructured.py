"""Random unstructured pruning of a module's parameter: torch's protocol, prunecli's random stream.

It replaces `torch.nn.utils.prune.RandomUnstructured`. All of torch's features for pruned modules (`is_pruned`,
`remove`, `global_unstructured`, `PruningContainer`, pickling, the names in a state dict) work as before. Only the draw
differs: it is exact and uniform for every dtype that has a zero, and a seed, a key and the number of elements that are
still unpruned determine it. So the file rewriter and this class prune the same elements.

>>> layer = random_unstructured(nn.Linear(4, 2), "weight", 0.5, seed=7)
>>> layer.weight_mask.shape, int((layer.weight_mask == 0).sum())
(torch.Size([2, 4]), 4)
>>> list(layer.state_dict())
['bias', 'weight_orig', 'weight_mask']
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecli.core.amount import Amount, to_count
from prunecli.core.block import BLOCK
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Method
from prunecli.core.methods.request import method_request
from prunecli.core.random_stream import Subset, stream_key
from prunecli.modules.masks import all_ones, has_values, kept_ones, mask_without, masked, nonzero_flags
from prunecli.modules.pruning_method import SeededMethod, check_shape, check_tensors

__all__ = ["RandomUnstructured", "random_unstructured"]

_Module = TypeVar("_Module", bound=nn.Module)


class RandomUnstructured(SeededMethod):
    """Prune a uniform choice of exactly `amount` of the elements of a tensor that are still unpruned.

    `amount`, `seed` and `key` are those of `SeededMethod`.

    The same seed, key and number of unpruned elements choose the same elements in row-major order, whatever the dtype,
    strides or device. So a method is a fixed draw: two calls on the same input return the same result.

    >>> import torch
    >>> RandomUnstructured(3, seed=7).prune(torch.ones(2, 4)).count_nonzero()
    tensor(5)
    """

    def file_method(self) -> Method:
        """Return the default method of the command line."""
        return make_method(method_request())

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with `amount` of its nonzero elements, chosen at random, set to zero.

        Besides the result, this takes one byte of memory per element, and none if nothing was pruned before. On the
        meta device, and for a `FakeTensor`, nothing is drawn: the mask has a shape and a dtype, but no values either.

        Args:
            t: the tensor to prune, with a dtype that has a zero. Its values do not matter.
            default_mask: a mask with the shape of `t` and any dtype. Its zeros were pruned before.

        Returns:
            A new contiguous tensor with the shape, dtype and device of `default_mask`.

        Raises:
            TypeError: a dtype has no zero, or a tensor is sparse, quantised, nested or a `DTensor`.
            UsageError: the shapes differ, or the amount is more than the elements that are left.
        """
        check_tensors(t, default_mask)
        check_shape("default_mask", default_mask, t)
        before = default_mask.detach()
        if not (has_values(t) and has_values(before)):
            self._subset(before.numel())
            return kept_ones(before)
        if all_ones(before):
            return mask_without(self._subset(before.numel()).draw, before)
        keep = nonzero_flags(before)
        _clear(self._subset(int(np.count_nonzero(keep.numpy()))), keep.view(-1).numpy())
        return masked(before, keep)

    def _subset(self, candidates: int) -> Subset:
        amount = to_count(self.amount, candidates, self.shown_key)
        return Subset(stream_key(self.seed, self.key, candidates), candidates, amount)


def random_unstructured(
    module: _Module, name: str, amount: Amount, *, seed: int | None = None, key: str | None = None
) -> _Module:
    """Prune `amount` random, still unpruned elements of the parameter `name`; see `RandomUnstructured.apply`.

    Returns:
        The module, changed in place: `name + "_orig"`, `name + "_mask"` and a hook are added.

    Raises:
        TypeError, UsageError: as `RandomUnstructured.apply`; the module is then unchanged.
    """
    RandomUnstructured.apply(module, name, amount, seed=seed, key=key)
    return module


def _clear(subset: Subset, keep: NDArray[np.bool_]) -> None:
    """Set the true elements that are in `subset` to false, in place."""
    ranks, drawn = keep[:0], 0
    for start in range(0, keep.size, BLOCK):
        piece = keep[start : start + BLOCK]
        places = np.flatnonzero(piece)
        if ranks.size < places.size:  # whole blocks of ranks, so that each block is drawn once
            ranks = np.concatenate([ranks, subset.span(drawn, min(drawn + BLOCK, subset.candidates))])
            drawn += BLOCK
        piece[places] = ~ranks[: places.size]
        ranks = ranks[places.size :]
