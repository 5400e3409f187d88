"""Find the state dict in a checkpoint's object graph by its structure, and name its tensors.

The search depends on structure and key names, not on a training framework. A state dict is a module or a mapping with
tensors, possibly under one of the usual wrappers. An optimizer is recognised by its structure or its key, an average
by its key.
"""

from collections.abc import Mapping, Sequence

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.pickles.nodes import Node
from prunecli.formats.torch.key_words import AVERAGE, OPTIMIZER, is_bookkeeping, kind_of_key
from prunecli.formats.torch.naming import NamedNode, name_others, name_state_dict
from prunecli.formats.torch.object_tree import Branch, Tree
from prunecli.formats.torch.optimizers import Places
from prunecli.formats.torch.survey import LIMITS, Limits, Survey, text_of_key
from prunecli.formats.torch.tensors import TensorRef
from prunecli.lean import dataclass
from prunecli.terms import HERE, KEY

__all__ = ["NamedNode", "StateDict", "find_state_dict"]

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "classy_state_dict",
)
_TRAINED = {"current_model_state": "averaging_state", "ema_state_dict": "steps"}
"""Keys of the trained weights where an average has replaced them under `state_dict`, each with the key that proves it.

The proof is beside the trained weights or among them: Lightning's WeightAveraging (2.6), MMEngine's EMAHook (0.10).
"""
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """The place of the state dict (`wrapper`, a dotted path, "" for the top), its tensors, and all other tensors.

    `notes` are sentences for the user about how it was found.
    """

    wrapper: str
    nodes: tuple[NamedNode, ...]
    others: tuple[NamedNode, ...]
    notes: tuple[str, ...] = ()


def find_state_dict(root: Node, key: str | None, tree: Tree, limits: Limits = LIMITS) -> StateDict:
    """Return the state dict below `root`: the one that `key` (a dotted path) names, or else the one found there.

    Raises:
        UsageError: `key` leads nowhere.
        UnsupportedError: there is none, or two tensors get the same name, or the names exceed a limit.
    """
    return _Finder(root, tree, limits).find(key)


