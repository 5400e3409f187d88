"""The modules of a report as a tree, which can be folded: by depth, and where numbered siblings are similar."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from prunecli.reporting.options import Sort
from prunecli.surgery.report.model import ParameterReport, earlier_equals

__all__ = [
    "Node",
    "Sums",
    "by_key",
    "fit",
    "fold",
    "grow",
    "heights",
    "outline",
    "sort_tree",
    "sums_of",
]

_DEEPEST = 32
"""The most levels. Further dots are part of the last label, so no name makes the tree too deep to walk."""
_ALIKE = 0.01
"""The largest difference in sparsity between numbered siblings that one row may represent."""
_LOOK_BACK = 8
"""The number of earlier groups with which a sibling is compared."""
_WORTH_IT = 3
"""The fewest rows to show below a module; if fewer fit, none is shown."""
_NUMBERED = re.compile(r"([0-9]{1,9})(\..*)?", re.DOTALL)


@dataclass(slots=True)
class Sums:
    """The sums over the parameters below a node; equal tied parameters count once."""

    parameters: int = 0
    elements: int = 0
    zeros: int = 0
    pruned_now: int = 0

    def add(self, other: "Sums", sign: int = 1) -> None:
        """Add other sums, or subtract them with sign -1."""
        self.parameters += sign * other.parameters
        self.elements += sign * other.elements
        self.zeros += sign * other.zeros
        self.pruned_now += sign * other.pruned_now

    @property
    def sparsity(self) -> float:
        """Zeros by elements."""
        return self.zeros / self.elements if self.elements else 0.0


@dataclass(slots=True)
class Node:
    """A module, or with `parameter` a leaf. It represents `copies` siblings; its sums cover all of them."""

    label: str
    path: str
    parameter: ParameterReport | None = None
    children: list["Node"] = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    copies: int = 1

    @property
    def sparsity(self) -> float | None:
        """Zeros by elements; None for a parameter whose zeros are not counted."""
        return None if self.parameter is not None and self.parameter.zeros is None else self.sums.sparsity


def grow(parameters: Sequence[ParameterReport]) -> Node:
    """Return the tree of modules according to the parameters' names, in their order.

    A module with a single child is joined with it. Equal tied parameters count once in each module.
    """
    root = Node("", "")
    modules = {"": root}
    made: list[tuple[Node, Node]] = []
    for each in parameters:
        place, label = _split(each.name)
        parent = _module(place, modules, made)
        leaf = Node(label, each.name, each, sums=sums_of(each))
        parent.children.append(leaf)
        made.append((parent, leaf))
    for parent, node in reversed(made):
        parent.sums.add(node.sums)
    _count_ties_once(parameters, modules)
    for _, node in reversed(made):
        _join_only_child(node)
    return root


def _split(name: str) -> tuple[str, str]:
    """Return the path of a parameter's module ("" for the root), and the parameter's own label."""
    if name.count(".") > _DEEPEST:
        parts = name.split(".", _DEEPEST)
        return ".".join(parts[:-1]), parts[-1]
    place, _, label = name.rpartition(".")
    return (place, label) if place else ("", name)


def _module(path: str, modules: dict[str, Node], made: list[tuple[Node, Node]]) -> Node:
    """Return the node of a module, after creating it and its parents if needed."""
    missing = []
    while path not in modules:
        missing.append(path)
        path = path.rpartition(".")[0]
    node = modules[path]
    for each in reversed(missing):
        child = modules[each] = Node(each[len(node.path) + 1 :] if node.path else each, each)
        node.children.append(child)
        made.append((node, child))
        node = child
    return node


def sums_of(each: ParameterReport) -> Sums:
    """Return a parameter's share in the sums of its modules: nothing if its zeros are not counted."""
    return Sums() if each.zeros is None else Sums(1, each.elements, each.zeros, each.pruned_now)


def _count_ties_once(parameters: Sequence[ParameterReport], modules: dict[str, Node]) -> None:
    """Subtract a tied parameter from the modules that already count an equal one."""
    repeated = earlier_equals(parameters)
    for each in parameters:
        shared = {path for name in repeated.get(each.name, ()) for path in _above(name)}
        for path in shared.intersection(_above(each.name)):
            modules[path].sums.add(sums_of(each), -1)


def _above(name: str) -> Iterator[str]:
    path = _split(name)[0]
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def _join_only_child(node: Node) -> None:
    if len(node.children) == 1:
        (child,) = node.children
        node.label, node.path = f"{node.label}.{child.label}", child.path
        node.parameter, node.children, node.copies = child.parameter, child.children, child.copies


