"""A plan as text, for a dry run: how many elements of which parameters would be pruned."""

from collections.abc import Iterator

from prunecli.reporting.drawing import fitted, label_of_node
from prunecli.reporting.layout import BOLD, DIM, Column, Row, lay_out
from prunecli.reporting.numbers import label_of
from prunecli.reporting.terminal import Screen
from prunecli.reporting.tree import Leaf, Node, Sums, grow
from prunecli.surgery.plan.model import Plan, PlannedParameter

__all__ = ["details_as_text", "orders_as_text", "plan_as_text"]

_NAMES = 100
"""The most names of an order that are printed."""

_COLUMNS = (Column("elements", drop=2), Column("left", drop=1), Column("to prune"))


def plan_as_text(plan: Plan, screen: Screen) -> str:
    """Return a table of the plan: on a terminal a tree that fits it, else a line for each parameter."""
    leaves = [_leaf(name, each) for name, each in plan.planned.items()]
    if screen.height is None:
        nodes, folded = [(Node(each.name, each.name, each, sums=each.sums), "") for each in leaves], False
    else:
        earlier = {name: [one for one in each.tied_to if one < name] for name, each in plan.planned.items()}
        nodes, folded = fitted(grow(leaves, earlier), screen, "name", screen.height - 5)
    rows = [_row(node, lead, screen) for node, lead in nodes]
    lines = lay_out("parameter", _COLUMNS, rows, screen, whole_names=True)
    if folded:
        lines.append(screen.paint(f"folded to fit: add `2>&1 | less` for all {len(leaves):,} parameters", DIM))
    return "".join(f"{line}\n" for line in lines)


def orders_as_text(plan: Plan) -> Iterator[str]:
    """Yield a sentence for each order of layers that a rule used."""
    for group in plan.prune.groups if plan.prune else ():
        if group.order:
            rest = len(group.order) - _NAMES
            more = f" and {rest:,} more" if rest > 0 else ""
            yield f"order of layers: {', '.join(map(label_of, group.order[:_NAMES]))}{more}"


def details_as_text(plan: Plan) -> Iterator[str]:
    """Yield a sentence for each way in which the methods prune, such as the dimension, with the parameters."""
    names: dict[str, list[str]] = {}
    for name, each in plan.planned.items():
        if each.method is not None and (detail := each.method.detail(each.target)):
            names.setdefault(detail, []).append(name)
    for detail, those in names.items():
        rest = len(those) - _NAMES
        yield f"{detail}: {', '.join(map(label_of, those[:_NAMES]))}{f' and {rest:,} more' if rest > 0 else ''}"


def _leaf(name: str, each: PlannedParameter) -> Leaf[PlannedParameter]:
    weight = each.parameter.weight
    sums = Sums(1, weight.elements, pruned_now=each.pruned_now, candidates=each.target.candidates)
    return Leaf(name, each, sums, (weight.shape, each.tied_to))


def _row(node: Node[PlannedParameter], lead: str, screen: Screen) -> Row:
    name, sums = label_of_node(node, screen), node.sums
    figures = [f"{count:,}" for count in (sums.elements, sums.candidates, sums.pruned_now)]
    if node.leaf is None:
        return Row(name, figures, lead, BOLD)
    partners = ", ".join(map(label_of, node.leaf.content.tied_to))
    return Row(f"{name} = {partners}", figures, lead, short=f"{name} (tied)") if partners else Row(name, figures, lead)
