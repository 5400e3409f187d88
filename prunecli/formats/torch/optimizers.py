"""Optimizers in a pickled object graph, recognised by their structure, and the parameter behind each of their tensors.

- torch.optim (2.13): `{"state": {key: {statistic: tensor}}, "param_groups": [{"params": [key, ...], ...}, ...]}`. Keys
  are numbers; in full state dicts of FSDP and in distributed checkpoints, they are names. `param_names` in a group
  gives the names for its numbers. In flattened form, keys are `state.NAME.STATISTIC` and `param_groups.NAME.OPTION`.
- Megatron (core 0.16): `fp32_from_fp16_params`, a list of fp32 masters for each group, beside torch.optim's state.
- DeepSpeed (0.19): `single_partition_of_fp32_groups`, `fp32_flat_groups`, `base_optimizer_state`; the fp32
  masters are flat, one tensor per group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from prunecli.formats.base import Moment
from prunecli.formats.pickles.nodes import Call, DictNode, ListNode, Node, TupleNode
from prunecli.formats.torch.key_words import ENGINES, MASTER, OPTIMIZER, kind_of_key
from prunecli.formats.torch.object_tree import Branch, is_mapping, mapping_entries
from prunecli.lean import dataclass

__all__ = ["TOP", "Places", "StatePlace"]

_MASTERS = "fp32_from_fp16_params"
_MODELS = frozenset({"model", "module", "state_dict", "model_state_dict"})
"""Keys of a model. A mapping that has one of these beside an engine's fields is a checkpoint, not an optimizer."""
_STATE, _GROUPS = "state.", "param_groups."
_DIGITS = 18
_FIELDS = 4096
"""The number of entries of an optimizer, or of a parameter group, that are searched for a field."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A parameter as its optimizer records it: its group, its place in the group, its name; None where unrecorded."""

    group: int | None
    place: int | None
    name: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Optimizer:
    """An optimizer's state dict: its path, its parameters by their keys in the state, and the number of groups."""

    path: str
    slots: Mapping[str | int, _Slot]
    groups: int

    def slot(self, key: Node) -> _Slot:
        if not _is_key(key):
            return _Slot(None, None, None)
        found = self.slots.get(key)
        if found is not None:
            return found
        if isinstance(key, str) and not (key.isdecimal() and len(key) <= _DIGITS):
            return _Slot(None, None, key)
        return _Slot(0, int(key), None) if self.groups == 1 and not self.slots else _Slot(None, None, None)


@dataclass(frozen=True, slots=True, eq=False)
class StatePlace:
    """The position of a walk through the graph.

    `within` is that of `TensorInfo`; `stage` is the level within `optimizer`.
    """

    within: str = ""
    stage: str = ""
    optimizer: _Optimizer | None = None
    slot: _Slot | None = None


TOP = StatePlace()
"""The position outside optimizers and averages."""


