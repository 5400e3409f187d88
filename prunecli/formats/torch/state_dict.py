"""Find the state dict in a checkpoint's object graph by its structure, and name what is in it.

Nothing here knows a training framework: a state dict is a module or a mapping with tensors, possibly under one of the
usual wrappers, and what belongs to an optimizer or to an average is known by its structure, or by its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.pickles.nodes import Node
from prunecli.formats.torch.key_words import AVERAGE, OPTIMIZER, is_bookkeeping, kind_of_key
from prunecli.formats.torch.naming import NamedNode, name_others, name_state_dict
from prunecli.formats.torch.object_tree import Branch, Tree
from prunecli.formats.torch.optimizers import Places
from prunecli.formats.torch.survey import LIMITS, Limits, Survey, text_of_key
from prunecli.formats.torch.tensors import TensorRef
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
"""Where trained weights lie beside an average that took their place under `state_dict`, and what else is then beside
them, or among them: Lightning's WeightAveraging (2.6), MMEngine's EMAHook (0.10).
"""
_SHOWN = 5


@dataclass(frozen=True, slots=True, eq=False)
class StateDict:
    """Where the state dict lies (`wrapper`, a dotted path, "" for the top), what it holds, and what lies elsewhere.

    `notes` are sentences on how it was found that a user should see.
    """

    wrapper: str
    nodes: tuple[NamedNode, ...]
    others: tuple[NamedNode, ...]
    notes: tuple[str, ...] = ()


def find_state_dict(root: Node, key: str | None, tree: Tree, limits: Limits = LIMITS) -> StateDict:
    """Find the state dict below `root`, or take the one that `key` (a dotted path) names.

    Raises:
        UsageError: `key` leads nowhere.
        UnsupportedError: there is none, or two tensors get the same name, or names outgrow all bounds.
    """
    return _Finder(root, tree, limits).find(key)


class _Finder:
    """The way from the top of a graph to its state dict: `_path` are the objects on it, `_keys` the keys."""

    def __init__(self, root: Node, tree: Tree, limits: Limits) -> None:
        self._tree = tree
        self._survey = Survey(root, tree, limits)
        self._places = Places()
        self._path: list[Node] = [root]
        self._keys: list[str] = []
        self._notes: list[str] = []
        self._aliens: set[int] = set()  # networks whose keys say that they are averages

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
        """Go down by one branch after the other, to where the state dict is."""
        visited: set[int] = set()
        while id(self._path[-1]) not in visited:
            visited.add(id(self._path[-1]))
            step = self._step(self._path[-1])
            if step is None:
                return
            self._keys.append(text_of_key(step.key))
            self._path.append(step.value)

    def _step(self, node: Node) -> Branch | None:
        """Return the branch to go down by, or None if the state dict is here."""
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
        """Return what holds tensors in a node and has a key."""
        below = self._survey.held(self._survey.branches(node))
        return [branch for branch in below if isinstance(branch.key, str | int)]

    def _kind(self, branch: Branch) -> str:
        """Return what a branch leads to: optimizer state, an average, or "" for a network."""
        return OPTIMIZER if self._places.is_optimizer(branch.value) else kind_of_key(text_of_key(branch.key))

    def _is_weight(self, branch: Branch) -> bool:
        """Whether a tensor beside averages looks like a weight of the network that these are averages of."""
        ref = self._survey.tensors[id(branch.value)]
        shape = ref.view.shape if isinstance(ref, TensorRef) else ref.shape
        return len(shape) > 1 and not kind_of_key(text_of_key(branch.key))

    def _look_for_trained(self, branch: Branch, levels: Sequence[Branch]) -> None:
        """Note that a state dict is an average itself, where its writer puts the trained weights under another key."""
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
        """Return, by their edges, what lies in the state dict's place and is not a part of it by its key.

        An average beside which nothing holds weights is not an average of anything here.
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
        """Refuse a file in which what was found are no weights, but a trainer's notes beside optimizer state.

        A module says itself what its state dict is, even if that is empty.
        """
        if not others or any(map(_may_be_weight, nodes)) or self._tree.is_module(self._path[-1]):
            return
        if not nodes or aside:
            raise UnsupportedError(f"{HERE} holds no state dict of a model, {self._choices()}")

    def _choices(self) -> str:
        """Say what there is in place of a state dict, by the keys that `--key` takes."""
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
        """Walk a dotted path; keys may hold dots themselves, so the longest that fits is taken first."""
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
    """Whether a tensor may be a network's: neither a single number nor, like a random generator's state, bytes."""
    ref = named.ref
    return not isinstance(ref, TensorRef) or (ref.dtype.kind not in ("int", "bool") and bool(ref.view.shape))
