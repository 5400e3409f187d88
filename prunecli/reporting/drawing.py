"""Trees of modules as rows of a table: what fits the screen, the lines of the tree, and the labels."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from prunecli.reporting.folding import fit, fold
from prunecli.reporting.numbers import label_of
from prunecli.reporting.options import Sort, TableOptions
from prunecli.reporting.terminal import Screen
from prunecli.reporting.tree import Leaf, Node, by_key, grow, heights, outline, sort_tree
from prunecli.surgery.names.select import LONGEST

__all__ = ["chosen", "fitted", "label_of_node"]

T = TypeVar("T")

_LEAST_ROWS = 5
"""The fewest rows of a tree, however low the screen is."""


def chosen(
    noun: str,
    leaves: Sequence[Leaf[T]],
    repeated: Mapping[str, Sequence[str]],
    screen: Screen,
    view: TableOptions,
    room: int | None,
) -> tuple[list[tuple[Node[T], str]], list[str]]:
    """Return the nodes to show, each with the lines of the tree to its left, and notes on those left out.

    Without a depth, a tree fits into `room` rows, if given. `repeated` is as in `grow`, and `noun` names a leaf.
    """
    if view.top is not None:
        nodes = [Node(each.name, each.name, each, sums=each.sums) for each in leaves]
        shown = sorted(nodes, key=by_key(view.sort))[: view.top]
        left = len(nodes) - len(shown)
        return [(node, "") for node in shown], [f"{left:,} more {noun}s"] if left else []
    root = grow(leaves, repeated)
    if view.depth is None and room is not None:
        depth, rows = len(heights(root)) - 1, heights(root)[-1]
        fitting, folded = fitted(root, screen, view.sort, room)
        return fitting, [f"folded to fit: --depth {depth} shows all {rows:,} rows"] if folded else []
    sort_tree(root, view.sort)
    return _drawn(root, view.depth, screen), []


def fitted(root: Node[T], screen: Screen, sort: Sort, room: int) -> tuple[list[tuple[Node[T], str]], bool]:
    """Return the nodes that fit, and whether some were left out: then similar siblings are folded into one row."""
    room = max(room, _LEAST_ROWS)
    if heights(root)[-1] <= room:
        sort_tree(root, sort)
        return _drawn(root, None, screen), False
    folded = fold(root)
    sort_tree(folded, sort)
    return _drawn(fit(folded, room - 1), None, screen), True


def _drawn(root: Node[T], depth: int | None, screen: Screen) -> list[tuple[Node[T], str]]:
    """Return the nodes down to a depth, each with the lines of the tree to its left."""
    if not screen.live:
        return [(node, "") for node, _ in outline(root, depth)]
    bend, tee, beam, gap = ("└ ", "├ ", "│ ", "  ") if screen.blocks else ("` ", "|-", "| ", "  ")
    nodes = []
    for node, lasts in outline(root, depth):
        # The topmost nodes have no lines to their left, since they have no parent.
        beams = "".join(gap if last else beam for last in lasts[1:-1])
        nodes.append((node, beams + ((bend if lasts[-1] else tee) if len(lasts) > 1 else "")))
    return nodes


def label_of_node(node: Node[T], screen: Screen, *, whole: bool = False) -> str:
    """Return a node's label in a tree, with the number of its copies; with `whole`, and in a pipe, its path instead."""
    name = label_of(node.label if screen.live and not whole else node.path, LONGEST)
    if node.copies > 1 and (whole or "{" in node.label):  # in a tree not again for everything below
        name += f" {'×' if screen.blocks else 'x'}{node.copies}"
    return name
