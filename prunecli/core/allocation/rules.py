"""The allocation rules by name, and the exact counts that follow from them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from prunecli.core.allocation.dense_ends import erk_plus, uniform_plus
from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.proportional import balanced, er, erk, uniform
from prunecli.core.allocation.reach import check_reach
from prunecli.core.allocation.shares import Shares
from prunecli.core.allocation.smart import smart, smart_vgg
from prunecli.core.allocation.solved import igq, pyramidal
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["RULES", "Rule", "allocate", "find_rule"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to divide a number of kept elements among layers.

    `shares` is None for `global`, which treats all layers as one tensor, so that the random draw divides the total.
    A rule that is `ordered` depends on the model's order of layers.
    """

    shares: Callable[[Sequence[Layer], int], Shares] | None
    ordered: bool = False


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "uniform": Rule(uniform),
        "global": Rule(None),
        "er": Rule(er),
        "erk": Rule(erk),
        "erk+": Rule(erk_plus, ordered=True),
        "uniform+": Rule(uniform_plus, ordered=True),
        "balanced": Rule(balanced),
        "pyramidal": Rule(pyramidal, ordered=True),
        "igq": Rule(igq),
        "smart": Rule(smart, ordered=True),
        "smart-vgg": Rule(smart_vgg, ordered=True),
    }
)


def find_rule(name: str) -> Rule:
    """Return the rule with a name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RULES:
        raise UsageError(f"{show(name, 60)} is not an allocation; known are {', '.join(RULES)}")
    return RULES[name]


def allocate(name: str, layers: Sequence[Layer], pruned: int) -> dict[str, int]:
    """Return how many elements of each layer are pruned, by key; the numbers sum to `pruned` exactly.

    The layers come in the model's order, which matters only to rules that are `ordered`. What is kept of a layer
    differs from the rule's real number by less than one element: the real numbers are rounded by largest remainders,
    and of equal remainders, the layer with the smaller key keeps one element more.

    Raises:
        UsageError: the rule is unknown, or cannot reach `pruned`; the message contains the range that it can reach.
    """
    rule = find_rule(name)
    if rule.shares is None:
        raise ValueError(f"the random draw divides the total of {name}")
    kept = sum(layer.left for layer in layers) - pruned
    check_reach(name, layers, kept)
    counts = rule.shares(layers, kept).rounded_to(kept, [layer.key for layer in layers])
    return {layer.key: layer.left - count for layer, count in zip(layers, counts, strict=True)}
