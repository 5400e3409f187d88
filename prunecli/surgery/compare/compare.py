"""Compare a checkpoint with an earlier one: which elements became zero, and what else changed.

Both are streamed side by side. Parameters are paired by name, then by canonical name, so wrappers, formats and shards
do not matter. Each thread needs memory for a few blocks; tensors that are not row-major are gathered one at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from prunecli.errors import UsageError
from prunecli.formats.base import Layout, TensorInfo
from prunecli.surgery.compare.model import Change, Comparison
from prunecli.surgery.data.block_task import BlockTask, run_tasks
from prunecli.surgery.data.effective import EffectiveValues, comparable
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selection, select
from prunecli.surgery.report.model import CheckpointRef
from prunecli.surgery.run.destination import cumulative
from prunecli.surgery.run.options import Run

__all__ = ["compare"]

_Pair = tuple[Parameter | None, Parameter | None]
"""A tensor before and after."""

_Sums = tuple[ReadSums, ReadSums]
"""The checksums of the checkpoints before and after."""


def compare(before: Layout, after: Layout, selection: Selection | None = None, run: Run | None = None) -> Comparison:
    """Compare all tensors of two checkpoints, or the parameters that are selected in either.

    Ordinary parameters, those with a mask, and selected ones are compared by their effective values. All other
    tensors, inside and outside the state dict, are compared by their bytes; nothing but tensors is compared. Tensors
    outside the state dict are skipped if there is a selection, or if the two formats differ and only one has such
    tensors.

    Raises:
        UsageError: a pattern matches nothing in either, or there are several ranks.
        UnsupportedError: a mask has values that cannot be multiplied in.
        DamagedError: a file ends early, or contradicts its checksums.
    """
    run = run or Run()
    if run.ranks.size > 1:
        raise UsageError("a comparison runs in one process; start it without torchrun")
    sums = ReadSums(before), ReadSums(after)
    tasks = [_task(sums, pair, selection is not None) for pair in _pairs(before, after, selection)]
    sides = [{each.name: _as_parameter(each) for each in side.carried} for side in (before, after)]
    uncompared = 0
    if selection is not None or (before.format != after.format and not all(sides)):
        uncompared = sum(map(len, sides))
    else:
        tasks += [_described(sums, pair, "carried") for pair in _paired(*sides)]
    own = _without_repetitions(tasks)
    progress = cumulative(run.progress, sum(task.length for task in own))
    run_tasks(own, after.source, run.threads, progress)
    for each in sums:
        each.check(run.threads)
    old, new = (CheckpointRef(each.source.name, each.format, each.source.size) for each in (before, after))
    return Comparison(old, new, [task.change() for task in tasks], uncompared)


def _pairs(before: Layout, after: Layout, selection: Selection | None) -> list[_Pair]:
    """Return the pairs in the order of the later checkpoint; parameters that it lacks come last."""
    sides = parameters_of(before), parameters_of(after)
    pairs = _paired(*sides)
    if selection is None:
        return pairs
    chosen = [_chosen(side, selection) for side in sides]
    if all(isinstance(each, UsageError) for each in chosen):
        raise [each for each in chosen if isinstance(each, UsageError)][-1]
    names = [set[str]() if isinstance(each, UsageError) else each for each in chosen]
    return [
        pair
        for pair in pairs
        if any(one is not None and one.name in found for one, found in zip(pair, names, strict=True))
    ]


def _chosen(parameters: Mapping[str, Parameter], selection: Selection) -> set[str] | UsageError:
    try:
        return {parameter.name for parameter in select(parameters, selection)}
    except UsageError as error:  # what is missing here may exist on the other side
        return error


def _paired(before: Mapping[str, Parameter], after: Mapping[str, Parameter]) -> list[_Pair]:
    old, new = ({name: each.key for name, each in side.items()} for side in (before, after))
    old_names = pair_names(new, old)
    missing = before.keys() - old_names.values()
    pairs: list[_Pair] = [
        (before[old_names[name]] if name in old_names else None, each) for name, each in after.items()
    ]
    return pairs + [(each, None) for name, each in before.items() if name in missing]


def _as_parameter(tensor: TensorInfo) -> Parameter:
    return Parameter(tensor.name, tensor.name, tensor, None)


_Differences = tuple[int, int, int, int, int]
"""The numbers of zeros before, zeros after, newly zero, revived and otherwise changed elements."""


class _BothWorkspaces:
    """The workspaces of a thread, one for each side."""

    def __init__(self) -> None:
        self.before = Workspace()
        self.after = Workspace()


class _Task(BlockTask[_Differences]):
    """A tensor to compare, and the counts so far; both sides are None if it cannot be compared.

    Tensors with the same `place` (the same memory before and after) are compared once. `state` marks optimizer state,
    which `--with-state` zeroes with the parameters.
    """

    workspace = _BothWorkspaces

    def __init__(
        self,
        row: Change,
        sides: tuple[EffectiveValues, EffectiveValues] | None = None,
        elements: int = 0,
        width: int = 1,
        *,
        place: object = None,
        state: bool = False,
    ) -> None:
        super().__init__(elements, width, *(sides or ()))
        self.row, self.place = row, place
        self.same_as: _Task | None = None
        self._sides, self._state, self._found = sides, state, [0] * 5

    def change(self) -> Change:
        """Return the row with its counts."""
        zeros_before, zeros, newly_zero, revived, changed = (self.same_as or self)._found
        return replace(
            self.row,
            zeros_before=zeros_before,
            zeros=zeros,
            newly_zero=newly_zero,
            revived=revived,
            changed=changed,
            shared_with=None if self.same_as is None else self.same_as.row.name,
        )

    def look(self, first: int, count: int, workspace: _BothWorkspaces) -> _Differences:
        """Return what differs in a block."""
        if self._sides is None:
            return 0, 0, 0, 0, 0
        before, after = self._sides
        if self.row.kind == "parameter":
            return _compare_values(before, after, first, count, workspace)
        if self._state:
            _, _, newly_zero, revived, changed = _compare_values(before, after, first, count, workspace)
            return 0, 0, newly_zero, 0, revived + changed
        differing = before.read(first, count, workspace.before) != after.read(first, count, workspace.after)
        return 0, 0, 0, 0, int(np.count_nonzero(differing))

    def add(self, found: _Differences) -> None:
        """Add the counts of a block."""
        self._found = [old + new for old, new in zip(self._found, found, strict=True)]


def _compare_values(
    before: EffectiveValues, after: EffectiveValues, start: int, count: int, space: _BothWorkspaces
) -> _Differences:
    old, was_zero = before.effective(start, count, space.before)
    new, is_zero = after.effective(start, count, space.after)
    zeros_before, zeros = int(np.count_nonzero(was_zero)), int(np.count_nonzero(is_zero))
    both = int(np.count_nonzero(was_zero & is_zero))
    differing = old != new
    differing &= ~(was_zero | is_zero)
    return zeros_before, zeros, zeros - both, zeros_before - both, int(np.count_nonzero(differing))


def _task(sums: _Sums, pair: _Pair, selected: bool) -> _Task:
    """Return the task for a pair; any tensor with a mask, or selected, counts as a parameter."""
    counts = selected or any(each is not None and (each.matches_globs or each.mask is not None) for each in pair)
    return _described(sums, pair, "parameter" if counts else "tensor")


def _described(sums: _Sums, pair: _Pair, kind: Literal["parameter", "tensor", "carried"]) -> _Task:
    old, new = pair
    if old is None or new is None:
        only = old or new
        if only is None:
            raise ValueError("a pair of nothing")
        return _Task(_row(only, only.name, kind, "added" if old is None else "missing"))
    row = _row(new, old.name, kind, "compared")
    same = old.weight.shape == new.weight.shape and old.weight.dtype.name == new.weight.dtype.name
    masked = all(each.mask is None or each.countable for each in (old, new))
    weights = comparable(old.weight, new.weight) if same and masked else None
    if weights is None:
        return _Task(replace(row, state="incomparable"))
    if row.kind == "parameter" and weights[0].elements != row.elements:
        row = replace(row, kind="tensor")  # expanded: the number of its zeros does not follow from its stored elements
    read = (*weights, old.mask, new.mask)
    return _Task(
        row,
        (
            EffectiveValues(sums[0].layout, old, weights[0], sums[0]),
            EffectiveValues(sums[1].layout, new, weights[1], sums[1]),
        ),
        weights[1].elements,
        sum(each.dtype.itemsize for each in read if each is not None),
        place=tuple(each and (each.storage.key, each.view.start, each.view.normal(), each.dtype.name) for each in read),
        state=row.kind != "parameter" and all(each.weight.moment is not None for each in (old, new)),
    )


def _row(
    parameter: Parameter,
    name_before: str,
    kind: Literal["parameter", "tensor", "carried"],
    state: Literal["compared", "missing", "added", "incomparable"],
) -> Change:
    weight = parameter.weight
    return Change(parameter.name, name_before, kind, state, weight.dtype.name, weight.shape, weight.elements)


def _without_repetitions(tasks: Sequence[_Task]) -> list[_Task]:
    """Return the tasks to carry out; a task that reads the same memory as an earlier one uses its result."""
    first: dict[object, _Task] = {}
    own = []
    for task in tasks:
        if not task.elements:
            continue
        other = first.setdefault((task.row.kind, task.place), task)
        if other is task:
            own.append(task)
        else:
            task.same_as = other
    return own
