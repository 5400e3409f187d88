"""Exact shares of a total: in proportion to weights, limited by capacities, and rounded to integers."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType

from prunecli.lean import dataclass

__all__ = ["Shares", "in_proportion"]

_PRECISION = 64
"""Bits after the point of the ratios by which layers are sorted."""

_NONE: Mapping[int, Fraction] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Shares:
    """Rational numbers with one denominator: how many elements each layer keeps before rounding."""

    numerators: list[int]
    denominator: int

    def rounded_to(self, total: int, keys: Sequence[str]) -> list[int]:
        """Return integers that sum to a total, each less than 1 from its share, by the method of largest remainders.

        Shares are rounded down, and those with the largest remainders receive one more. Of equal remainders, those
        with the smaller keys (in code point order) come first. The sum of the shares is less than 1 from the total.
        """
        floors = [numerator // self.denominator for numerator in self.numerators]
        remainders = [numerator % self.denominator for numerator in self.numerators]
        order = sorted(range(len(floors)), key=keys.__getitem__)
        order.sort(key=remainders.__getitem__, reverse=True)  # which keeps the order by key of those that are equal
        for index in order[: total - sum(floors)]:
            floors[index] += 1
        return floors


def in_proportion(
    total: int, weights: Sequence[int], capacities: Sequence[int], fixed: Mapping[int, Fraction] = _NONE
) -> Shares:
    """Return shares of a total in proportion to weights, but none above its capacity, beside `fixed` shares by index.

    Layers whose share would exceed the capacity are filled, and the rest of the total is divided among the others in
    the same proportion, until no share exceeds its capacity. The result does not depend on the order in which layers
    are filled. A weight of 0 receives nothing. The total is less than 1 from what the fixed shares and the capacities
    allow.
    """
    unit = math.lcm(*(share.denominator for share in fixed.values()))
    rest = max(0, total * unit - sum(int(share * unit) for share in fixed.values()))
    scaled = [capacity * unit for capacity in capacities]
    order = [index for index, weight in enumerate(weights) if weight > 0 and index not in fixed]
    order.sort(key=lambda index: (scaled[index] << _PRECISION) // weights[index])
    weight = sum(weights[index] for index in order)
    filled = 0
    for index in order:  # those that are filled first come first, so that one pass finds all
        if rest * weights[index] < scaled[index] * weight:
            break
        rest -= scaled[index]
        weight -= weights[index]
        filled += 1
    divisor = max(weight, 1)
    numerators = [0] * len(weights)
    for index, share in fixed.items():
        numerators[index] = int(share * unit) * divisor
    for index in order[:filled]:
        numerators[index] = scaled[index] * divisor
    for index in order[filled:]:
        numerators[index] = min(rest * weights[index], scaled[index] * divisor)
    return Shares(numerators, unit * divisor)
