"""The parameters of a report as a tree of modules."""

from collections.abc import Sequence

from prunecli.reporting.tree import Leaf, Node, Sums, grow
from prunecli.surgery.report.model import ParameterReport, earlier_equals

__all__ = ["ParameterNode", "grow_parameters", "parameter_leaf"]

ParameterNode = Node[ParameterReport]


def parameter_leaf(each: ParameterReport) -> Leaf[ParameterReport]:
    """Return a parameter as a row; it adds nothing to the sums of its modules if its zeros are not counted."""
    sums = Sums() if each.zeros is None else Sums(1, each.elements, each.zeros, each.pruned_now)
    return Leaf(each.name, each, sums, (each.shape, each.dtype, each.state, each.tied_to))


def grow_parameters(parameters: Sequence[ParameterReport]) -> ParameterNode:
    """Return the tree of the parameters' modules; equal tied parameters count once in each module."""
    return grow([parameter_leaf(each) for each in parameters], earlier_equals(parameters))
