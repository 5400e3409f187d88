"""Rules whose shares depend on one number that solves the total.

The number is found by bisection in float64, with operations that are rounded alike on every machine: no powers, no sums
whose order differs. The exact division by `in_proportion` then removes the error, which is about one part in 10**13.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.shares import Shares, in_proportion

__all__ = ["igq", "pyramidal"]

_Sizes = NDArray[np.float64]

_PRECISION = 64
"""Bits after the point of the shares."""

_SMALLEST = 2.0**-200
"""A force below that of every total that is not dense."""


def pyramidal(layers: Sequence[Layer], kept: int) -> Shares:
    """Return the shares of a pyramid (Gadhikar et al. 2023, "Why Random Pruning Is All We Need to Start Sparse").

    In the model's order, layer l, counted from 1, keeps the part r**l, and r solves the total. Every selected layer
    counts, whatever its dimensions.
    """
    sizes = _sizes(layers)
    ratio = np.empty_like(sizes)

    def shares(base: float) -> _Sizes:
        ratio.fill(base)
        return sizes * np.multiply.accumulate(ratio)

    return _solve(layers, kept, shares, (0.0, 1.0), lambda low, high: (low + high) / 2)


def igq(layers: Sequence[Layer], kept: int) -> Shares:
    """Return ideal gas quotas (Vysogorets and Kempe 2021, "Connectivity Matters", arXiv 2107.02306).

    A layer with N elements keeps the part 1 / (F · N + 1), and the force F solves the total: large layers are
    compressed more. The order of the layers does not matter.
    """
    sizes = _sizes(layers)
    bounds = (float(len(layers)), _SMALLEST)  # at most 1 / F elements of a layer are kept
    return _solve(layers, kept, lambda force: sizes / (force * sizes + 1), bounds, lambda a, b: math.sqrt(a * b))


def _sizes(layers: Sequence[Layer]) -> _Sizes:
    return np.array([layer.size for layer in layers], np.float64)


def _solve(
    layers: Sequence[Layer],
    kept: int,
    shares: Callable[[float], _Sizes],
    bounds: tuple[float, float],
    middle: Callable[[float, float], float],
) -> Shares:
    """Return exact shares by the parameter of `shares` that keeps the total; the first bound keeps too little."""
    left = np.array([layer.left for layer in layers], np.float64)
    below, above = bounds
    while (between := middle(below, above)) not in (below, above):
        total = np.add.accumulate(np.minimum(shares(between), left))[-1] if layers else 0
        below, above = (between, above) if total < kept else (below, between)
    # A weight is at least 1, so that every layer can be filled.
    weights = [max(1, int(share)) for share in np.ldexp(np.minimum(shares(above), left), _PRECISION).tolist()]
    return in_proportion(kept, weights, [layer.left for layer in layers])