class _Finder:
    """The path from the top of a graph to its state dict: `_path` are the objects on it, `_keys` the keys."""

    def __init__(self, root: Node, tree: Tree, limits: Limits) -> None:
        self._tree = tree
        self._survey = Survey(root, tree, limits)
        self._places = Places()
        self._path: list[Node] = [root]
        self._keys: list[str] = []
        self._notes: list[str] = []
        self._aliens: set[int] = set()  # networks with the key of an average

    def find(self, key: str | None) -> StateDict:
        if key is None:
            self._descend()
        else:
            self._follow(key)
        node, forced = self._path[-1], key is not None
        aside = self._aside(node)
        nodes = tuple(name_state_dict(self._survey, self._places, node, aside=aside, forced=forced))
        self._check_names(nodes)
        path = self._aliens.union(map(id, self._path))
        others = tuple(name_others(self._survey, self._places, nodes, path))
        if not forced:
            self._check_found(nodes, others, aside)
        return StateDict(".".join(self._keys) if key is None else key, nodes, others, tuple(self._notes))

    def _descend(self) -> None:
        """Follow one branch after the other down to the state dict."""
        visited: set[int] = set()
        while id(self._path[-1]) not in visited:
            visited.add(id(self._path[-1]))
            step = self._step(self._path[-1])
            if step is None:
                return
            self._keys.append(text_of_key(step.key))
            self._path.append(step.value)

    def _step(self, node: Node) -> Branch | None:
        """Return the branch to follow, or None if the state dict is here."""
        if self._is_end(node):
            return None
        here = self._branches(node)
        levels = [branch for branch in here if self._survey.is_level(branch)]
        networks = [branch for branch in levels if not self._kind(branch)]
        for wrapper in _WRAPPERS:
            for branch in networks:
                if branch.key == wrapper:
                    self._look_for_trained(branch, levels)
                    return branch
        averages = [branch for branch in levels if self._kind(branch) == AVERAGE]
        tensors = [branch for branch in here if id(branch.value) in self._survey.tensors]
        if tensors and (networks or not averages or any(map(self._is_weight, tensors))):
            return None
        if networks:
            alone = [branch for branch in networks if not is_bookkeeping(text_of_key(branch.key))] or networks
            return alone[0] if len(alone) == 1 and alone[0].entry is not None else None
        if len(averages) != 1:
            return None
        path = ".".join([*self._keys, text_of_key(averages[0].key)])
        self._notes.append(f"the state dict is that under {show(path, 80)}: nothing else in the file holds weights")
        return averages[0]

    def _is_end(self, node: Node) -> bool:
        return self._tree.is_module(node) or id(node) in self._survey.tensors or self._places.is_optimizer(node)

    def _branches(self, node: Node) -> list[Branch]:
        """Return the branches of a node that have a key and lead to tensors."""
        below = self._survey.held(self._survey.branches(node))
        return [branch for branch in below if isinstance(branch.key, str | int)]

    def _kind(self, branch: Branch) -> str:
        """Return what a branch leads to: optimizer state, an average, or "" for a network."""
        return OPTIMIZER if self._places.is_optimizer(branch.value) else kind_of_key(text_of_key(branch.key))

    def _is_weight(self, branch: Branch) -> bool:
        """Whether a tensor beside averages looks like a weight of the averaged network."""
        ref = self._survey.tensors[id(branch.value)]
        shape = ref.view.shape if isinstance(ref, TensorRef) else ref.shape
        return len(shape) > 1 and not kind_of_key(text_of_key(branch.key))

    def _look_for_trained(self, branch: Branch, levels: Sequence[Branch]) -> None:
        """Add a note if the state dict is itself an average, because its writer put the trained weights elsewhere."""
        by_key = {each.key: each for each in levels if isinstance(each.key, str)}
        if branch.key != "state_dict":
            return
        for key, evidence in _TRAINED.items():
            trained = by_key.get(key)
            if trained is not None and (evidence in by_key or evidence in map(_key_of, self._branches(trained.value))):
                self._aliens.add(id(trained.value))
                path = show(".".join([*self._keys, key]), 80)
                self._notes.append(
                    "state_dict is a running average; the trained weights, from which training goes on, are under "
                    f"{path} ({KEY} {path})"
                )

    def _aside(self, node: Node) -> Mapping[object, str]:
        """Return the edges at the state dict's place whose keys or structure exclude them from it, with their kinds.

        A single average stays in if nothing beside it holds weights.
        """
        if self._is_end(node):
            return {}
        here = self._branches(node)
        found = {branch.edge: self._kind(branch) for branch in here if self._survey.is_level(branch)}
        averages = [edge for edge, kind in found.items() if kind == AVERAGE]
        tensors = [branch for branch in here if id(branch.value) in self._survey.tensors]
        if len(averages) == 1 and "" not in found.values() and not any(map(self._is_weight, tensors)):
            found.pop(averages[0])
        return {edge: kind for edge, kind in found.items() if kind}

    def _check_names(self, nodes: Sequence[NamedNode]) -> None:
        seen: set[str] = set()
        for named in nodes:
            if named.name in seen:
                raise UnsupportedError(f"{HERE}: two tensors are named {show(named.name)}")
            seen.add(named.name)

    def _check_found(
        self, nodes: Sequence[NamedNode], others: Sequence[NamedNode], aside: Mapping[object, str]
    ) -> None:
        """Refuse a file if the tensors found are not weights, but a trainer's records beside optimizer state.

        A module is accepted always: it defines its own state dict, even an empty one.
        """
        if not others or any(map(_may_be_weight, nodes)) or self._tree.is_module(self._path[-1]):
            return
        if not nodes or aside:
            raise UnsupportedError(f"{HERE} holds no state dict of a model, {self._choices()}")

    def _choices(self) -> str:
        """Return the end of a message: what the file holds instead of a state dict, with keys for `--key`."""
        node = self._path[-1]
        if self._places.is_optimizer(node):
            return (
                f"only the state of an optimizer; {KEY} {show('.'.join(self._keys)) or repr('')} reads it all the same"
            )
        found: dict[str, list[str]] = {OPTIMIZER: [], AVERAGE: [], "": []}
        for branch in self._branches(node):
            if id(branch.value) not in self._survey.tensors:
                path = show(".".join([*self._keys, text_of_key(branch.key)]), 60)
                found[self._kind(branch)].append(path)
        listed = [path for kind in (AVERAGE, "", OPTIMIZER) for path in found[kind]]
        named = ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
        what = "but several averages" if found[AVERAGE] else "only optimizer state"
        return f"{what}; {KEY} reads one of these: {named}" if listed else "but tensors without names"

    def _follow(self, key: str) -> None:
        """Follow a dotted path. Keys may contain dots themselves, so the longest matching key is tried first."""
        node, parts = self._path[-1], key.split(".") if key else []
        while parts:
            below = [] if id(node) in self._survey.tensors else self._tree.branches(node)
            by_text = {text_of_key(branch.key): branch.value for branch in below}
            for taken in range(len(parts), 0, -1):
                if ".".join(parts[:taken]) in by_text:
                    node, parts = by_text[".".join(parts[:taken])], parts[taken:]
                    self._path.append(node)
                    break
            else:
                known = ", ".join(show(name, 40) for name in list(by_text)[:8]) or "nothing"
                raise UsageError(f"{KEY} {show(key)}: {HERE} has no {show(parts[0])} there, but {known}")


def _key_of(branch: Branch) -> object:
    return branch.key


def _may_be_weight(named: NamedNode) -> bool:
    """Whether a tensor may be a weight: not a scalar, nor integers or bools (such as a random generator's state)."""
    ref = named.ref
    return not isinstance(ref, TensorRef) or (ref.dtype.kind not in ("int", "bool") and bool(ref.view.shape))
