"""Rules that treat the first or the last layer of a model separately.

The first convolution is the first layer in the model's order with three to five dimensions, and the last linear layer
is the last one with two dimensions. Vectors are neither: they are divided among like every other layer.
"""

from collections.abc import Sequence
from fractions import Fraction

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.proportional import erk_weight
from prunecli.core.allocation.reach import check_reach, missing
from prunecli.core.allocation.shares import Shares, in_proportion
from prunecli.errors import show

__all__ = ["erk_plus", "uniform_plus"]


def erk_plus(layers: Sequence[Layer], kept: int) -> Shares:
    """Return the shares of ERK+ (Liu et al. 2022, "The Unreasonable Effectiveness of Random Pruning").

    The last linear layer keeps everything, and the rest of the total is divided among the others as by `erk`.
    """
    last = _last_linear("erk+", layers)
    dense = layers[last].left
    reason = f"{show(layers[last].name)}, the last linear layer, stays dense"
    check_reach("erk+", layers, kept, least=dense, because=reason)
    weights, capacities = [erk_weight(layer) for layer in layers], [layer.left for layer in layers]
    return in_proportion(kept, weights, capacities, {last: Fraction(dense)})


def uniform_plus(layers: Sequence[Layer], kept: int) -> Shares:
    """Return the shares of Uniform+ (Gale et al. 2019, "The State of Sparsity in Deep Neural Networks").

    The first convolution keeps everything, the last linear layer keeps at least 20%, and apart from this every layer
    keeps the same part.
    """
    last = _last_linear("uniform+", layers)
    first = next((index for index, layer in enumerate(layers) if layer.is_convolution), None)
    if first is None:
        raise missing("uniform+", "a convolution (3 to 5 dimensions) that stays dense")
    dense, least = layers[first].left, min(Fraction(layers[last].size, 5), Fraction(layers[last].left))
    reason = f"{show(layers[first].name)} stays dense and {show(layers[last].name)} keeps at least 20%"
    check_reach("uniform+", layers, kept, least=dense + least, because=reason)
    weights, capacities = [layer.size for layer in layers], [layer.left for layer in layers]
    shares = in_proportion(kept, weights, capacities, {first: Fraction(dense)})
    if shares.numerators[last] >= least * shares.denominator:
        return shares
    return in_proportion(kept, weights, capacities, {first: Fraction(dense), last: least})


def _last_linear(rule: str, layers: Sequence[Layer]) -> int:
    last = max((index for index, layer in enumerate(layers) if layer.is_linear), default=None)
    if last is None:
        raise missing(rule, "a linear layer (2 dimensions)")
    return last
