"""Trees of modules as rows of a table: what fits the screen, the lines of the tree, and the labels."""

from typing import TypeVar

from prunecli.reporting.folding import fit, fold
from prunecli.reporting.numbers import label_of
from prunecli.reporting.options import Sort
from prunecli.reporting.terminal import Screen
from prunecli.reporting.tree import Node, heights, outline, sort_tree

__all__ = ["drawn", "fitted", "label_of_node"]

T = TypeVar("T")

_LONGEST = 1000
"""The most characters of a label."""


def fitted(root: Node[T], screen: Screen, sort: Sort, room: int) -> tuple[list[tuple[Node[T], str]], bool]:
    """Return the nodes that fit, and whether some were left out: then similar siblings are folded into one row."""
    if heights(root)[-1] <= room:
        sort_tree(root, sort)
        return drawn(root, None, screen), False
    folded = fold(root)
    sort_tree(folded, sort)
    return drawn(fit(folded, room - 1), None, screen), True


def drawn(root: Node[T], depth: int | None, screen: Screen) -> list[tuple[Node[T], str]]:
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
    """Return a node's label in a tree, or with `whole`, and in a pipe, its path; with the number of its copies."""
    name = label_of(node.label if screen.live and not whole else node.path, _LONGEST)
    if node.copies > 1 and (whole or "{" in node.label):  # in a tree not again for everything below
        name += f" {'×' if screen.blocks else 'x'}{node.copies}"
    return name
