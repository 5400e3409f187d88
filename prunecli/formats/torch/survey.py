"""The objects that hold tensors in a checkpoint's graph, collected in one pass, and limits that keep walks linear."""

from prunecli.errors import UnsupportedError, show
from prunecli.formats.pickles.nodes import ATOMS, Call, Global, GraphNode, Node, Persistent, TupleNode, children
from prunecli.formats.torch.object_tree import Branch, Tree, is_mapping
from prunecli.formats.torch.tensors import OpaqueTensor, TensorRef, stranger, tensor_ref
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["LIMITS", "Limits", "Survey", "text_of_key"]


@dataclass(frozen=True)
class Limits:
    """Limits for names and walks: a small file could ask for gigabytes through shared keys, objects and nesting."""

    longest_name: int = 4096
    revisits: int = 16
    """Visits to each object and each reference, on average."""
    letters: int = 1 << 26
    """Letters of all names together. A shared object gets a name for each path to it, which can be exponential."""
    widest: int = 1 << 20
    """Parts of one object that holds tensors."""


LIMITS = Limits()

_BARE = ATOMS | {Global}
_FEW, _DEEP = 8, 2
"""Types of nodes without parts; the most parts, and the levels of parts, that are looked at for each reference."""

_Parents = dict[int, int | list[int]]
"""By the id of a node, those of the nodes that refer to it; mostly that is one."""


def text_of_key(key: Node) -> str:
    """Return the text of a key as part of a dotted name."""
    if isinstance(key, str):
        return key
    return str(key) if isinstance(key, int) and abs(key) < 1 << 64 else type(key).__name__


class Survey:
    """The tensors of one graph (`tensors`), and all nodes that are or hold one (`holders`), by the ids of nodes."""

    def __init__(self, root: Node, tree: Tree, limits: Limits = LIMITS) -> None:
        self.root, self.tree, self.limits = root, tree, limits
        self.tensors: dict[int, TensorRef | OpaqueTensor] = {}
        self._references = self._looked = self._letters = 0
        self.holders = self._look()

    def branches(self, node: Node) -> list[Branch]:
        """Return the branches of a node; refuse a key that occurs twice, because loading keeps only the last value."""
        branches = self.tree.branches(node)
        seen: set[tuple[int, Node]] = set()
        for branch in branches:
            if branch.home is not None and _is_plain(branch.key):
                place = id(branch.home), branch.key
                if place in seen:
                    raise UnsupportedError(f"{HERE}: a dict has the key {show(text_of_key(branch.key))} twice")
                seen.add(place)
        return branches

    def held(self, branches: list[Branch]) -> list[Branch]:
        """Return the branches that lead to tensors. Shared objects are examined once for each holder, up to a limit."""
        self._looked += len(branches)
        if self._looked > self.limits.revisits * (self._references + 1000):
            raise self.entangled()
        return [branch for branch in branches if id(branch.value) in self.holders]

    def spell(self, name: str, branches: list[Branch]) -> list[str]:
        """Return the names of branches below `name`, with clipped keys; all names together have a limit of letters."""
        dot = f"{name}." if name else ""
        keys = [text_of_key(branch.key) for branch in branches]
        self._letters += sum(len(dot) + min(len(key), self.limits.longest_name) for key in keys)
        if self._letters > self.limits.letters:
            raise self.entangled()
        return [dot + key[: self.limits.longest_name + 1] for key in keys]

    def unspell(self, name: str) -> None:
        """Subtract the letters of a name from the count: it is a path to follow, not the name of a tensor."""
        self._letters -= len(name)

    def is_level(self, branch: Branch) -> bool:
        """Whether a branch may lead to a state dict: a mapping, a module, or another object with attributes."""
        value = branch.value
        return id(value) not in self.tensors and (is_mapping(value) or isinstance(value, Call))

    def entangled(self) -> UnsupportedError:
        """Return the error to raise if a limit is exceeded."""
        return UnsupportedError(f"{HERE}: its objects share each other in too many ways to name them all")

    def _look(self) -> set[int]:
        """Visit every node once, read the tensors among them, and return the ids of all nodes that hold one."""
        parents: _Parents = {id(self.root): []}
        todo = [self.root]
        wide: dict[int, int] = {}
        while todo:
            node = todo.pop()
            ref = tensor_ref(node) or stranger(node) if isinstance(node, Call) else None
            if ref is not None:
                self.tensors[id(node)] = ref
            if isinstance(node, GraphNode):
                held, own = children(node), id(node)
                if len(held) > self.limits.widest:
                    wide[own] = len(held)
                self._references += len(held)
                todo += [each for each in held if not _is_bare(each) and _is_first_parent(parents, each, own)]
        holders = self._holding(parents)
        widest = max((parts for own, parts in wide.items() if own in holders or own == id(self.root)), default=0)
        if widest:
            raise UnsupportedError(f"{HERE}: tensors are looked for in an object with {widest} parts; too many")
        return holders

    def _holding(self, parents: _Parents) -> set[int]:
        """Return the ids of the tensors, and of all nodes that hold one."""
        holders, found = set(self.tensors), list(self.tensors)
        while found:
            above = parents[found.pop()]
            for parent in above if isinstance(above, list) else (above,):
                if parent not in holders:
                    holders.add(parent)
                    found.append(parent)
        return holders


def _is_first_parent(parents: _Parents, node: Node, own: int) -> bool:
    """Note that an object refers to a node; return whether none was known to refer to it."""
    above = parents.get(id(node))
    if above is None:
        parents[id(node)] = own
        return True
    if isinstance(above, list):
        if above[-1:] != [own]:  # of a million references from one object, one is enough
            above.append(own)
    elif above != own:
        parents[id(node)] = [above, own]
    return False


def _is_bare(node: Node, deep: int = _DEEP) -> bool:
    """Whether a few looks show that a node holds no tensor: a name, a storage, numbers, the arguments of a tensor.

    Nearly all nodes are that, so that they need no place in memory.
    """
    if type(node) in _BARE:
        return True
    if isinstance(node, Persistent):
        node = node.id
    if isinstance(node, TupleNode) and deep and len(node) <= _FEW:
        return not [1 for each in node if type(each) not in _BARE and not _is_bare(each, deep - 1)]
    return type(node) in _BARE or (isinstance(node, Call) and _is_empty(node))


def _is_empty(call: Call) -> bool:
    """Whether a call makes an empty ordered dict: the hooks that torch writes beside each tensor."""
    function = call.function
    if not isinstance(function, Global) or (function.module, function.name) != ("collections", "OrderedDict"):
        return False
    filled = call.kwargs is not None or call.items or call.entries or call.states
    return isinstance(call.args, TupleNode) and not call.args.items and not filled


def _is_plain(key: Node) -> bool:
    """Whether a key is cheap to compare."""
    return isinstance(key, str | float) or (isinstance(key, int) and key.bit_length() <= 64)