class Places:
    """The optimizers of one graph. Each mapping is examined once, even if many objects share it."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}
        self._read: dict[int, tuple[Mapping[str | int, _Slot], int]] = {}

    def is_optimizer(self, node: Node) -> bool:
        """Whether a node has the structure of an optimizer or of an optimizer's state dict."""
        return self._mapping(node) is not None

    def start(self, root: Node) -> StatePlace:
        """Return the place of a walk's first node."""
        return self.below(TOP, Branch(None, root, "root"), "", by_key=False)

    def below(self, place: StatePlace, branch: Branch, path: str, *, by_key: bool) -> StatePlace:
        """Return the place of what a branch leads to; with `by_key`, its key may decide what that is."""
        key = branch.key
        if place.stage == "state" and place.optimizer is not None:
            return replace(place, stage="slot", slot=place.optimizer.slot(key))
        if place.stage == "masters":
            return replace(place, stage="group", slot=_Slot(key if isinstance(key, int) else None, None, None))
        if place.stage == "optimizer" and key in ("state", _MASTERS):
            return replace(place, stage="state" if key == "state" else "masters")
        mapping = self._mapping(branch.value)
        if mapping is not None:
            return StatePlace(OPTIMIZER, "optimizer", self._optimizer(mapping, path))
        kind = kind_of_key(key) if by_key and isinstance(key, str) and not place.within else ""
        return StatePlace(place.within or kind)

    def moment(self, place: StatePlace, branch: Branch) -> Moment | None:
        """Return the relation of a tensor to a parameter, None if it is not known. `place` is that of its holder."""
        key, optimizer, slot = branch.key, place.optimizer, place.slot
        if optimizer is None:
            return None
        if place.stage == "slot" and slot is not None and isinstance(key, str):
            return Moment(optimizer.path, slot.group, slot.place, slot.name, key)
        if place.stage == "group" and slot is not None and isinstance(key, int):
            return Moment(f"{optimizer.path}.{_MASTERS}", slot.group, key, None, MASTER)
        if place.stage == "optimizer" and isinstance(key, str) and key.startswith(_STATE):
            name, _, statistic = key.removeprefix(_STATE).rpartition(".")
            return Moment(optimizer.path, None, None, name, statistic) if name else None
        return None

    def _mapping(self, node: Node) -> Node:
        """Return the mapping that makes a node an optimizer: the node itself, or an object's attributes; or None."""
        if is_mapping(node):
            return node if self._is_state(node) else None
        states = node.states if isinstance(node, Call) else []
        return next((state for state in states if isinstance(state, DictNode) and self._is_state(state)), None)

    def _is_state(self, mapping: Node) -> bool:
        found = self._known.get(id(mapping))
        if found is None:
            found = self._known[id(mapping)] = _has_optimizer_keys(mapping)
        return found

    def _optimizer(self, mapping: Node, path: str) -> _Optimizer:
        if id(mapping) not in self._read:
            self._read[id(mapping)] = _read_groups(mapping)
        return _Optimizer(path, *self._read[id(mapping)])


def _is_key(key: Node) -> TypeGuard[str | int]:
    """Whether a key is cheap to compare."""
    return isinstance(key, str) or (type(key) is int and key.bit_length() <= 64)


def _has_optimizer_keys(mapping: Node) -> bool:
    state = groups = flat_state = flat_groups = engine = model = False
    for entry in mapping_entries(mapping) or []:
        key = entry.key
        if not isinstance(key, str):
            continue
        engine = engine or key in ENGINES
        model = model or (key in _MODELS and is_mapping(entry.value))
        state, groups = state or key == "state", groups or key == "param_groups"
        flat_state = flat_state or key.startswith(_STATE)
        flat_groups = flat_groups or key.startswith(_GROUPS)
    return (state and groups) or (flat_state and flat_groups) or (engine and not model)


def _read_groups(mapping: Node) -> tuple[dict[str | int, _Slot], int]:
    """Return the parameters in `param_groups` by their keys, and the number of groups."""
    groups = _value(mapping, "param_groups")
    listed = groups.items if isinstance(groups, ListNode | TupleNode) else []
    slots: dict[str | int, _Slot] = {}
    seen: set[int] = set()  # many groups could share one long list
    for number, group in enumerate(listed):
        if id(group) in seen:
            return {}, len(listed)
        seen.add(id(group))
        keys, names = _list_in(group, "params", seen), _list_in(group, "param_names", seen)
        for place, key in enumerate(keys):
            if _is_key(key):
                name = names[place] if len(names) == len(keys) else key
                slots[key] = _Slot(number, place, name if isinstance(name, str) else None)
    return slots, len(listed)


def _list_in(group: Node, field: str, seen: set[int]) -> Sequence[Node]:
    found = _value(group, field)
    if not isinstance(found, ListNode | TupleNode) or id(found) in seen:
        return []
    seen.add(id(found))
    return found.items


def _value(mapping: Node, field: str) -> Node:
    entries = (mapping_entries(mapping) or [])[:_FIELDS]
    return next((entry.value for entry in entries if isinstance(entry.key, str) and entry.key == field), None)
