"""Rules that keep a number of elements in proportion to the size, the dimensions or nothing of a layer."""

import math
from collections.abc import Sequence

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.shares import Shares, in_proportion

__all__ = ["balanced", "er", "erk", "erk_weight", "uniform"]


def uniform(layers: Sequence[Layer], kept: int) -> Shares:
    """Return shares in proportion to the sizes of the layers: every layer keeps the same part."""
    return _divide(kept, [layer.size for layer in layers], layers)


def er(layers: Sequence[Layer], kept: int) -> Shares:
    """Return Erdős-Rényi shares, as in sparse evolutionary training (Mocanu et al. 2018).

    The kept part of a layer is in proportion to (out + in) / (out · in), whatever the size of the kernel. So the number
    of kept elements is in proportion to (out + in) · kernel; for a vector, which has one dimension, to its length.
    """
    return _divide(kept, [_sum(layer.shape[:2]) * math.prod(layer.shape[2:]) for layer in layers], layers)


def erk(layers: Sequence[Layer], kept: int) -> Shares:
    """Return Erdős-Rényi-Kernel shares, as in RigL (Evci et al. 2020, "Rigging the Lottery").

    The kept part of a layer is in proportion to the sum of all dimensions divided by their product. So the number of
    kept elements is in proportion to the sum of the dimensions.
    """
    return _divide(kept, [erk_weight(layer) for layer in layers], layers)


def balanced(layers: Sequence[Layer], kept: int) -> Shares:
    """Return equal shares, whatever the sizes (Gadhikar et al. 2023, "Why Random Pruning Is All We Need").

    A layer that is smaller than its share is kept whole, and the others divide the excess equally.
    """
    return _divide(kept, [1] * len(layers), layers)


def erk_weight(layer: Layer) -> int:
    """Return the number to which the kept elements of a layer are proportional under `erk`."""
    return _sum(layer.shape)


def _sum(dimensions: tuple[int, ...]) -> int:
    return sum(dimensions) if dimensions else 1  # a scalar has one element, like a vector of length one


def _divide(kept: int, weights: Sequence[int], layers: Sequence[Layer]) -> Shares:
    return in_proportion(kept, weights, [layer.left for layer in layers])
