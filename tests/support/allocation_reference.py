"""The rules of allocation once more, from their definitions, in exact arithmetic and without regard to speed.

Each function returns how much every layer keeps, as a fraction, or None if the rule cannot reach the total.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate

import numpy as np

from prunecli.core.allocation import Layer

Shares = list[Fraction]

_BITS = 128
"""Bits after the point of what is not rational: the base of a pyramid, and the force of ideal gas quotas."""


def filled(total: Fraction, weights: Sequence[Fraction | int], room: Sequence[Fraction | int]) -> Shares:
    """In proportion to weights; all that would exceed their room are filled together, and the rest is solved again."""
    full: set[int] = set()
    while True:
        free = [index for index, weight in enumerate(weights) if weight and index not in full]
        rest = total - sum(Fraction(room[index]) for index in full)
        unit = rest / sum(Fraction(weights[index]) for index in free) if free else Fraction(0)
        over = {index for index in free if weights[index] * unit > room[index]}
        if not over:
            return [Fraction(room[index]) if index in full else weight * unit for index, weight in enumerate(weights)]
        full |= over


def largest_remainders(shares: Shares, total: int, names: Sequence[str]) -> list[int]:
    """Integers with the total: one more for the layers that lost most when rounded down, by name if equal."""
    counts = [math.floor(share) for share in shares]
    while sum(counts) < total:
        lost = [share - count for share, count in zip(shares, counts, strict=True)]
        counts[min(range(len(counts)), key=lambda index: (-lost[index], names[index]))] += 1
    return counts


def _uniform(layers: Sequence[Layer], kept: int) -> Shares:
    return filled(Fraction(kept), [layer.size for layer in layers], [layer.left for layer in layers])


def _erdos_renyi(layers: Sequence[Layer], kept: int, dimensions: int | None) -> Shares:
    weights = []
    for layer in layers:
        counted = layer.shape[:dimensions] or (1,)
        weights.append(Fraction(sum(counted), math.prod(counted)) * layer.size)
    return filled(Fraction(kept), weights, [layer.left for layer in layers])


def _er(layers: Sequence[Layer], kept: int) -> Shares:
    return _erdos_renyi(layers, kept, 2)


def _erk(layers: Sequence[Layer], kept: int) -> Shares:
    return _erdos_renyi(layers, kept, None)


def _beside(
    fixed: dict[int, Fraction], rule: Callable[[Sequence[Layer], int], Shares], layers: Sequence[Layer], kept: int
) -> Shares | None:
    """Fixed shares, and what a rule divides among the other layers; its total need not be an integer."""
    others = [layer for index, layer in enumerate(layers) if index not in fixed]
    rest = kept - sum(fixed.values())
    if not 0 <= rest <= sum(layer.left for layer in others):
        return None
    shares = iter(rule(others, rest))  # type: ignore[arg-type]
    return [fixed[index] if index in fixed else next(shares) for index in range(len(layers))]


def _erk_plus(layers: Sequence[Layer], kept: int) -> Shares | None:
    linear = [index for index, layer in enumerate(layers) if len(layer.shape) == 2]
    return _beside({linear[-1]: Fraction(layers[linear[-1]].left)}, _erk, layers, kept) if linear else None


def _uniform_plus(layers: Sequence[Layer], kept: int) -> Shares | None:
    linear = [index for index, layer in enumerate(layers) if len(layer.shape) == 2]
    convolutions = [index for index, layer in enumerate(layers) if len(layer.shape) in (3, 4, 5)]
    if not linear or not convolutions:
        return None
    first, last = convolutions[0], linear[-1]
    dense = {first: Fraction(layers[first].left)}
    least = min(Fraction(layers[last].size, 5), Fraction(layers[last].left))
    shares = _beside(dense, _uniform, layers, kept)
    if shares is None or shares[last] >= least:
        return shares
    return _beside(dense | {last: least}, _uniform, layers, kept)


def _balanced(layers: Sequence[Layer], kept: int) -> Shares:
    return filled(Fraction(kept), [1] * len(layers), [layer.left for layer in layers])


def _solved(layers: Sequence[Layer], kept: int, highest: int, ratios: Callable[[int], list[int]]) -> Shares:
    """Shares min(left, N · ratio), by bisection of a parameter with which all ratios grow, in units of 2**-bits."""

    def shares(parameter: int) -> list[int]:
        pairs = zip(layers, ratios(parameter), strict=True)
        return [min(layer.left << _BITS, layer.size * ratio) for layer, ratio in pairs]

    low, high = 0, highest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if sum(shares(middle)) < kept << _BITS else (low, middle)
    return [Fraction(share, 1 << _BITS) for share in shares(high)]


def _pyramidal(layers: Sequence[Layer], kept: int) -> Shares:
    def powers(base: int) -> list[int]:
        return list(accumulate(layers, lambda power, _: power * base >> _BITS, initial=1 << _BITS))[1:]

    return _solved(layers, kept, 1 << _BITS, powers)


def _igq(layers: Sequence[Layer], kept: int) -> Shares:
    # With G = 1 / F, the kept part 1 / (F · N + 1) is G / (N + G), which grows with G.
    def parts(inverse: int) -> list[int]:
        return [(inverse << _BITS) // ((layer.size << _BITS) + inverse) for layer in layers]

    return _solved(layers, kept, 1 << 2 * _BITS, parts)


def _smart(layers: Sequence[Layer], kept: int, power: int) -> Shares | None:
    if any(len(layer.shape) not in (2, 3, 4, 5) for layer in layers):
        return None
    shares, weights = [], []
    for place, layer in enumerate(layers, 1):
        back = len(layers) - place + 1
        linear = len(layer.shape) == 2
        shares.append(min(Fraction(3 * layer.size, 10), Fraction(layer.left)) if linear else Fraction(0))
        weights.append(Fraction(0) if linear else Fraction(layer.size * (back**2 + back), place**power))
    rest, room = (
        kept - sum(shares),
        [layer.left if weight else 0 for layer, weight in zip(layers, weights, strict=True)],
    )
    if not 0 <= rest <= sum(room):
        return None
    unit = rest / max(sum(weights, Fraction(0)), Fraction(1))
    excess = Fraction(0)
    for index, weight in enumerate(weights):
        if weight:
            excess += weight * unit
            shares[index] = min(Fraction(room[index]), excess)
            excess -= shares[index]
    for index in reversed(range(len(layers))):
        if weights[index]:
            more = min(room[index] - shares[index], excess)
            shares[index] += more
            excess -= more
    return shares


REFERENCE: dict[str, Callable[[Sequence[Layer], int], Shares | None]] = {
    "uniform": _uniform,
    "er": _er,
    "erk": _erk,
    "erk+": _erk_plus,
    "uniform+": _uniform_plus,
    "balanced": _balanced,
    "pyramidal": _pyramidal,
    "igq": _igq,
    "smart": lambda layers, kept: _smart(layers, kept, 0),
    "smart-vgg": lambda layers, kept: _smart(layers, kept, 2),
}


def rigl_counts(layers: Sequence[Layer], amount: float, *, kernel: bool) -> list[int]:
    """What google-research/rigl (d39fc7d) and jaxpruner keep under `er` and `erk`: the rule, with their flooring.

    Their zeros are rounded down twice: those of a uniform division, which make up the total, and those of each layer.
    Per step, only the layers with the largest ratio become dense. The arithmetic is float64, as theirs is.
    """
    sizes = [layer.size for layer in layers]
    zeros = [math.floor(amount * size) for size in sizes]
    ratios = []
    for layer in layers:
        counted = layer.shape if kernel else layer.shape[:2]
        ratios.append(sum(counted) / math.prod(counted))
    dense: set[int] = set()
    while True:
        free = [index for index in range(len(layers)) if index not in dense]
        total = sum(sizes[index] - zeros[index] for index in free) - sum(zeros[index] for index in dense)
        unit = np.float64(total) / sum(ratios[index] * sizes[index] for index in free)
        largest = max(ratios[index] for index in free)
        if largest * unit <= 1:
            break
        dense |= {index for index in free if ratios[index] == largest}
    parts = [1.0 if index in dense else unit * ratio for index, ratio in enumerate(ratios)]
    return [size - math.floor((1.0 - part) * size) for size, part in zip(sizes, parts, strict=True)]
