"""Rows as a tree of modules, according to the names of their tensors."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import field
from types import MappingProxyType
from typing import Generic, TypeVar

from prunecli.lean import dataclass
from prunecli.reporting.options import Sort

__all__ = ["Leaf", "Node", "Sums", "by_key", "grow", "heights", "join_only_child", "outline", "sort_tree"]

T = TypeVar("T")

_DEEPEST = 32
"""The most levels. Further dots are part of the last label, so no name makes the tree too deep to walk."""


@dataclass(slots=True)
class Sums:
    """The sums over the rows below a node; equal tied parameters count once. Each table fills in what it shows."""

    parameters: int = 0
    elements: int = 0
    zeros: int = 0
    pruned_now: int = 0
    candidates: int = 0
    zeros_before: int = 0
    newly_zero: int = 0
    revived: int = 0
    changed: int = 0

    def add(self, other: "Sums", sign: int = 1) -> None:
        """Add other sums, or subtract them with sign -1."""
        self.parameters += sign * other.parameters
        self.elements += sign * other.elements
        self.zeros += sign * other.zeros
        self.pruned_now += sign * other.pruned_now
        self.candidates += sign * other.candidates
        self.zeros_before += sign * other.zeros_before
        self.newly_zero += sign * other.newly_zero
        self.revived += sign * other.revived
        self.changed += sign * other.changed

    @property
    def sparsity(self) -> float:
        """Zeros by elements."""
        return self.zeros / self.elements if self.elements else 0.0

    @property
    def shares(self) -> tuple[float, ...]:
        """All sums by elements."""
        whole = self.elements or 1
        counts = (self.zeros, self.pruned_now, self.candidates, self.zeros_before)
        return tuple(each / whole for each in (*counts, self.newly_zero, self.revived, self.changed))


@dataclass(frozen=True, slots=True)
class Leaf(Generic[T]):
    """A row of a table under its tensor's name. One row may represent siblings whose `traits` are equal."""

    name: str
    content: T
    sums: Sums
    traits: tuple[Hashable, ...]


@dataclass(slots=True)
class Node(Generic[T]):
    """A module, or with `leaf` a row. It represents `copies` siblings; its sums cover all of them."""

    label: str
    path: str
    leaf: Leaf[T] | None = None
    children: "list[Node[T]]" = field(default_factory=list)
    sums: Sums = field(default_factory=Sums)
    copies: int = 1

    @property
    def sparsity(self) -> float | None:
        """Zeros by elements; None for a row that counts in no sums."""
        return None if self.leaf is not None and not self.sums.parameters else self.sums.sparsity


def grow(leaves: Sequence[Leaf[T]], repeated: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Node[T]:
    """Return the tree of modules according to the rows' names, in their order.

    A module with a single child is joined with it. `repeated` has the other names under which earlier rows count the
    same elements; they count once in each module.
    """
    root: Node[T] = Node("", "")
    modules = {"": root}
    made: list[tuple[Node[T], Node[T]]] = []
    for each in leaves:
        place, label = _split(each.name)
        parent = _module(place, modules, made)
        leaf = Node(label, each.name, each, sums=each.sums)
        parent.children.append(leaf)
        made.append((parent, leaf))
    for parent, node in reversed(made):
        parent.sums.add(node.sums)
    for each in leaves:
        shared = {path for name in repeated.get(each.name, ()) for path in _above(name)}
        for path in shared.intersection(_above(each.name)):
            modules[path].sums.add(each.sums, -1)
    for _, node in reversed(made):
        join_only_child(node)
    return root


def _split(name: str) -> tuple[str, str]:
    """Return the path of a tensor's module ("" for the root), and the tensor's own label."""
    if name.count(".") > _DEEPEST:
        parts = name.split(".", _DEEPEST)
        return ".".join(parts[:-1]), parts[-1]
    place, _, label = name.rpartition(".")
    return (place, label) if place else ("", name)


def _module(path: str, modules: dict[str, Node[T]], made: list[tuple[Node[T], Node[T]]]) -> Node[T]:
    """Return the node of a module, after creating it and its parents if needed."""
    missing = []
    while path not in modules:
        missing.append(path)
        path = path.rpartition(".")[0]
    node = modules[path]
    for each in reversed(missing):
        child: Node[T] = Node(each[len(node.path) + 1 :] if node.path else each, each)
        modules[each] = child
        node.children.append(child)
        made.append((node, child))
        node = child
    return node


def _above(name: str) -> Iterator[str]:
    path = _split(name)[0]
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


def join_only_child(node: Node[T]) -> None:
    """Join a module that has a single child with it."""
    if len(node.children) == 1:
        (child,) = node.children
        node.label, node.path = f"{node.label}.{child.label}", child.path
        node.leaf, node.children, node.copies = child.leaf, child.children, child.copies


def by_key(sort: Sort) -> Callable[[Node[T]], tuple[float, ...]]:
    """Return a sort key for nodes: the sparsest or the largest first; "name" keeps the order of the file."""
    if sort == "name":
        return lambda _: ()
    if sort == "size":
        return lambda node: (-node.sums.elements,)
    return lambda node: (node.sparsity is None, -(node.sparsity or 0.0))


def sort_tree(root: Node[T], sort: Sort) -> None:
    """Sort the siblings everywhere in a tree."""
    if sort == "name":
        return
    left = [root]
    key = by_key(sort)
    while left:
        node = left.pop()
        node.children.sort(key=key)
        left += node.children


def heights(root: Node[T]) -> list[int]:
    """Return the numbers of rows that the tree takes if shown to a depth of 0, 1, 2, ..., up to its full depth."""
    counts, level = [0], root.children
    while level:
        counts.append(counts[-1] + len(level))
        level = [child for node in level for child in node.children]
    return counts


def outline(root: Node[T], depth: int | None = None) -> Iterator[tuple[Node[T], tuple[bool, ...]]]:
    """Yield the nodes down to a depth, each module before its contents.

    Each node comes with flags that say, for every module around it and for itself, whether that is the last child.
    """
    left: list[tuple[Node[T], tuple[bool, ...]]] = [(root, ())]
    while left:
        node, lasts = left.pop()
        if node is not root:
            yield node, lasts
        if depth is None or len(lasts) < depth:
            final = len(node.children) - 1
            left += [(child, (*lasts, number == final)) for number, child in reversed([*enumerate(node.children)])]
