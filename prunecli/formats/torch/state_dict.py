"""Find the state dict in a checkpoint's object graph by its structure, and name what is in it.

Nothing here knows a training framework: a state dict is a module or a mapping with tensors, possibly under one of the
usual wrappers, and what belongs to the optimizer or to an average is told by its name or its shape.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.pickles.nodes import Call, GraphNode, Node, children
from prunecli.formats.torch.object_tree import Branch, Tree, is_mapping, mapping_entries
from prunecli.formats.torch.tensors import Stranger, TensorRef, stranger, tensor_ref

__all__ = ["NamedNode", "StateDict", "find_state_dict", "is_carried_key", "text_of_key"]

_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
)  # fmt: skip
_NOT_WEIGHTS = re.compile(
    r"(?i:optim|sched|average)|(?<![A-Za-z])(?i:ema|swa|grads?|rng|(grad)?scaler)(?![a-z])|(?<=[a-z])(EMA|SWA)(?![a-z])"
)
"""Optimizers, schedulers, scalers, averages; but not a `schema_encoder`, a `cinema` or an `upscaler`."""

_OPTIMIZER_ENTRIES = 64  # an optimizer's state dict has two or three
_LONGEST_NAME = 4096  # else a file of a megabyte could spell out names of gigabytes, through shared keys and nesting
_LETTERS = 1 << 26  # of all names together; what is shared is named wherever it hangs, which can be exponential
_LARGEST_KEY = 1 << 53  # from there on, readers of JSON and of other languages take neighbours for one number
_WIDEST = 1 << 20  # parts of one object that holds tensors
_REVISITS = 16  # of every object and every reference, on the average


@dataclass(frozen=True, slots=True, eq=False)
class NamedNode:
    """A tensor's node, what it says, its dotted name, and the branch by which it hangs in the state dict."""

    name: str
    node: Node
    ref: TensorRef | Stranger
    branch: Branch


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """Where the state dict lies (`wrapper`, a dotted path, "" for the top), what it holds, and what lies elsewhere."""

    wrapper: str
    nodes: tuple[NamedNode, ...]
    others: tuple[NamedNode, ...]


def is_carried_key(key: str) -> bool:
    """Whether a name is that of optimizer state, of an average, or the like."""
    return bool(_NOT_WEIGHTS.search(key))


def text_of_key(key: Node) -> str:
    """Return a key as a part of a dotted name."""
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int) and abs(key) < 1 << 64 else type(key).__name__


def find_state_dict(root: Node, key: str | None, where: str, tree: Tree) -> StateDict:
    """Find the state dict below `root`, or take the one that `key` (a dotted path) names.

    Raises:
        UsageError: `key` leads nowhere.
        UnsupportedError: two tensors get the same name, or names outgrow all bounds.
    """
    return _Finder(root, where, tree).find(key)


