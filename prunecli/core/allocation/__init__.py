"""Division of one total among layers: how much of each is pruned, by the rules of the literature."""

from prunecli.core.allocation.layer import Layer
from prunecli.core.allocation.rules import RULES, AllocationRule, allocate, find_rule

__all__ = ["RULES", "AllocationRule", "Layer", "allocate", "find_rule"]
