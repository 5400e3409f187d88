"""Slices of parameters along their first dimension, as parameters of their own with names like `experts.w1#3`."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace

from prunecli.core.slice_name import slice_name
from prunecli.errors import UsageError, show
from prunecli.surgery.names.parameters import Parameter
from prunecli.terms import PER_SLICE

__all__ = ["MOST_SLICES", "chosen_slices", "slice_counts", "slices_of", "with_slices"]

MOST_SLICES = 1 << 18
"""The most slices of all parameters together that can be layers of their own."""

_DIMS = 3

SlicesByName = Mapping[str, Sequence[Parameter]]
"""The slices of each parameter that has any, by its name."""


def slice_counts(parameters: Mapping[str, Parameter]) -> dict[str, int]:
    """Return the number of slices of each parameter of three dimensions that can be pruned and has elements.

    Raises:
        UsageError: there are too many.
    """
    found = {
        name: each.weight.shape[0]
        for name, each in parameters.items()
        if len(each.weight.shape) == _DIMS and each.weight.elements and each.unprunable_reason() is None
    }
    if sum(found.values()) > MOST_SLICES:
        largest = max(found, key=found.__getitem__)
        raise UsageError(
            f"{PER_SLICE}: there are more than {MOST_SLICES:,} slices, {found[largest]:,} of them in {show(largest)}; "
            "leave it out"
        )
    return found


def slices_of(parameters: Mapping[str, Parameter]) -> SlicesByName:
    """Return the slices of all parameters that have any.

    Raises:
        UsageError: as `slice_counts`.
    """
    return {name: _slices(parameters[name]) for name in slice_counts(parameters)}


def _slices(parameter: Parameter) -> list[Parameter]:
    numbers = range(parameter.weight.shape[0])
    return [
        replace(parameter, name=slice_name(parameter.name, number), key=slice_name(parameter.key, number), mask=None)
        for number in numbers
    ]


def with_slices(parameters: Mapping[str, Parameter], slices: SlicesByName) -> Mapping[str, Parameter]:
    """Return parameters together with their slices; a parameter beats a slice with its name."""
    return {each.name: each for those in slices.values() for each in those} | dict(parameters)


def chosen_slices(slices: SlicesByName, taken: Container[str], excluded: Container[str]) -> dict[str, list[int]]:
    """Return the numbers of the slices that are taken themselves or with their parameter, and not excluded."""
    found = {}
    for name, those in slices.items():
        if name not in excluded:
            numbers = [
                number
                for number, each in enumerate(those)
                if (name in taken or each.name in taken) and each.name not in excluded
            ]
            if numbers:
                found[name] = numbers
    return found
