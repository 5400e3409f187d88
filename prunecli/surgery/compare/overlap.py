"""Count the overlap of two masks: both are streamed side by side, and each thread needs memory for a few blocks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.raw_elements import count_zeros
from prunecli.formats.io.pieces import Generated, Outcome
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.source import ByteSource
from prunecli.formats.io.stream import run_pieces
from prunecli.surgery.compare.overlap_model import OverlapRow, counts_of
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.run.destination import cumulative
from prunecli.surgery.run.options import Run

__all__ = ["count_overlaps"]

_Counts = tuple[int, int, int]
"""The numbers of elements that both masks keep, that the first one keeps, and that the second one keeps."""


class _OverlapTask:
    """The content of a piece that reads two masks and writes nothing, and its counts so far."""

    workspace = Workspace

    def __init__(self, one: KeptFlags, two: KeptFlags) -> None:
        self.one, self.two = one, two
        self.width = one.width + two.width
        self.block = BLOCK * self.width
        self.found: _Counts = (0, 0, 0)
        self._left = one.elements

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Count a block."""
        first, count = start // self.width, data.size // self.width
        one, two = workspace.keep.flags(count), workspace.block.flags(count)
        self.one.read(first, one, workspace)
        self.two.read(first, two, workspace)
        dropped, not_both = count_zeros(  # the elements that the first mask drops, and those that either drops
            one.view(np.uint8), workspace.zero.flags(count), workspace.room, signed_zero=False, keep=two, flags=False
        )
        return Outcome(False, (self, (count - not_both, count - dropped, int(np.count_nonzero(two))), count))

    def add(self, found: _Counts, elements: int) -> None:
        """Add the counts of a block; after the last one, free gathered tensors."""
        both, one, two = self.found
        self.found = both + found[0], one + found[1], two + found[2]
        self._left -= elements
        if not self._left:
            self.one.release()
            self.two.release()


def _add(found: tuple[_OverlapTask, _Counts, int]) -> None:
    task, counts, elements = found
    task.add(counts, elements)


def count_overlaps(pairs: Sequence[tuple[KeptFlags, KeptFlags]], source: ByteSource, run: Run) -> list[OverlapRow]:
    """Return a row for each pair of masks of one shape; pairs that read the same memory are counted once.

    Raises:
        DamagedError: as `KeptFlags.read`.
        UnreadableError: as `KeptFlags.read`.
    """
    tasks: dict[object, _OverlapTask] = {}
    own = [tasks.setdefault((one.place, two.place), _OverlapTask(one, two)) for one, two in pairs]
    pieces = [Generated(task.one.elements * task.width, task) for task in tasks.values()]
    progress = cumulative(run.progress, sum(piece.length for piece in pieces))
    run_pieces(pieces, source, NullSink(), jobs=run.threads, progress=progress, found=_add)
    return [_row(*pair, task) for pair, task in zip(pairs, own, strict=True)]


def _row(one: KeptFlags, two: KeptFlags, task: _OverlapTask) -> OverlapRow:
    shared = None if task.one is one and task.two is two else task.one.name
    return OverlapRow(one.name, two.name, one.shape, counts_of(*task.found, one.elements), shared)