class _Finder:
    """All that is known of one graph: by id of their nodes, its tensors and everything that holds one."""

    def __init__(self, root: Node, where: str, tree: Tree) -> None:
        self._root, self._where, self._tree = root, where, tree
        self._tensors: dict[int, TensorRef | Stranger] = {}
        self._references = self._looked = self._letters = 0
        self._holders = self._survey()

    def find(self, key: str | None) -> StateDict:
        node, path = self._descend() if key is None else (self._follow(key), key)
        nodes = tuple(self._named(node, forced=key is not None))
        seen: set[str] = set()
        for named in nodes:
            if named.name in seen:
                raise UnsupportedError(f"{self._where}: two tensors are named {show(named.name)}")
            seen.add(named.name)
        return StateDict(path, nodes, tuple(self._others(nodes)))

    def _survey(self) -> set[int]:
        """Look at every node once, however much they share, and read the tensors among them."""
        parents: dict[int, list[int]] = {id(self._root): []}
        todo = [self._root]
        wide: dict[int, int] = {}
        while todo:
            node = todo.pop()
            ref = tensor_ref(node, self._where) or stranger(node) if isinstance(node, Call) else None
            if ref is not None:
                self._tensors[id(node)] = ref
            if isinstance(node, GraphNode):
                held, own = children(node), id(node)
                if len(held) > _WIDEST:
                    wide[own] = len(held)
                self._references += len(held)
                for below in held:
                    above = parents.get(id(below))
                    if above is None:
                        todo.append(below)
                        parents[id(below)] = [own]
                    elif above[-1:] != [own]:  # of a million references from one object, one is enough
                        above.append(own)
        holders = self._holding(parents)
        widest = max((parts for own, parts in wide.items() if own in holders or own == id(self._root)), default=0)
        if widest:
            raise UnsupportedError(f"{self._where}: tensors are looked for in an object with {widest} parts; too many")
        return holders

    def _holding(self, parents: dict[int, list[int]]) -> set[int]:
        """Return the tensors, and all that holds one."""
        holders, found = set(self._tensors), list(self._tensors)
        while found:
            for parent in parents[found.pop()]:
                if parent not in holders:
                    holders.add(parent)
                    found.append(parent)
        return holders

    def _held(self, branches: list[Branch]) -> list[Branch]:
        """Return those that hold tensors. What is shared is looked at once for each holder, up to a limit."""
        self._looked += len(branches)
        if self._looked > _REVISITS * (self._references + 1000):
            raise self._entangled()
        return [branch for branch in branches if id(branch.value) in self._holders]

    def _branches(self, node: Node) -> list[Branch]:
        """Return what a node holds; where one key has two values, only the last is there for who loads it."""
        branches = self._tree.branches(node)
        seen: set[tuple[int, Node]] = set()
        for branch in branches:
            if branch.home is not None and _is_plain(branch.key):
                place = id(branch.home), branch.key
                if place in seen:
                    raise UnsupportedError(f"{self._where}: a dict has the key {show(text_of_key(branch.key))} twice")
                seen.add(place)
        return branches

    def _spell(self, name: str, branches: list[Branch]) -> list[str]:
        """Name what holds tensors below `name`, keys clipped; the letters of all names together have a limit."""
        dot = f"{name}." if name else ""
        keys = [text_of_key(branch.key) for branch in branches]
        self._letters += sum(len(dot) + min(len(key), _LONGEST_NAME) for key in keys)
        if self._letters > _LETTERS:
            raise self._entangled()
        return [dot + key[: _LONGEST_NAME + 1] for key in keys]

    def _entangled(self) -> UnsupportedError:
        return UnsupportedError(f"{self._where}: its objects share each other in too many ways to name them all")

    def _descend(self) -> tuple[Node, str]:
        node, path = self._root, []
        visited: set[int] = set()
        while id(node) not in visited:
            visited.add(id(node))
            step = self._step(node)
            if step is None:
                break
            path.append(text_of_key(step.key))
            node = step.value
        return node, ".".join(path)

    def _step(self, node: Node) -> Branch | None:
        """Return the branch to go down by, or None if the state dict is here."""
        if self._tree.is_module(node) or id(node) in self._tensors:
            return None
        here = [branch for branch in self._held(self._branches(node)) if isinstance(branch.key, str | int)]
        levels = [branch for branch in here if self._is_level(branch) and not _carried(branch)]
        for wrapper in _WRAPPERS:
            for branch in levels:
                if branch.key == wrapper:
                    return branch
        if any(id(branch.value) in self._tensors for branch in here):
            return None
        return levels[0] if len(levels) == 1 and levels[0].entry is not None else None

    def _is_level(self, branch: Branch) -> bool:
        """Whether a state dict may lie below: in a mapping, a module, or another object with attributes."""
        value = branch.value
        return id(value) not in self._tensors and (is_mapping(value) or isinstance(value, Call))

    def _named(self, root: Node, *, forced: bool) -> Iterator[NamedNode]:
        """Name every tensor below `root`, in the order of the file; shared objects once for each way to them."""
        stack: list[tuple[str, Branch] | None] = [("", Branch(None, root, "root"))]
        above: list[int] = []  # the objects that the current one lies in
        around: set[int] = set()
        visits = 0
        while stack:
            task = stack.pop()
            if task is None:
                around.discard(above.pop())
                continue
            name, branch = task
            node = branch.value
            visits += 1
            if visits > _REVISITS * (len(self._holders) + 1):
                raise self._entangled()
            if id(node) in self._tensors:
                yield NamedNode(name, node, self._tensors[id(node)], branch)
            elif id(node) not in around:
                around.add(id(node))
                above.append(id(node))
                stack.append(None)
                stack += reversed(self._below(node, name, skip_carried=node is root and not forced))

    def _below(self, node: Node, name: str, *, skip_carried: bool) -> list[tuple[str, Branch]]:
        """Return what holds tensors below a node, by name."""
        skip = skip_carried and not self._tree.is_module(node)
        below = [
            branch
            for branch in self._held(self._branches(node))
            if not (skip and self._is_level(branch) and _carried(branch))
        ]
        if not all(_is_name(branch.key) for branch in below):
            raise UnsupportedError(
                f"{self._where}: a tensor below {show(name) or 'the top'} has a key that is neither text nor a whole "
                "number"
            )
        names = self._spell(name, below)
        if any(len(each) > _LONGEST_NAME for each in names):
            raise UnsupportedError(f"{self._where}: a tensor below {show(name)} has too long a name")
        return list(zip(names, below, strict=True))

    def _others(self, named: tuple[NamedNode, ...]) -> Iterator[NamedNode]:
        """Yield the tensors that hang by other branches than those of the state dict, by the path to each.

        Modules and optimizers refer to their parameters in lists of their own: those are no copies, and left out.
        """
        passed = {each.branch.edge for each in named if isinstance(each.ref, TensorRef)}
        own = {id(each.node) for each in named}
        stack = [("", Branch(None, self._root, "root"), False)]
        visited: set[int] = set()
        while stack:
            name, branch, within = stack.pop()
            node = branch.value
            ref = self._tensors.get(id(node))
            if isinstance(ref, TensorRef):
                if branch.edge not in passed and not (within and id(node) in own):
                    passed.add(branch.edge)
                    yield NamedNode(name, node, ref, branch)
                continue
            self._letters -= len(name)  # a way to go on, and no tensor's name: it may be long
            if id(node) not in visited:
                visited.add(id(node))
                within = within or self._tree.refers(node)
                below = self._held(self._places(node))[::-1]
                names = self._spell(name[:_LONGEST_NAME], below)
                stack += [(name, each, within) for name, each in zip(names, below, strict=True)]

    def _places(self, node: Node) -> list[Branch]:
        """Return everything that a node refers to: by name where it has one, last by number, so that none is missed."""
        bare = children(node) if isinstance(node, GraphNode) else []
        numbered = [Branch(index, each, (id(node), "child", index)) for index, each in enumerate(bare)]
        named = self._tree.branches(node) + self._tree.rest(node)
        known = {id(branch.value) for branch in named}
        return named + [branch for branch in numbered if id(branch.value) not in known]

    def _follow(self, key: str) -> Node:
        """Walk a dotted path; keys may hold dots themselves, so the longest that fits is taken first."""
        node, parts = self._root, key.split(".") if key else []
        while parts:
            below = [] if id(node) in self._tensors else self._tree.branches(node)
            by_text = {text_of_key(branch.key): branch.value for branch in below}
            for taken in range(len(parts), 0, -1):
                if ".".join(parts[:taken]) in by_text:
                    node, parts = by_text[".".join(parts[:taken])], parts[taken:]
                    break
            else:
                known = ", ".join(show(name, 40) for name in list(by_text)[:8]) or "nothing"
                raise UsageError(f"--key {show(key)}: {self._where} has no {show(parts[0])} there, but {known}")
        return node


def _is_plain(key: Node) -> bool:
    """Whether a key can be compared at no cost."""
    return isinstance(key, str | float) or (isinstance(key, int) and key.bit_length() <= 64)


def _is_name(key: Node) -> bool:
    """Whether a key can be a part of a name."""
    return isinstance(key, str) or (isinstance(key, int) and abs(key) < _LARGEST_KEY)


def _carried(branch: Branch) -> bool:
    """Whether something beside the weights is optimizer state, an average, or the like."""
    few = (mapping_entries(branch.value) or [])[:_OPTIMIZER_ENTRIES]
    keys = {below.key for below in few if isinstance(below.key, str)}
    return {"state", "param_groups"} <= keys or is_carried_key(text_of_key(branch.key)[:_LONGEST_NAME])
