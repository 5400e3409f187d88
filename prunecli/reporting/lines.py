"""A report as lines for other programs: one per parameter, with tabs between the fields."""

from collections.abc import Iterator

from prunecli.reporting.numbers import label_of, shape_of
from prunecli.reporting.options import TableOptions
from prunecli.reporting.parameters import ParameterNode, grow_parameters, parameter_leaf
from prunecli.reporting.tree import Node, by_key, outline, sort_tree
from prunecli.surgery.names.select import LONGEST
from prunecli.surgery.report.model import Report

__all__ = ["as_lines"]


def as_lines(report: Report, view: TableOptions) -> Iterator[str]:
    """Yield name, type, shape and state, as `params` prints them, then elements, zeros and sparsity.

    With a depth, the lines are the modules and parameters down to it; a module has no type, shape or state.
    """
    if view.depth is None:
        leaves = [Node(each.name, each.name, each, sums=each.sums) for each in map(parameter_leaf, report.parameters)]
        nodes = sorted(leaves, key=by_key(view.sort))[: view.top]
    else:
        root = grow_parameters(report.parameters)
        sort_tree(root, view.sort)
        nodes = [node for node, _ in outline(root, view.depth)][: view.top]
    for node in nodes:
        yield "\t".join((label_of(node.path, LONGEST), *_fields(node)))


def _fields(node: ParameterNode) -> tuple[str, ...]:
    sums, each = node.sums, None if node.leaf is None else node.leaf.content
    kind = ("", "", "") if each is None else (each.dtype, shape_of(each.shape), each.state_and_role)
    if node.sparsity is None:  # its zeros are not counted
        return (*kind, str(sums.elements if each is None else each.elements), "", "")
    return (*kind, str(sums.elements), str(sums.zeros), f"{node.sparsity:.6g}")
