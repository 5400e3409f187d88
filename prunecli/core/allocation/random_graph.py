"""Rules that keep the connections of an Erdős-Rényi random graph, and the uniform one."""

import math
from collections.abc import Sequence

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.shares import Shares, proportional

__all__ = ["er", "erk", "uniform"]


def uniform(layers: Sequence[Layer], kept: int) -> Shares:
    """Return shares in proportion to the sizes of layers."""
    return _proportional([layer.size for layer in layers], layers, kept)


def er(layers: Sequence[Layer], kept: int) -> Shares:
    """Return shares of the sparse evolutionary training of Mocanu et al. (2018): Erdős-Rényi.

    The kept part of a layer is in proportion to (out + in) / (out · in); the size of the kernel does not matter. So the
    number of kept elements is in proportion to (out + in) · kernel. A vector is taken as it is: n / n.
    """
    return _proportional([_channels(layer.shape) for layer in layers], layers, kept)


def erk(layers: Sequence[Layer], kept: int) -> Shares:
    """Return shares of RigL (Evci et al. 2020): Erdős-Rényi-Kernel.

    The kept part of a layer is in proportion to the sum of all dimensions divided by their product. So the number of
    kept elements is in proportion to the sum of the dimensions.
    """
    return _proportional([_dimensions(layer.shape) for layer in layers], layers, kept)


def _proportional(weights: Sequence[int], layers: Sequence[Layer], kept: int) -> Shares:
    return proportional(kept, weights, [layer.left for layer in layers])


def _channels(shape: tuple[int, ...]) -> int:
    return _dimensions(shape[:2]) * math.prod(shape[2:])


def _dimensions(shape: tuple[int, ...]) -> int:
    return sum(shape) if shape else 1  # a scalar has one element, as a vector with one element has
