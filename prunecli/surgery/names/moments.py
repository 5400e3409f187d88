"""Which parameter each tensor of an optimizer's state belongs to, proven by the names in the file, or order and shapes.

Without names, an optimizer numbers its parameters in the order in which it was given them. That is the order of the
model's parameters, group by group; but torch's pruning moves a masked weight behind the other parameters of its module,
in the file or in both. So an assignment counts as proven only if it is the only one that keeps the order of the modules
and agrees with all shapes.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field

from prunecli.errors import show
from prunecli.formats.base import Moment, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.names.parameters import Parameter, canonical
from prunecli.surgery.roles.table import Role

__all__ = ["OptimizerState", "optimizer_states", "trained"]

_TRAINED = frozenset({Role.PARAMETER, Role.SETTING, Role.AUXILIARY})
_VECTORS = ("_u", "_v", "base")  # estimated by spectral norm, not trained; the magnitudes of weight norm are trained

_Shape = tuple[int, ...]


@dataclass
class OptimizerState:
    """An optimizer's tensors, by the name of the parameter that they are proven to belong to.

    `unknown` gives the reason why other tensors are not assigned, by the parameters that they may belong to; "" stands
    for any parameter.
    """

    path: str
    tensors: dict[str, list[TensorInfo]] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


@dataclass
class _MomentSlot:
    """A parameter as its optimizer records it: its position and its tensors."""

    moment: Moment
    tensors: list[TensorInfo] = field(default_factory=list)

    @property
    def shape(self) -> _Shape | None:
        """The parameter's shape, None if the tensors disagree; statistics that are a single number are ignored."""
        shapes = {tensor.shape for tensor in self.tensors}
        shapes = {shape for shape in shapes if shape} or shapes
        return next(iter(shapes)) if len(shapes) == 1 else None