def by_key(sort: Sort) -> Callable[[Node], tuple[float, ...]]:
    """Return a sort key for nodes: the sparsest or the largest first; "name" keeps the order of the file."""
    if sort == "name":
        return lambda _: ()
    if sort == "size":
        return lambda node: (-node.sums.elements,)
    return lambda node: (node.sparsity is None, -(node.sparsity or 0.0))


def sort_tree(root: Node, sort: Sort) -> None:
    """Sort the siblings everywhere in a tree."""
    if sort == "name":
        return
    left = [root]
    key = by_key(sort)
    while left:
        node = left.pop()
        node.children.sort(key=key)
        left += node.children


def fold(node: Node) -> Node:
    """Return a copy in which similar numbered siblings (the layers of most models) are one node: `{0..11}`."""
    children = _gathered([fold(child) for child in node.children])
    folded = Node(node.label, node.path, node.parameter, children, node.sums, node.copies)
    if node.label and len(node.children) > 1:
        _join_only_child(folded)
    return folded


def _gathered(children: Sequence[Node]) -> list[Node]:
    groups: list[tuple[str | None, list[tuple[int, Node]]]] = []
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


def _merged(members: list[tuple[int, Node]], rest: str | None) -> Node:
    if len(members) == 1:
        return members[0][1]
    one = _as_one([node for _, node in members])
    one.label = f"{{{_ranges(sorted(number for number, _ in members))}}}{rest}"
    old = one.path
    _move(one, len(old), old.removesuffix(members[0][1].label) + one.label)
    return one


def _move(node: Node, length: int, place: str) -> None:
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


def _as_one(nodes: Sequence[Node]) -> Node:
    first = nodes[0]
    sums = Sums()
    for node in nodes:
        sums.add(node.sums)
    children = [_as_one([node.children[number] for node in nodes]) for number in range(len(first.children))]
    return Node(first.label, first.path, first.parameter, children, sums, sum(node.copies for node in nodes))


def _alike(one: Node, other: Node) -> bool:
    """Whether one row may represent both: they contain the same parameters, with about as many zeros in each."""
    if abs((one.sparsity or 0.0) - (other.sparsity or 0.0)) > _ALIKE or len(one.children) != len(other.children):
        return False
    mine, theirs = one.parameter, other.parameter
    if mine is not None and theirs is not None:
        return (mine.shape, mine.dtype, mine.state, mine.tied_to) == (
            theirs.shape,
            theirs.dtype,
            theirs.state,
            theirs.tied_to,
        )
    if mine is not theirs:
        return False
    pairs = zip(one.children, other.children, strict=True)
    return all(each.label == its.label and _alike(each, its) for each, its in pairs)


def heights(root: Node) -> list[int]:
    """Return the numbers of rows that the tree takes if shown to a depth of 0, 1, 2, ..., up to its full depth."""
    counts, level = [0], root.children
    while level:
        counts.append(counts[-1] + len(level))
        level = [child for node in level for child in node.children]
    return counts


def fit(root: Node, room: int) -> Node:
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


def _cut(node: Node, depth: int, quota: int) -> Node:
    children = [_cut(child, depth - 1, quota) for child in node.children] if depth else _first(node, quota)
    return Node(node.label, node.path, node.parameter, children, node.sums, node.copies)


def _first(node: Node, quota: int) -> list[Node]:
    """Return at most `quota` children without their own children; the last one represents those left out."""
    if len(node.children) > quota < _WORTH_IT:
        return []
    shown = node.children if len(node.children) <= quota else node.children[: quota - 1]
    first = [Node(each.label, each.path, each.parameter, [], each.sums, each.copies) for each in shown]
    if len(shown) < len(node.children):
        rest = Sums()
        rest.add(node.sums)
        for each in shown:
            rest.add(each.sums, -1)
        label = f"{len(node.children) - len(shown):,} more"
        first.append(Node(label, f"{node.path}: {label}" if node.path else label, sums=rest))
    return first


def outline(root: Node, depth: int | None = None) -> Iterator[tuple[Node, tuple[bool, ...]]]:
    """Yield the nodes down to a depth, each module before its contents.

    Each node comes with flags that say, for every module around it and for itself, whether that is the last child.
    """
    left: list[tuple[Node, tuple[bool, ...]]] = [(root, ())]
    while left:
        node, lasts = left.pop()
        if node is not root:
            yield node, lasts
        if depth is None or len(lasts) < depth:
            final = len(node.children) - 1
            left += [(child, (*lasts, number == final)) for number, child in reversed([*enumerate(node.children)])]
