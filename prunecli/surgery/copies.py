"""Copies of parameters that a checkpoint carries: averages (EMA, SWA) and optimizer state. Named, and left alone."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prunecli.formats.base import TensorInfo
from prunecli.surgery.parameters import DEEPEST, Parameter, canonical

__all__ = ["find_copies"]

_STATE = re.compile(r"(?P<optimizer>.*?\bstate)\.(?P<key>-?\d+)\.[^.]+")
"""An optimizer's state as torch saves it: `state`, the number of the parameter, the name of the statistic."""


def find_copies(parameters: Mapping[str, Parameter], carried: Sequence[TensorInfo]) -> dict[str, tuple[str, ...]]:
    """Tell, by parameter, which other tensors of a checkpoint are its copies, in the order of the file.

    A copy has the parameter's shape, and its path ends in the parameter's name (with the name of a statistic behind
    it, or not); or it is the state that an optimizer keeps for the parameter of that number, provided that the shapes
    of all its numbers agree.
    """
    found: dict[str, list[str]] = {}
    by_key = {parameter.key: parameter for parameter in parameters.values()}
    for tensor in carried:
        original = _named_in(tensor, by_key)
        if original is not None:
            found.setdefault(original.name, []).append(tensor.name)
    for original, copy in _numbered(list(parameters.values()), carried):
        if copy.name not in found.get(original.name, ()):
            found.setdefault(original.name, []).append(copy.name)
    for average in parameters.values():
        if average.average_of is not None:
            found.setdefault(average.average_of, []).append(average.name)
    return {name: tuple(copies) for name, copies in found.items()}


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


def _numbered(parameters: Sequence[Parameter], carried: Iterable[TensorInfo]) -> Iterator[tuple[Parameter, TensorInfo]]:
    """Match optimizer state by number; ids of objects, as before torch 1.0, tell nothing."""
    optimizers: dict[str, dict[int, list[TensorInfo]]] = {}
    for tensor in carried:
        named = _STATE.fullmatch(tensor.name)
        if named and tensor.shape:  # a scalar is a step count
            states = optimizers.setdefault(named["optimizer"], {})
            states.setdefault(int(named["key"]), []).append(tensor)
    trained = _distinct(parameter for parameter in parameters if parameter.ordinary)
    for states in optimizers.values():
        if not all(0 <= number < len(trained) for number in states):
            continue
        pairs = [(trained[number], copy) for number, copies in states.items() for copy in copies]
        if all(copy.shape == original.weight.shape for original, copy in pairs):
            yield from pairs


def _distinct(parameters: Iterable[Parameter]) -> list[Parameter]:
    """Leave out what shares its memory with an earlier one: `parameters()` of a module tells tied ones once."""
    seen: dict[object, Parameter] = {}
    for parameter in parameters:
        place = (parameter.weight.storage.key, parameter.weight.view.start)
        seen.setdefault(place if parameter.weight.elements else parameter.name, parameter)
    return list(seen.values())
