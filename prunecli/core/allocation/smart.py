"""Smart ratios (Su et al. 2020, "Sanity-Checking Pruning Methods", arXiv 2009.11094)."""

from collections.abc import Sequence
from fractions import Fraction

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.reach import check_reach
from prunecli.core.allocation.shares import Shares
from prunecli.errors import UsageError, show
from prunecli.terms import MATRICES

__all__ = ["smart", "smart_vgg"]

_PRECISION = 128
"""Bits after the point of the weights of `smart-vgg`."""


def smart(layers: Sequence[Layer], kept: int) -> Shares:
    """Return smart ratios as for ResNets.

    Every linear layer (two dimensions) keeps 0.3. The kept part of a convolution (three to five dimensions) is in
    proportion to (L - l + 1)**2 + (L - l + 1), where l from 1 to L is its place in the model's order of convolutions
    and linear layers. What exceeds a convolution goes to the next later ones that have room, and what is left after
    the last one to earlier ones, from the last to the first. Vectors are refused: the rule does not cover them.
    """
    return _divide("smart", layers, kept, [_decay(len(layers) - index) for index in range(len(layers))])


def smart_vgg(layers: Sequence[Layer], kept: int) -> Shares:
    """Return smart ratios as for VGG: those of `smart`, but with the kept part divided by l**2."""
    count = len(layers)
    decays = [(_decay(count - index) << _PRECISION) // (index + 1) ** 2 for index in range(count)]
    return _divide("smart-vgg", layers, kept, decays)


def _decay(place_from_end: int) -> int:
    return place_from_end**2 + place_from_end


def _divide(rule: str, layers: Sequence[Layer], kept: int, decays: Sequence[int]) -> Shares:
    for layer in layers:
        if not layer.is_convolution and not layer.is_linear:
            shown = " x ".join(map(str, layer.shape)) or "scalar"
            raise UsageError(
                f"{rule} is for convolutions and linear layers, and {show(layer.name)} ({shown}) is neither; "
                f"exclude it, or select with {MATRICES}"
            )
    fixed = [0 if layer.is_convolution else min(3 * layer.size, 10 * layer.left) for layer in layers]  # in tenths
    room = [layer.left if layer.is_convolution else 0 for layer in layers]
    least = Fraction(sum(fixed), 10)
    check_reach(rule, layers, kept, least, least + sum(room), because="every linear layer keeps 30%")
    rest = max(0, 10 * kept - sum(fixed))
    weights = [decay * layer.size if layer.is_convolution else 0 for decay, layer in zip(decays, layers, strict=True)]
    divisor = max(1, sum(weights))
    numerators = [rest * weight for weight in weights]
    _pass_on(numerators, [10 * each * divisor for each in room])
    return Shares([n + each * divisor for n, each in zip(numerators, fixed, strict=True)], 10 * divisor)


def _pass_on(shares: list[int], capacities: Sequence[int]) -> None:
    """Move what exceeds capacities to later layers that have room, and what is then left to earlier ones."""
    excess = 0
    for index in (*range(len(shares)), *reversed(range(len(shares)))):
        share = shares[index] + excess
        shares[index] = min(share, capacities[index])
        excess = share - shares[index]
