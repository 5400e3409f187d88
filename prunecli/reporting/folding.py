"""A copy of a tree with fewer rows: similar numbered siblings become one, or only what fits is kept."""

import re
from collections.abc import Sequence
from typing import TypeVar

from prunecli.reporting.tree import Node, Sums, heights, join_only_child

__all__ = ["fit", "fold"]

T = TypeVar("T")

_ALIKE = 0.01
"""The largest difference between numbered siblings, as a share of their elements, that one row may represent."""
_LOOK_BACK = 8
"""The number of earlier groups with which a sibling is compared."""
_WORTH_IT = 3
"""The fewest rows to show below a module; if fewer fit, none is shown."""
_NUMBERED = re.compile(r"([0-9]{1,9})(\..*)?", re.DOTALL)


def fold(node: Node[T]) -> Node[T]:
    """Return a copy in which similar numbered siblings (the layers of most models) are one node: `{0..11}`."""
    children = _gathered([fold(child) for child in node.children])
    folded = Node(node.label, node.path, node.leaf, children, node.sums, node.copies)
    if node.label and len(node.children) > 1:
        join_only_child(folded)
    return folded


def _gathered(children: Sequence[Node[T]]) -> list[Node[T]]:
    groups: list[tuple[str | None, list[tuple[int, Node[T]]]]] = []
    for child in children:
        found = _NUMBERED.fullmatch(child.label)
        if found is None:
            groups.append((None, [(0, child)]))
            continue
        rest = found[2] or ""
        recent = (each for each in reversed(groups[-_LOOK_BACK:]) if each[0] == rest)
        group = next((each for each in recent if _alike(each[1][0][1], child)), None)
        if group is None:
            groups.append((rest, [(int(found[1]), child)]))
        else:
            group[1].append((int(found[1]), child))
    return [_merged(members, rest) for rest, members in groups]


def _merged(members: list[tuple[int, Node[T]]], rest: str | None) -> Node[T]:
    if len(members) == 1:
        return members[0][1]
    one = _as_one([node for _, node in members])
    one.label = f"{{{_ranges(sorted(number for number, _ in members))}}}{rest}"
    old = one.path
    _move(one, len(old), old.removesuffix(members[0][1].label) + one.label)
    return one


def _move(node: Node[T], length: int, place: str) -> None:
    """Replace the first `length` characters in the paths of a node and all nodes below it."""
    node.path = place + node.path[length:]
    for child in node.children:
        _move(child, length, place)


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers in short form: `0..5,7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ",".join("..".join(map(str, run)) for run in runs)


def _as_one(nodes: Sequence[Node[T]]) -> Node[T]:
    first = nodes[0]
    sums = Sums()
    for node in nodes:
        sums.add(node.sums)
    children = [_as_one([node.children[number] for node in nodes]) for number in range(len(first.children))]
    return Node(first.label, first.path, first.leaf, children, sums, sum(node.copies for node in nodes))


def _alike(one: Node[T], other: Node[T]) -> bool:
    """Whether one row may represent both: the same rows lie below them, with about the same shares of elements."""
    shares = zip(one.sums.shares, other.sums.shares, strict=True)
    if len(one.children) != len(other.children) or any(abs(mine - its) > _ALIKE for mine, its in shares):
        return False
    if one.leaf is not None and other.leaf is not None:
        return one.leaf.traits == other.leaf.traits
    if one.leaf is not other.leaf:
        return False
    pairs = zip(one.children, other.children, strict=True)
    return all(each.label == its.label and _alike(each, its) for each, its in pairs)


def fit(root: Node[T], room: int) -> Node[T]:
    """Return the tree, or a copy of at most `room` rows.

    Such a copy contains all nodes down to some depth. If there is room left, it also contains the first children of
    each module at that depth, and one row for all others. Call `sort_tree` before, since it decides which come first.
    """
    rows = heights(root)
    depth = max(depth for depth, count in enumerate(rows) if count <= room)
    if depth == len(rows) - 1:
        return root
    level = [root]
    for _ in range(depth):
        level = [child for node in level for child in node.children]
    quota = (room - rows[depth]) // sum(bool(node.children) for node in level)
    return _cut(root, depth, quota)


def _cut(node: Node[T], depth: int, quota: int) -> Node[T]:
    children = [_cut(child, depth - 1, quota) for child in node.children] if depth else _first(node, quota)
    return Node(node.label, node.path, node.leaf, children, node.sums, node.copies)


def _first(node: Node[T], quota: int) -> list[Node[T]]:
    """Return at most `quota` children without their own children; the last one represents those left out."""
    if len(node.children) > quota < _WORTH_IT:
        return []
    shown = node.children if len(node.children) <= quota else node.children[: quota - 1]
    first = [Node(each.label, each.path, each.leaf, [], each.sums, each.copies) for each in shown]
    if len(shown) < len(node.children):
        rest = Sums()
        rest.add(node.sums)
        for each in shown:
            rest.add(each.sums, -1)
        label = f"{len(node.children) - len(shown):,} more"
        first.append(Node(label, f"{node.path}: {label}" if node.path else label, sums=rest))
    return first