def trained(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Return the parameters that an optimizer may have, tied ones once, as in a module's `parameters()`."""
    seen: dict[object, Parameter] = {}
    for parameter in parameters:
        weight = parameter.weight
        estimated = parameter.role is Role.AUXILIARY and parameter.name.endswith(_VECTORS)
        if parameter.role in _TRAINED and weight.dtype.prunable and weight.dtype.kind != "int" and not estimated:
            place = (weight.storage.key, weight.view.start)
            seen.setdefault(place if weight.elements else parameter.name, parameter)
    return list(seen.values())


def optimizer_states(
    parameters: Mapping[str, Parameter], others: Iterable[TensorInfo], wrapper: str
) -> list[OptimizerState]:
    """Return the state of each optimizer, with its tensors assigned to parameters.

    `others` are all tensors that are not parameters; `wrapper` is the path of the parameters in the file. The order
    and the shapes of tensors are evidence only for shapes that no other network in the file has.
    """
    tensors = list(others)
    elsewhere = {tensor.shape for tensor in tensors if not tensor.within and tensor.dtype.kind not in ("int", "bool")}
    optimizers: dict[str, dict[tuple[object, ...], _MomentSlot]] = {}
    for tensor in tensors:
        moment = tensor.moment
        if moment is not None:
            slots = optimizers.setdefault(moment.optimizer, {})
            where = (moment.group, moment.place, moment.parameter)
            slots.setdefault(where, _MomentSlot(moment)).tensors.append(tensor)
    candidates = trained(parameters.values())
    scopes = _Scopes(candidates, wrapper)
    return [_assign(path, list(slots.values()), scopes.of(path), elsewhere) for path, slots in optimizers.items()]


class _Scopes:
    """The parameters that an optimizer may have: those under the same first path component, or else all of them."""

    def __init__(self, candidates: Sequence[Parameter], wrapper: str) -> None:
        self._below: dict[str, list[Parameter]] = {"": list(candidates)}
        above = f"{wrapper}." if wrapper else ""
        for parameter in candidates:
            first, dot, _ = f"{above}{parameter.name}".partition(".")
            if dot:
                self._below.setdefault(first, []).append(parameter)

    def of(self, path: str) -> list[Parameter]:
        """Return the parameters that the optimizer at a path may have, in the order of the file."""
        first, dot, _ = path.partition(".")
        return self._below[first] if dot and first in self._below else self._below[""]


def _assign(
    path: str, slots: Sequence[_MomentSlot], candidates: Sequence[Parameter], elsewhere: Collection[_Shape]
) -> OptimizerState:
    named = [slot for slot in slots if slot.moment.parameter is not None]
    state = OptimizerState(path)
    if named:
        _assign_by_name(state, named, candidates)
    if len(named) < len(slots):
        numbered = [slot for slot in slots if slot.moment.parameter is None]
        _assign_by_order(state, numbered, candidates, elsewhere)
    return state


def _assign_by_name(state: OptimizerState, slots: Sequence[_MomentSlot], candidates: Sequence[Parameter]) -> None:
    keys = Counter(parameter.key for parameter in candidates)
    found = {parameter.key: parameter for parameter in candidates}
    exact = {name: parameter for parameter in candidates for name in (parameter.name, parameter.weight.name)}
    for slot in slots:
        name = slot.moment.parameter or ""
        key = canonical(name)
        parameter = exact.get(name) or exact.get(key) or exact.get(canonical(key.removesuffix("_orig")))
        if parameter is None and keys[key] == 1:
            parameter = found[key]
        if parameter is not None:
            state.tensors.setdefault(parameter.name, []).extend(slot.tensors)
        else:
            state.unknown[""] = f"it has a parameter {show(name, 60)} that the state dict does not have"


def _assign_by_order(
    state: OptimizerState, slots: Sequence[_MomentSlot], candidates: Sequence[Parameter], elsewhere: Collection[_Shape]
) -> None:
    """Assign shape by shape: parameters of one shape and group keep their order, whatever moved within a module."""
    groups: dict[_Shape, list[_MomentSlot]] = {}
    for slot in slots:
        shape = slot.shape
        if shape is None or slot.moment.place is None:
            state.unknown[""] = "it does not have one tensor of the shape of each parameter"
        else:
            groups.setdefault(shape, []).append(slot)
    by_shape: dict[_Shape, list[Parameter]] = {}
    for parameter in candidates:
        by_shape.setdefault(parameter.weight.shape, []).append(parameter)
    mixed = set(_reordered(candidates))
    open_shapes: set[_Shape] = set()
    for shape, own in groups.items():
        those = by_shape.get(shape, [])
        if len(own) > len(those):
            state.unknown[""] = f"it has {len(own)} parameters of the shape {list(shape)}, and the model {len(those)}"
            return
        one_group = len({slot.moment.group for slot in own}) == 1
        if len(own) == len(those) and one_group and shape not in mixed and shape not in elsewhere:
            _give(state, sorted(own, key=_place), those)
        else:
            open_shapes.add(shape)
    masked = any(parameter.mask is not None for parameter in candidates)
    if open_shapes and (mixed or masked or not open_shapes.isdisjoint(elsewhere)):
        _give_up(state, candidates, open_shapes)
    elif open_shapes:
        _assign_by_neighbours(state, slots, candidates, open_shapes)


def _place(slot: _MomentSlot) -> int:
    return slot.moment.place or 0


def _give(state: OptimizerState, slots: Sequence[_MomentSlot], parameters: Sequence[Parameter]) -> None:
    for slot, parameter in zip(slots, parameters, strict=True):
        state.tensors.setdefault(parameter.name, []).extend(slot.tensors)


def _reordered(candidates: Sequence[Parameter]) -> Iterator[_Shape]:
    """Yield the shapes of parameters that may have changed places with another of that shape in their module.

    They may have if one of them has a mask, or follows the bias, where torch's pruning leaves a baked weight.
    """
    modules: dict[tuple[str, _Shape], list[Parameter]] = {}
    for parameter in candidates:
        modules.setdefault((parameter.module, parameter.weight.shape), []).append(parameter)
    for (_, shape), alike in modules.items():
        lasts = [parameter.name.rpartition(".")[2] for parameter in alike]
        behind_bias = "bias" in lasts[:-1] and "weight" in lasts[lasts.index("bias") :]
        if len(alike) > 1 and (behind_bias or any(each.mask is not None for each in alike)):
            yield shape


def _assign_by_neighbours(
    state: OptimizerState, slots: Sequence[_MomentSlot], candidates: Sequence[Parameter], shapes: Collection[_Shape]
) -> None:
    """Assign the slots of some shapes if only one assignment of all slots keeps the order; else record why not."""
    groups: dict[int | None, list[_MomentSlot]] = {}
    for slot in slots:
        groups.setdefault(slot.moment.group, []).append(slot)
    found: dict[str, _MomentSlot] = {}
    for group in groups.values():
        ordered = sorted(group, key=_place)
        first, last = _embed(ordered, candidates), _embed(ordered[::-1], candidates[::-1])
        names = [parameter.name for parameter in first or ()]
        if (
            not names
            or names != [parameter.name for parameter in (last or ())[::-1]]
            or not found.keys().isdisjoint(names)
        ):
            _give_up(state, candidates, shapes)
            return
        found |= dict(zip(names, ordered, strict=True))
    for name, slot in found.items():
        if slot.shape in shapes:
            state.tensors.setdefault(name, []).extend(slot.tensors)


def _embed(slots: Sequence[_MomentSlot], candidates: Sequence[Parameter]) -> list[Parameter] | None:
    """Return the earliest parameter for each slot that keeps the order; None if there are not enough parameters."""
    found: list[Parameter] = []
    ahead = iter(candidates)
    before = None
    for slot in slots:
        place = _place(slot)
        for _ in range(0 if before is None else abs(place - before) - 1):  # parameters without state
            if next(ahead, None) is None:
                return None
        parameter = next((each for each in ahead if each.weight.shape == slot.shape), None)
        if parameter is None:
            return None
        found.append(parameter)
        before = place
    return found


def _give_up(state: OptimizerState, candidates: Sequence[Parameter], shapes: Collection[_Shape]) -> None:
    for parameter in candidates:
        if parameter.weight.shape in shapes:
            state.unknown[parameter.name] = (
                "it has no names, and several parameters of this shape, so that order and shapes leave a choice"
            )
