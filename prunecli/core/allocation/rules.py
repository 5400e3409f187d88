"""The allocation rules by name, and the exact counts that follow from them."""

from collections.abc import Mapping, Sequence

from prunecli.core.allocation.layer import Layer
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["RULES", "AllocationRule", "allocate", "find_rule"]


@dataclass(frozen=True, slots=True)
class AllocationRule:
    """A way to divide a number of kept elements among layers; if it is `ordered`, by the model's order of layers."""

    ordered: bool = False


_ANY_ORDER, _MODEL_ORDER = AllocationRule(), AllocationRule(ordered=True)

RULES: Mapping[str, AllocationRule] = {
    "uniform": _ANY_ORDER,
    "global": _ANY_ORDER,
    "er": _ANY_ORDER,
    "erk": _ANY_ORDER,
    "erk+": _MODEL_ORDER,
    "uniform+": _MODEL_ORDER,
    "balanced": _ANY_ORDER,
    "pyramidal": _MODEL_ORDER,
    "igq": _ANY_ORDER,
    "smart": _MODEL_ORDER,
    "smart-vgg": _MODEL_ORDER,
}
"""The rules. `global` treats all layers as one tensor: the random draw divides the total, and not `allocate`."""


def find_rule(name: str) -> AllocationRule:
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
    find_rule(name)
    from prunecli.core.allocation.reach import check_reach  # late, so that a command starts without them
    from prunecli.core.allocation.solvers import SOLVERS

    kept = sum(layer.left for layer in layers) - pruned
    check_reach(name, layers, kept)
    counts = SOLVERS[name](layers, kept).rounded_to(kept, [layer.key for layer in layers])
    return {layer.key: layer.left - count for layer, count in zip(layers, counts, strict=True)}
