"""Groups that are pruned slice by slice: slices that are layers of their own (per slice), or rows with one amount."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Choice, Target
from prunecli.core.slice_name import slice_name
from prunecli.errors import UsageError, show
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.select import Selected
from prunecli.surgery.names.slices import slice_counts
from prunecli.surgery.plan.order import GroupTargets
from prunecli.surgery.plan.request import PruneGroup
from prunecli.terms import MIN_DIM, PARAM, PER_ROW, PER_SLICE

__all__ = ["MOST_ROWS", "count_slices", "join_slices", "split_slices"]

MOST_ROWS = 1 << 24
"""The most rows of a parameter: what is counted for each takes memory."""


def count_slices(groups: Sequence[PruneGroup], selections: Sequence[Selected]) -> dict[str, int]:
    """Return the number of slices of each parameter that is pruned slice by slice.

    Raises:
        UsageError: none of a group that is to be pruned per slice has three dimensions, or a parameter has no rows, or
            too many.
    """
    found: dict[str, int] = {}
    for group, selected in zip(groups, selections, strict=True):
        taken = {each.name: each for each in selected.taken if each.weight.elements}
        if group.per_row:
            found |= {name: _rows(each) for name, each in taken.items()}
        elif group.selection.per_slice:
            sliced = slice_counts(taken)
            if not sliced:
                raise UsageError(
                    f"{PER_SLICE} makes layers of slices of parameters with exactly three dimensions, and none of the "
                    "selected ones has three; leave it out"
                )
            found |= sliced
    return found


def _rows(parameter: Parameter) -> int:
    shape = parameter.weight.shape
    if len(shape) < 2:
        raise UsageError(
            f"{show(parameter.name)} has fewer than two dimensions, and no rows for {PER_ROW}; add {MIN_DIM} 2"
        )
    if shape[0] > MOST_ROWS:
        raise UsageError(
            f"{show(parameter.name)} has {shape[0]:,} rows, and {PER_ROW} takes at most {MOST_ROWS:,}; exclude it"
        )
    return shape[0]


def split_slices(found: GroupTargets, selected: Selected) -> GroupTargets:
    """Return the targets of a group with the selected slices in the place of each target that has slices.

    Raises:
        UsageError: a slice has the name of another target.
    """
    targets: dict[str, Target] = {}
    members: dict[str, Sequence[Parameter]] = {}
    wholes: dict[str, tuple[Parameter, Sequence[str]]] = {}
    for key, target in found.targets.items():
        if target.slices is None:
            targets[key], members[key] = target, found.members[key]
            continue
        numbers = selected.slices.get(target.name, range(target.slices.count))
        keys = [slice_name(key, number) for number in numbers]
        wholes |= {each.name: (each, keys) for each in found.members[key]}
        for number, own in zip(numbers, keys, strict=True):
            name, left = slice_name(target.name, number), target.slices.left(number)
            if own in found.targets:
                raise UsageError(f"{show(own)} is a slice and a parameter; select one of them by {PARAM}")
            targets[own] = Target(own, name, target.shape[1:], target.dtype, left)
            members[own] = [
                replace(each, name=slice_name(each.name, number), key=own, mask=None) for each in found.members[key]
            ]
    return GroupTargets(targets, members, wholes)


def join_slices(
    target: Target,
    counts: Mapping[str, int],
    rows: Mapping[str, Amount],
    choose: Callable[[Target, Amount | Sequence[int]], Choice],
) -> Choice:
    """Return the choice for a target with slices: an amount of each row, or of each slice as many as it counts."""
    if target.key in rows:
        return choose(target, rows[target.key])
    slices = range(target.slices.count if target.slices else 0)
    return choose(target, [counts.get(slice_name(target.key, number), 0) for number in slices])
