"""Count the overlap of two masks: both are streamed side by side, and each thread needs memory for a few blocks."""

from collections.abc import Sequence

import numpy as np

from prunecli.core.raw_elements import count_zeros
from prunecli.formats.io.source import ByteSource
from prunecli.surgery.compare.overlap_model import OverlapRow, counts_of
from prunecli.surgery.data.block_task import BlockTask, run_tasks
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.run.destination import cumulative
from prunecli.surgery.run.options import Run

__all__ = ["count_overlaps"]

_Counts = tuple[int, int, int]
"""The numbers of elements that both masks keep, that the first one keeps, and that the second one keeps."""


class _OverlapTask(BlockTask[_Counts]):
    """Two masks to read, and their counts so far."""

    def __init__(self, one: KeptFlags, two: KeptFlags) -> None:
        super().__init__(one.elements, one.width + two.width, one, two)
        self.one, self.two = one, two
        self.found: _Counts = (0, 0, 0)

    def look(self, first: int, count: int, workspace: Workspace) -> _Counts:
        """Return the counts of a block."""
        one, two = workspace.keep.flags(count), workspace.block.flags(count)
        self.one.read(first, one, workspace)
        self.two.read(first, two, workspace)
        dropped, not_both = count_zeros(  # the elements that the first mask drops, and those that either drops
            one.view(np.uint8), workspace.zero.flags(count), workspace.room, signed_zero=False, keep=two, flags=False
        )
        return count - not_both, count - dropped, int(np.count_nonzero(two))

    def add(self, found: _Counts) -> None:
        """Add the counts of a block."""
        both, one, two = self.found
        self.found = both + found[0], one + found[1], two + found[2]


def count_overlaps(pairs: Sequence[tuple[KeptFlags, KeptFlags]], source: ByteSource, run: Run) -> list[OverlapRow]:
    """Return a row for each pair of masks of one shape; pairs that read the same memory are counted once.

    Raises:
        DamagedError: as `KeptFlags.read`.
        UnreadableError: as `KeptFlags.read`.
    """
    tasks: dict[object, _OverlapTask] = {}
    own = [tasks.setdefault((one.place, two.place), _OverlapTask(one, two)) for one, two in pairs]
    progress = cumulative(run.progress, sum(task.length for task in tasks.values()))
    run_tasks(list(tasks.values()), source, run.threads, progress)
    return [_row(*pair, task) for pair, task in zip(pairs, own, strict=True)]


def _row(one: KeptFlags, two: KeptFlags, task: _OverlapTask) -> OverlapRow:
    shared = None if task.one is one and task.two is two else task.one.name
    return OverlapRow(one.name, two.name, one.shape, counts_of(*task.found, one.elements), shared)
