"""The error for a total that a rule cannot reach, or for layers that it is not made for."""

import math
from collections.abc import Sequence
from fractions import Fraction

from prunecli.core.allocation.layer import Layer
from prunecli.errors import UsageError, percent
from prunecli.terms import MATRICES

__all__ = ["check_reach", "missing"]


def check_reach(rule: str, layers: Sequence[Layer], kept: int, least: int | Fraction, because: str) -> None:
    """Check that a number of kept elements lies between `least` and all elements; see `check_between`."""
    check_between(rule, layers, kept, (least, sum(layer.left for layer in layers)), because)


def check_between(
    rule: str, layers: Sequence[Layer], kept: int, reach: tuple[int | Fraction, int | Fraction], because: str
) -> None:
    """Check that a number of kept elements is less than 1 from what a rule can keep at least, and at most.

    Raises:
        UsageError: it is not; the message contains the numbers of pruned elements that can be reached.
    """
    least, most = math.floor(reach[0]), math.ceil(reach[1])
    if least <= kept <= most:
        return
    total = sum(layer.left for layer in layers)
    first, last = total - most, total - least
    shown = [f"{pruned:,} ({percent(pruned, total)})" for pruned in (total - kept, first, last)]
    possible = f"from {shown[1]} to {shown[2]}" if first < last else f"only {shown[1]}"
    raise UsageError(f"{rule} cannot prune {shown[0]} of {total:,} elements: it {because}, and can prune {possible}")


def missing(rule: str, role: str) -> UsageError:
    """Return the error for a rule whose special layer is not among the selected ones."""
    return UsageError(f"{rule} needs {role}, and none is selected; select one, for example with {MATRICES}")
