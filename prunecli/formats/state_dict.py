"""Find the state dict in a checkpoint's object graph by its structure, and name what is in it.

Nothing here knows a training framework: a state dict is a mapping with tensors, possibly under one of the usual
wrappers, and what belongs to the optimizer or to an average is told by its name or its shape.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.pickle_graph import Call, DictNode, Entry, Global, ListNode, Node, TupleNode, walk
from prunecli.formats.torch_tensors import tensor_ref

__all__ = ["NamedNode", "StateDict", "find_state_dict", "mapping_entries"]

_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
)  # fmt: skip
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|ema|average|swa|grad|rng", re.IGNORECASE)
_DICTS = {("collections", "OrderedDict"), ("collections", "Counter"), ("collections", "defaultdict")}


@dataclass(frozen=True, slots=True, eq=False)
class NamedNode:
    """A tensor's node, its dotted name, and the entry list it stands in (None inside a list or tuple)."""

    name: str
    node: Node
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
    if key is not None:
        node, path = _follow(root, key, where), key
        nodes = tuple(_named(node, "", forced=True))
    else:
        node, path = _descend(root)
        nodes = tuple(_named(node, "", forced=False))
    seen: set[str] = set()
    for named in nodes:
        if named.name in seen:
            raise UnsupportedError(f"{where}: two tensors are named {show(named.name)}")
        seen.add(named.name)
    return StateDict(path, nodes)


def _descend(root: Node) -> tuple[Node, str]:
    node, path = root, []
    visited: set[int] = set()
    while id(node) not in visited:
        visited.add(id(node))
        step = _step(node)
        if step is None:
            break
        path.append(_text(step.key))
        node = step.value
    return node, ".".join(path)


def _step(node: Node) -> Entry | None:
    """Return the entry to go down through, or None if the state dict is here."""
    children = [
        entry
        for entry in mapping_entries(node) or []
        if mapping_entries(entry.value) is not None and not _carried(entry) and _holds_tensors(entry.value)
    ]
    for wrapper in _WRAPPERS:
        for entry in children:
            if entry.key == wrapper:
                return entry
    if any(tensor_ref(entry.value, "") for entry in mapping_entries(node) or []):
        return None
    return children[0] if len(children) == 1 else None


def _carried(entry: Entry) -> bool:
    """Whether an entry beside the weights is optimizer state, an average, or the like."""
    keys = {below.key for below in mapping_entries(entry.value) or [] if isinstance(below.key, str)}
    return {"state", "param_groups"} <= keys or bool(_NOT_WEIGHTS.search(_text(entry.key)))


def _holds_tensors(node: Node) -> bool:
    return any(tensor_ref(below, "") is not None for below in walk(node))


def _named(root: Node, prefix: str, *, forced: bool) -> Iterator[NamedNode]:
    """Name every tensor below `root`, without recursion, in the order of the file."""
    stack: list[tuple[str, Node, list[Entry] | None, Entry | None]] = [(prefix, root, None, None)]
    on_path: set[int] = set()
    while stack:
        name, node, home, entry = stack.pop()
        if tensor_ref(node, name) is not None:
            yield NamedNode(name, node, home, entry)
            continue
        below = _children(node, name, skip_carried=node is root and not forced)
        if below and id(node) not in on_path:
            on_path.add(id(node))
            stack += reversed(below)


def _children(node: Node, name: str, *, skip_carried: bool) -> list[tuple[str, Node, list[Entry] | None, Entry | None]]:
    dot = f"{name}." if name else ""
    entries = mapping_entries(node)
    if entries is not None:
        return [
            (dot + _text(entry.key), entry.value, entries, entry)
            for entry in entries
            if not (skip_carried and mapping_entries(entry.value) is not None and _carried(entry))
        ]
    if isinstance(node, ListNode | TupleNode):
        return [(f"{dot}{index}", item, None, None) for index, item in enumerate(node.items)]
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
    return key if isinstance(key, str) else str(key) if isinstance(key, int) else type(key).__name__
