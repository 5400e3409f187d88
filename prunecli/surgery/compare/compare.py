"""Compare a checkpoint with what it was before, both streamed side by side: what became zero, and what else differs.

Parameters are found by name, then by canonical name, so that wrappers, containers and the cut into shards do not
matter. Memory is a few blocks a thread; tensors that are not row-major are gathered one at a time.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from prunecli.core.random_stream import BLOCK
from prunecli.errors import UsageError
from prunecli.formats.base import Layout, TensorInfo
from prunecli.surgery.compare.model import Change, Comparison
from prunecli.surgery.data.effective import EffectiveValues, comparable
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selection, select
from prunecli.surgery.report.measure import CheckpointRef
from prunecli.surgery.run.destination import cumulative
from prunecli.surgery.run.resume import Run

__all__ = ["compare"]

_Pair = tuple[Parameter | None, Parameter | None]
"""A tensor before and after."""


def compare(before: Layout, after: Layout, selection: Selection | None = None, run: Run | None = None) -> Comparison:
    """Compare all tensors of two checkpoints, or the parameters that are selected in either.

    Ordinary parameters, those with a mask, and selected ones are compared by their effective values; every other
    tensor of the state dict, and those outside of it, by their bytes. What is no tensor is not compared, nor is what
    lies outside of the state dict if it is selected from, or if the other checkpoint, in another format, has only that.

    Raises:
        UsageError: a pattern matches nothing in either, or there are several ranks.
        UnsupportedError: a mask holds what cannot be multiplied.
        DamagedError: a file ends early.
    """
    run = run or Run()
    if run.ranks.size > 1:
        raise UsageError("a comparison is made by one process; start it without torchrun")
    tasks = [_task(before, after, pair, selection is not None) for pair in _pairs(before, after, selection)]
    sides = [{each.name: _as_parameter(each) for each in side.carried} for side in (before, after)]
    uncompared = 0
    if selection is not None or (before.format != after.format and not all(sides)):
        uncompared = sum(map(len, sides))
    else:
        tasks += [_described(before, after, pair, "carried") for pair in _paired(*sides)]
    own = _without_repetitions(tasks)
    told = cumulative(run.progress, sum(task.nbytes for task in own))
    _carry_out(own, run.threads, told)
    old, new = (CheckpointRef(each.source.name, each.format, each.source.size) for each in (before, after))
    return Comparison(old, new, [task.change() for task in tasks], uncompared)


def _pairs(before: Layout, after: Layout, selection: Selection | None) -> list[_Pair]:
    """Find each parameter's counterpart, in the order of what is after; those that are missing at the end."""
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
    except UsageError as error:  # what is missing here may be there on the other side
        return error


def _paired(before: Mapping[str, Parameter], after: Mapping[str, Parameter]) -> list[_Pair]:
    by_key = {each.key: each for name, each in before.items() if name not in after}
    pairs: list[_Pair] = []
    for name, each in after.items():
        other = before[name] if name in before else by_key.pop(each.key, None)
        pairs.append((other, each))
    return pairs + [(each, None) for each in by_key.values()]


def _as_parameter(tensor: TensorInfo) -> Parameter:
    return Parameter(tensor.name, tensor.name, tensor, None)


