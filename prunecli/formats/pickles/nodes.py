"""The nodes of an inert pickle graph: what `graph.load` makes and `dump.dump` writes.

Plain values (`Atom`) stand for themselves. Everything else is a node and has identity: one node in two places is one
object. No node has `__eq__`, nor a `__repr__` that looks inside: on a cyclic or very deep graph neither would return.
"""

from __future__ import annotations  # nodes refer to each other

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = [
    "Atom",
    "ByteArrayNode",
    "ByteStringNode",
    "Call",
    "DictNode",
    "Entry",
    "Global",
    "GraphNode",
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


@dataclass(slots=True, eq=False, repr=False)
class ListNode:
    """A list."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class TupleNode:
    """A tuple. Replacing one of its `items` replaces it for everybody who shares the tuple."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class Entry:
    """One key and its value. Giving `key` another value renames this entry, and nothing else that shares the key."""

    key: Node
    value: Node


@dataclass(slots=True, eq=False, repr=False)
class DictNode:
    """A dict: its entries in the order in which they were set. A key set twice is there twice (the last one wins)."""

    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class SetNode:
    """A set or a frozenset, in the order of the pickle. Equal members are not noticed: nothing is hashed."""

    items: list[Node]
    frozen: bool


@dataclass(slots=True, eq=False, repr=False)
class ByteArrayNode:
    """A bytearray: a node, not an atom, because it can change and so has identity."""

    data: bytes


@dataclass(slots=True, eq=False, repr=False)
class ByteStringNode:
    """A Python 2 `str` that is not ASCII: which text it is depends on the reader's `encoding`, so the bytes stay."""

    data: bytes


@dataclass(slots=True, eq=False)
class Global:
    """The name of a class or function. What it means depends on the protocol (before 3: Python 2's names)."""

    module: str
    name: str


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """An object that a call would make (REDUCE, NEWOBJ, NEWOBJ_EX, OBJ), and what would be done to it afterwards.

    That is, in this order, the only one that picklers write: `items` are appended, `entries` are set, and each of
    `states` is handed to BUILD (mostly none or one). "obj" stands for INST, too: both make instances of Python 2's
    classes, from arguments that lie on the stack; `args` is a tuple all the same, and nobody else's.
    """

    kind: Literal["reduce", "newobj", "newobj_ex", "obj"]
    function: Node
    args: Node
    kwargs: Node = None
    items: list[Node] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    states: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class Persistent:
    """An object that lives outside the pickle, under this id (in torch's files: a storage)."""

    id: Node


@dataclass(slots=True, eq=False, repr=False)
class PickleGraph:
    """One pickle, read.

    `protocol` is the declared one, 0 where none is. `end` is the offset just behind STOP, where the next pickle of a
    legacy torch file begins. `globals` are all classes and functions that the stream names, in its order, also those
    that it throws away again: who judges what a pickle would run judges these, not only what `walk` finds. `called` are
    those of them that it calls, `built` those whose results it gives a state. `strict` is what weights-only loading
    refuses to do, whatever is named: appending to what is not a list, calling what a call made; None where that is
    nothing.
    `persistents` are the persistent ids in the same way: torch lays storages out in that order. `lost` says in a line
    what else the stream would do, and no graph can hold (a call whose result it throws away); None where that is
    nothing. A graph that lost something is good for judging its globals, and for nothing else.
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


Atom: TypeAlias = bool | int | float | str | bytes | None
GraphNode: TypeAlias = (
    ListNode | TupleNode | DictNode | SetNode | ByteArrayNode | ByteStringNode | Global | Call | Persistent
)
Node: TypeAlias = Atom | GraphNode

_ATOMS = (type(None), bool, int, float, str, bytes)


def flat(entries: list[Entry]) -> list[Node]:
    """Keys and values in turn, as a pickle names them."""
    return [node for entry in entries for node in (entry.key, entry.value)]


def children(node: GraphNode) -> list[Node]:
    """What a node refers to, in the order in which a pickle names it."""
    match node:
        case ListNode() | TupleNode() | SetNode():
            return node.items
        case DictNode():
            return flat(node.entries)
        case Call():
            return [node.function, node.args, node.kwargs, *node.items, *flat(node.entries), *node.states]
        case Persistent():
            return [node.id]
    return []


def walk(root: Node) -> Iterator[GraphNode]:
    """Every node that can be reached from `root`, once, a parent before its children; atoms are passed over."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, _ATOMS) or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        todo.extend(reversed(children(node)))
