"""Find the state dict in a checkpoint's object graph by its structure, and name what is in it.

Nothing here knows a training framework: a state dict is a mapping with tensors, possibly under one of the usual
wrappers, and what belongs to the optimizer or to an average is told by its name or its shape.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.pickle_nodes import Call, DictNode, Entry, Global, GraphNode, ListNode, Node, TupleNode, children
from prunecli.formats.torch_tensors import TensorRef, tensor_ref

__all__ = ["NamedNode", "StateDict", "find_state_dict", "mapping_entries"]

_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
)  # fmt: skip
_NOT_WEIGHTS = re.compile(
    r"(?i:optim|sched|average)|(?<![A-Za-z])(?i:ema|swa|grads?|rng|(grad)?scaler)(?![a-z])|(?<=[a-z])(EMA|SWA)(?![a-z])"
)
"""Optimizers, schedulers, scalers, averages; but not a `schema_encoder`, a `cinema` or an `upscaler`."""

_OPTIMIZER_ENTRIES = 64  # an optimizer's state dict has two or three
_LONGEST_NAME = 4096  # else a file of a megabyte could spell out names of gigabytes, through shared keys and nesting
_DICTS = {("collections", "OrderedDict"), ("collections", "Counter"), ("collections", "defaultdict")}


@dataclass(frozen=True, slots=True, eq=False)
class NamedNode:
    """A tensor's node, what it says, its dotted name, and the entry list it stands in (None inside a list or tuple)."""

    name: str
    node: Node
    ref: TensorRef
    home: list[Entry] | None
    entry: Entry | None


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """Where the state dict lies (`wrapper`, a dotted path, "" for the top) and what it holds."""

    wrapper: str
    nodes: tuple[NamedNode, ...]


def mapping_entries(node: Node) -> list[Entry] | None:
    """Return the entries of a dict or one of its plain subclasses; None for anything else."""
    if isinstance(node, DictNode):
        return node.entries
    if isinstance(node, Call) and isinstance(node.function, Global):
        function = node.function
        if (function.module, function.name) in _DICTS:
            return node.entries
    return None


def find_state_dict(root: Node, key: str | None, where: str) -> StateDict:
    """Find the state dict below `root`, or take the one that `key` (a dotted path) names.

    Raises:
        UsageError: `key` leads nowhere.
        UnsupportedError: two tensors get the same name.
    """
    survey = _survey(root, where)
    node, path = _descend(root, survey) if key is None else (_follow(root, key, where), key)
    nodes = tuple(_named(node, survey, where, forced=key is not None))
    seen: set[str] = set()
    for named in nodes:
        if named.name in seen:
            raise UnsupportedError(f"{where}: two tensors are named {show(named.name)}")
        seen.add(named.name)
    return StateDict(path, nodes)


@dataclass(frozen=True, slots=True)
class _Survey:
    """By id of their nodes: all tensors of a graph, and everything from which one can be reached."""

    tensors: dict[int, TensorRef]
    holders: set[int]


def _descend(root: Node, survey: _Survey) -> tuple[Node, str]:
    node, path = root, []
    visited: set[int] = set()
    while id(node) not in visited:
        visited.add(id(node))
        step = _step(node, survey)
        if step is None:
            break
        path.append(_text(step.key))
        node = step.value
    return node, ".".join(path)


def _step(node: Node, survey: _Survey) -> Entry | None:
    """Return the entry to go down through, or None if the state dict is here."""
    levels = [
        entry
        for entry in mapping_entries(node) or []
        if id(entry.value) in survey.holders and mapping_entries(entry.value) is not None and not _carried(entry)
    ]
    for wrapper in _WRAPPERS:
        for entry in levels:
            if entry.key == wrapper:
                return entry
    if any(id(entry.value) in survey.tensors for entry in mapping_entries(node) or []):
        return None
    return levels[0] if len(levels) == 1 else None


def _carried(entry: Entry) -> bool:
    """Whether an entry beside the weights is optimizer state, an average, or the like."""
    few = (mapping_entries(entry.value) or [])[:_OPTIMIZER_ENTRIES]
    keys = {below.key for below in few if isinstance(below.key, str)}
    return {"state", "param_groups"} <= keys or bool(_NOT_WEIGHTS.search(_text(entry.key)))


def _survey(root: Node, where: str) -> _Survey:
    """Look at every node once, however much they share, and read the tensors among them."""
    parents: dict[int, list[int]] = {id(root): []}
    todo = [root]
    tensors: dict[int, TensorRef] = {}
    while todo:
        node = todo.pop()
        ref = tensor_ref(node, where)
        if ref is not None:
            tensors[id(node)] = ref
        elif isinstance(node, GraphNode):
            for below in children(node):
                if id(below) not in parents:
                    todo.append(below)
                parents.setdefault(id(below), []).append(id(node))
    holders, found = set(tensors), list(tensors)
    while found:
        for parent in parents[found.pop()]:
            if parent not in holders:
                holders.add(parent)
                found.append(parent)
    return _Survey(tensors, holders)


def _named(root: Node, survey: _Survey, where: str, *, forced: bool) -> Iterator[NamedNode]:
    """Name every tensor below `root`, without recursion, in the order of the file."""
    stack: list[tuple[str, Node, list[Entry] | None, Entry | None]] = [("", root, None, None)]
    visited: set[int] = set()
    while stack:
        name, node, home, entry = stack.pop()
        if id(node) in survey.tensors:
            yield NamedNode(name, node, survey.tensors[id(node)], home, entry)
        elif isinstance(node, GraphNode) and id(node) not in visited:
            visited.add(id(node))
            below = _children(node, name, survey.holders, skip_carried=node is root and not forced)
            if any(len(each[0]) > _LONGEST_NAME for each in below):
                raise UnsupportedError(f"{where}: a tensor below {show(name)} has too long a name")
            stack += reversed(below)


def _children(
    node: Node, name: str, holders: set[int], *, skip_carried: bool
) -> list[tuple[str, Node, list[Entry] | None, Entry | None]]:
    """Return what holds tensors below a node, by name; keys are clipped just above the limit, before they add up."""
    dot = f"{name}." if name else ""
    entries = mapping_entries(node)
    if entries is not None:
        return [
            (dot + _text(entry.key)[: _LONGEST_NAME + 1], entry.value, entries, entry)
            for entry in entries
            if id(entry.value) in holders
            and not (skip_carried and mapping_entries(entry.value) is not None and _carried(entry))
        ]
    if isinstance(node, ListNode | TupleNode):
        return [(f"{dot}{index}", item, None, None) for index, item in enumerate(node.items) if id(item) in holders]
    return []


def _follow(root: Node, key: str, where: str) -> Node:
    """Walk a dotted path; keys may hold dots themselves, so the longest that fits is taken first."""
    node, parts = root, key.split(".") if key else []
    while parts:
        entries = mapping_entries(node) or []
        by_text = {_text(entry.key): entry.value for entry in entries}
        for taken in range(len(parts), 0, -1):
            if ".".join(parts[:taken]) in by_text:
                node, parts = by_text[".".join(parts[:taken])], parts[taken:]
                break
        else:
            known = ", ".join(show(name, 40) for name in list(by_text)[:8]) or "nothing"
            raise UsageError(f"--key {show(key)}: {where} has no {show(parts[0])} there, but {known}")
    return node


def _text(key: Node) -> str:
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int) and abs(key) < 1 << 64 else type(key).__name__