@dataclass
class _Task:
    """A tensor to compare, and what was found so far; both sides None if it cannot be.

    `place` tells its memory from other memory: what is the same before and after is looked at once. With `state`, it is
    what an optimizer keeps, which `--with-state` zeroes with the parameters.
    """

    row: Change
    before: EffectiveValues | None = None
    after: EffectiveValues | None = None
    place: object = None
    elements: int = 0
    nbytes: int = 0
    state: bool = False
    same_as: "_Task | None" = None
    found: list[int] = field(default_factory=lambda: [0] * 5)
    left: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self) -> Change:
        """Return what was found."""
        zeros_before, zeros, newly_zero, revived, changed = (self.same_as or self).found
        return replace(
            self.row,
            zeros_before=zeros_before,
            zeros=zeros,
            newly_zero=newly_zero,
            revived=revived,
            changed=changed,
            shared_with=None if self.same_as is None else self.same_as.row.name,
        )

    def look(self, start: int) -> int:
        """Compare a block, and return how many bytes were read."""
        if self.before is None or self.after is None:
            return 0
        count = min(BLOCK, self.elements - start)
        if self.row.kind == "parameter":
            found = _compare_values(self.before, self.after, start, count)
        elif self.state:
            _, _, newly_zero, revived, changed = _compare_values(self.before, self.after, start, count)
            found = (0, 0, newly_zero, 0, revived + changed)
        else:
            differing = self.before.read(start, count) != self.after.read(start, count)
            found = (0, 0, 0, 0, int(np.count_nonzero(differing)))
        with self.lock:
            self.found = [old + new for old, new in zip(self.found, found, strict=True)]
            self.left -= count
            done = not self.left
        if done:
            self.before.release()
            self.after.release()
        return self.nbytes * count // self.elements


def _compare_values(
    before: EffectiveValues, after: EffectiveValues, start: int, count: int
) -> tuple[int, int, int, int, int]:
    old, was_zero = before.effective(start, count)
    new, is_zero = after.effective(start, count)
    zeros_before, zeros = int(np.count_nonzero(was_zero)), int(np.count_nonzero(is_zero))
    both = int(np.count_nonzero(was_zero & is_zero))
    differing = old != new
    differing &= ~(was_zero | is_zero)
    return zeros_before, zeros, zeros - both, zeros_before - both, int(np.count_nonzero(differing))


def _task(before: Layout, after: Layout, pair: _Pair, selected: bool) -> _Task:
    """Describe what there is to do for a parameter; a mask or a selection makes one of any tensor."""
    counts = selected or any(each is not None and (each.matches_globs or each.mask is not None) for each in pair)
    return _described(before, after, pair, "parameter" if counts else "tensor")


def _described(before: Layout, after: Layout, pair: _Pair, kind: Literal["parameter", "tensor", "carried"]) -> _Task:
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
        row = replace(row, kind="tensor")  # expanded: its stored elements say nothing of how many are zero
    elements = weights[1].elements
    read = (*weights, old.mask, new.mask)
    return _Task(
        row,
        EffectiveValues(before, old, "before", weights[0]),
        EffectiveValues(after, new, "after", weights[1]),
        tuple(each and (each.storage.key, each.view.start, each.view.normal(), each.dtype.name) for each in read),
        elements,
        sum(each.elements * each.dtype.itemsize for each in read if each is not None),
        state=row.kind != "parameter" and all(each.weight.moment is not None for each in (old, new)),
        left=elements,
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
    """Return the tasks to do; those that look at what another one looks at share its findings."""
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


def _carry_out(tasks: Sequence[_Task], threads: int, told: Callable[[int], None] | None) -> None:
    """Do tasks block by block; the first error stops all threads."""
    queue = _Queue(tasks, told)
    if threads == 1:
        queue.run()
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="prunecli") as pool:
        try:
            for each in [pool.submit(queue.run) for _ in range(threads)]:
                each.result()
        except BaseException:
            queue.stop()
            raise


class _Queue:
    """The blocks that are still to be looked at."""

    def __init__(self, tasks: Sequence[_Task], told: Callable[[int], None] | None) -> None:
        self._blocks = ((task, start) for task in tasks for start in range(0, task.elements, BLOCK))
        self._told = told
        self._stopped = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Take blocks until there are none left, or another thread has failed."""
        try:
            while (block := self._take()) is not None:
                task, start = block
                done = task.look(start)
                if self._told is not None:
                    with self._lock:
                        self._told(done)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Let every thread end after the block it is at."""
        self._stopped = True

    def _take(self) -> tuple[_Task, int] | None:
        with self._lock:
            return None if self._stopped else next(self._blocks, None)
