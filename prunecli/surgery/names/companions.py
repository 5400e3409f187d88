"""Tensors that belong to a parameter elsewhere in a checkpoint: averages (EMA, SWA), optimizer state, other copies."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prunecli.formats.base import Layout, TensorInfo
from prunecli.surgery.names.moments import optimizer_states, trained
from prunecli.surgery.names.parameters import DEEPEST, Parameter, canonical

__all__ = ["find_companions", "holds_values", "outside_tensors", "wrapper_of"]

_STATE = re.compile(r"(?P<optimizer>.*?\bstate)\.(?P<key>-?\d+)\.[^.]+")
"""An optimizer's state as torch saves it: `state`, the number of the parameter, the name of the statistic."""


def outside_tensors(checkpoint: Layout) -> list[TensorInfo]:
    """Return the tensors outside the state dict, and those that are part of it only because a key forces that."""
    return [*(tensor for tensor in checkpoint.tensors.values() if tensor.within), *checkpoint.carried]


def wrapper_of(checkpoint: Layout) -> str:
    """Return the path of the state dict in a file; it is empty for a module in memory."""
    return str(getattr(checkpoint, "wrapper", ""))


def holds_values(tensor: TensorInfo) -> bool:
    """Whether a tensor of optimizer state contains one value per element; counters and random states do not."""
    return tensor.elements > 1 and tensor.dtype.kind not in ("int", "bool")


def find_companions(parameters: Mapping[str, Parameter], checkpoint: Layout) -> dict[str, tuple[TensorInfo, ...]]:
    """Return, by parameter, its companions among the other tensors of a checkpoint, in the order of the file.

    A companion has the parameter's shape, and its path ends in the parameter's name (perhaps followed by the name of a
    statistic). Or it is the parameter's optimizer state: proven, or matched by number if all shapes agree.
    """
    outside = outside_tensors(checkpoint)
    found: dict[str, dict[str, TensorInfo]] = {}  # by name, in order
    by_key = {parameter.key: parameter for parameter in parameters.values()} if outside else {}
    numbered = [tensor for tensor in outside if tensor.moment is not None]
    for tensor in outside:
        original = _named_in(tensor, by_key) if tensor.moment is None and tensor.name not in parameters else None
        if original is not None:
            found.setdefault(original.name, {})[tensor.name] = tensor
    proven: set[str] = set()
    for state in optimizer_states(parameters, outside, wrapper_of(checkpoint)) if numbered else ():
        for name, tensors in state.tensors.items():
            own = {each.name: each for each in tensors if each.shape == parameters[name].weight.shape}
            found.setdefault(name, {}).update(own)
            proven |= {each.name for each in tensors}
    rest = [tensor for tensor in outside if tensor.name not in proven]
    for original, copy in _numbered(trained(parameters.values()), rest) if rest else ():
        found.setdefault(original.name, {})[copy.name] = copy
    for average in parameters.values():
        if average.average_of is not None:
            found.setdefault(average.average_of, {})[average.name] = average.weight
    return {name: tuple(companions.values()) for name, companions in found.items()}


def _named_in(tensor: TensorInfo, by_key: Mapping[str, Parameter]) -> Parameter | None:
    parts = tensor.name.split(".")
    if len(parts) > DEEPEST:
        return None
    for stop in (len(parts), len(parts) - 1):
        for start in range(stop):
            parameter = by_key.get(canonical(".".join(parts[start:stop])))
            if parameter is not None and parameter.weight.shape == tensor.shape:
                return parameter
    return None


def _numbered(model: Sequence[Parameter], carried: Iterable[TensorInfo]) -> Iterator[tuple[Parameter, TensorInfo]]:
    """Match optimizer state by number, if all shapes agree; object ids, used before torch 1.0, cannot be matched."""
    optimizers: dict[str, dict[int, list[TensorInfo]]] = {}
    for tensor in carried:
        named = _STATE.fullmatch(tensor.name)
        if named and tensor.shape:  # a scalar is a step count
            states = optimizers.setdefault(named["optimizer"], {})
            states.setdefault(int(named["key"]), []).append(tensor)
    for states in optimizers.values():
        if not all(0 <= number < len(model) for number in states):
            continue
        pairs = [(model[number], copy) for number, copies in states.items() for copy in copies]
        if all(copy.shape == original.weight.shape for original, copy in pairs):
            yield from pairs
