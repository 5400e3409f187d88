"""The errors for a total that a rule cannot reach, and for a layer that a rule needs and that is not there."""

import math
from collections.abc import Sequence
from fractions import Fraction

from prunecli.core.allocation.layer import Layer
from prunecli.errors import UsageError, percent

__all__ = ["check_reach", "missing"]


def check_reach(
    rule: str,
    layers: Sequence[Layer],
    kept: int,
    least: int | Fraction = 0,
    most: int | Fraction | None = None,
    because: str = "",
) -> None:
    """Check that a rule, which keeps at least and at most the given numbers of elements, can keep `kept` of them.

    The limits are real numbers, and `kept` may differ from them by less than 1. By default a rule can keep everything.

    Raises:
        UsageError: it cannot; the message contains the range of the numbers of pruned elements that it can reach.
    """
    total = sum(layer.left for layer in layers)
    lowest, highest = math.floor(least), total if most is None else math.ceil(most)
    if lowest <= kept <= highest:
        return
    pruned = (total - number for number in (kept, highest, lowest))
    wanted, first, last = (f"{number:,} ({percent(number, total)})" for number in pruned)
    reason = f"{because}, so it" if because else "it"
    reach = f"from {first} to {last}" if lowest < highest else f"only {first}"
    raise UsageError(f"{rule} cannot prune {wanted} of {total:,} elements: {reason} can prune {reach}")


def missing(rule: str, role: str) -> UsageError:
    """Return the error for a rule that needs a layer of a kind which is not among the layers."""
    return UsageError(f"{rule} needs {role}, and there is none among the layers to prune; use another rule")
