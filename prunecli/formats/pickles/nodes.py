"""The nodes of an inert pickle graph: `graph.load` makes them and `dump.dump` writes them.

Plain values (`Atom`) stand for themselves. Everything else is a node and has identity: one node in two places is one
object. Nodes do not have `__eq__` or a `__repr__` that shows their content: on a cyclic or very deep graph, neither
would return.
"""

from __future__ import annotations  # nodes refer to each other

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias

from prunecli.lean import dataclass

__all__ = [
    "ATOMS",
    "Atom",
    "ByteArrayNode",
    "ByteStringNode",
    "Call",
    "DictNode",
    "Entry",
    "Global",
    "GraphNode",
    "Letter",
    "ListNode",
    "Node",
    "Persistent",
    "PickleGraph",
    "SetNode",
    "TupleNode",
    "children",
    "flat",
    "walk",
]


class Letter(str):
    """A text of one character that is an object of its own: Python shares equal ones, but the pickler may not have."""

    __slots__ = ()


_NONE: Any = ()
"""The changes of most calls: there are several calls for each of very many tensors."""


@dataclass(slots=True, eq=False, repr=False)
class ListNode:
    """A list."""

    items: list[Node] = field(default_factory=list)


class TupleNode(tuple["Node", ...]):
    """A tuple, with the identity of a node: several of them describe each of very many tensors."""

    __slots__ = ()
    __eq__, __ne__, __hash__, __repr__ = object.__eq__, object.__ne__, object.__hash__, object.__repr__

    @property
    def items(self) -> tuple[Node, ...]:
        """The items, as those of a list."""
        return self


@dataclass(slots=True, eq=False, repr=False)
class Entry:
    """One key and its value. Assigning to `key` renames this entry only, not others with the same key object."""

    key: Node
    value: Node


@dataclass(slots=True, eq=False, repr=False)
class DictNode:
    """A dict: its entries in the order in which they were set. A key set twice has two entries (the last one wins)."""

    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class SetNode:
    """A set or a frozenset, in the order of the pickle. Equal members stay, because nothing is hashed."""

    items: list[Node]
    frozen: bool


@dataclass(slots=True, eq=False, repr=False)
class ByteArrayNode:
    """A bytearray: a node, not an atom, because it can change and so has identity."""

    data: bytes


@dataclass(slots=True, eq=False, repr=False)
class ByteStringNode:
    """A Python 2 `str` that is not ASCII. Its text depends on the reader's `encoding`, so the bytes are kept."""

    data: bytes


@dataclass(slots=True, eq=False)
class Global:
    """The name of a class or function. Its meaning depends on the protocol (before 3: Python 2's names)."""

    module: str
    name: str


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """An object that a call would make (REDUCE, NEWOBJ, NEWOBJ_EX, OBJ), and the changes that would follow.

    The changes are, in the only order that picklers write: `items` are appended, `entries` are set, and each of
    `states` is passed to BUILD (mostly none or one). The kind "obj" also stands for INST: both make instances of
    Python 2's classes from arguments on the stack. There, too, `args` is a tuple, which is not shared.
    """

    kind: Literal["reduce", "newobj", "newobj_ex", "obj"]
    function: Node
    args: Node
    kwargs: Node = None
    items: list[Node] = _NONE
    entries: list[Entry] = _NONE
    states: list[Node] = _NONE

    def append(self, items: list[Node]) -> None:
        """Append items."""
        self.items = self.items or []
        self.items.extend(items)

    def set(self, entries: list[Entry]) -> None:
        """Set entries behind those that are set."""
        self.entries = self.entries or []
        self.entries.extend(entries)


@dataclass(slots=True, eq=False, repr=False)
class Persistent:
    """An object outside the pickle, identified by this id (in torch's files: a storage)."""

    id: Node


@dataclass(slots=True, eq=False, repr=False)
class PickleGraph:
    """The graph of one pickle, and what its stream names and does.

    `protocol` is the declared one, 0 if the stream does not declare any. `end` is the offset just after STOP, where the
    next pickle of a legacy torch file begins.

    `globals` are all classes and functions that the stream names, in its order, including those that it discards: a
    check of what a pickle would run must check all of these, not only those that `walk` finds. `called` are the ones
    that the stream calls, `built` the ones whose results get a state. `persistents` are all persistent ids, in the
    order of the stream, in which torch lays storages out.

    `strict` is a sentence about an operation that weights-only loading refuses whatever the names are (appending to
    something that is not a list, calling the result of a call); None if there is none. `lost` is a sentence about an
    operation that a graph cannot represent (a call whose result is discarded); None if there is none. A graph that
    lost something can only be used to check its globals. `listing` means that a call has a list as its only argument.
    """

    root: Node
    protocol: int
    end: int
    globals: list[Global]
    called: list[Global]
    built: list[Global]
    persistents: list[Persistent]
    lost: str | None = None
    strict: str | None = None
    listing: bool = False


Atom: TypeAlias = bool | int | float | str | bytes | None
GraphNode: TypeAlias = (
    ListNode | TupleNode | DictNode | SetNode | ByteArrayNode | ByteStringNode | Global | Call | Persistent
)
Node: TypeAlias = Atom | GraphNode

ATOMS: frozenset[type] = frozenset({type(None), bool, int, float, str, Letter, bytes})
"""The types of plain values."""


def flat(entries: list[Entry]) -> list[Node]:
    """Return keys and values in turn, in the order of a pickle."""
    return [node for entry in entries for node in (entry.key, entry.value)]


def children(node: GraphNode) -> Sequence[Node]:
    """Return what a node refers to, in the order of a pickle."""
    if isinstance(node, TupleNode | ListNode | SetNode):
        return node.items
    if isinstance(node, Call):
        found = [node.function, node.args, node.kwargs]
        if node.items or node.entries or node.states:
            found += [*node.items, *flat(node.entries), *node.states]
        return found
    if isinstance(node, DictNode):
        return flat(node.entries)
    return [node.id] if isinstance(node, Persistent) else []


def walk(root: Node) -> Iterator[GraphNode]:
    """Yield every node that can be reached from `root` once, parents before children; atoms are skipped."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if type(node) in ATOMS or id(node) in seen:
            continue
        seen.add(id(node))
        yield node  # type: ignore[misc]
        todo.extend([each for each in reversed(children(node)) if type(each) not in ATOMS])  # type: ignore[arg-type]
