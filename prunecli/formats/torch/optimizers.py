"""Optimizers in a pickled object graph, known by their structure, and which parameter each of their tensors is of.

- torch.optim (2.13): `{"state": {key: {statistic: tensor}}, "param_groups": [{"params": [key, ...], ...}, ...]}`. Keys
  are numbers, in full state dicts of FSDP and distributed checkpoints names; `param_names` in a group says the
  names of its numbers. Flattened, keys are `state.NAME.STATISTIC` and `param_groups.NAME.OPTION`.
- Megatron (core 0.16): `fp32_from_fp16_params`, for each group a list of fp32 masters, beside torch.optim's state.
- DeepSpeed (0.19): `single_partition_of_fp32_groups`, `fp32_flat_groups`, `base_optimizer_state`; the fp32
  masters are flat, one tensor a group.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from prunecli.formats.base import Moment
from prunecli.formats.pickles.nodes import Call, DictNode, ListNode, Node, TupleNode
from prunecli.formats.torch.key_words import ENGINES, OPTIMIZER, kind_of_key
from prunecli.formats.torch.object_tree import Branch, is_mapping, mapping_entries

__all__ = ["MASTER", "TOP", "Places", "StatePlace"]

MASTER = "fp32 master"
"""The statistic of a parameter's copy in full precision, from which the next step makes the parameter anew."""

_MASTERS = "fp32_from_fp16_params"
_MODELS = frozenset({"model", "module", "state_dict", "model_state_dict"})
"""Keys beside which an engine's fields lie in the checkpoint itself: it holds the parts of an optimizer."""
_STATE, _GROUPS = "state.", "param_groups."
_DIGITS = 18
_FIELDS = 4096
"""Entries among which an optimizer, or a group of its parameters, has the field that is looked for."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """A parameter as its optimizer knows it: its group, its place there, its name; None for what is not recorded."""

    group: int | None
    place: int | None
    name: str | None


@dataclass(frozen=True, slots=True, eq=False)
class _Optimizer:
    """An optimizer's state dict: the path to it, and its parameters by the keys that its state has for them."""

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
    """Where a walk through the graph has come to: `within` what, and at which level of which optimizer."""

    within: str = ""
    stage: str = ""
    optimizer: _Optimizer | None = None
    slot: _Slot | None = None


TOP = StatePlace()
"""In nothing that is known."""


class Places:
    """The optimizers of one graph; each of its mappings is looked at once, however many objects share it."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}
        self._read: dict[int, tuple[Mapping[str | int, _Slot], int]] = {}

    def is_optimizer(self, node: Node) -> bool:
        """Whether a node is an optimizer's state, or an optimizer, by its structure."""
        return self._mapping(node) is not None

    def start(self, root: Node) -> StatePlace:
        """Return the place of a walk's first node."""
        return self.below(TOP, Branch(None, root, "root"), "", by_key=False)

    def below(self, place: StatePlace, branch: Branch, path: str, *, by_key: bool) -> StatePlace:
        """Return the place of what a branch leads to; with `by_key`, its key may say what lies there."""
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
        """Return what a tensor is to a parameter; None if it is not known. `place` is that of its holder."""
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
        """Return the mapping that makes a node an optimizer: itself, or the attributes of an object; else None."""
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
    """Whether a key can be compared at no cost."""
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
    """Read `param_groups`: the parameters by their keys, and how many groups there are."""
    groups = _value(mapping, "param_groups")
    listed = groups.items if isinstance(groups, ListNode | TupleNode) else []
    slots: dict[str | int, _Slot] = {}
    seen: set[int] = set()  # very many groups could share one long list
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


def _list_in(group: Node, field: str, seen: set[int]) -> list[Node]:
    found = _value(group, field)
    if not isinstance(found, ListNode | TupleNode) or id(found) in seen:
        return []
    seen.add(id(found))
    return found.items


def _value(mapping: Node, field: str) -> Node:
    entries = (mapping_entries(mapping) or [])[:_FIELDS]
    return next((entry.value for entry in entries if isinstance(entry.key, str) and entry.key == field), None)
