"""Contents for tensors stored in parts: each part is cut where the blocks of the mask end."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.raw_elements import scale
from prunecli.core.structure.counter import Window
from prunecli.formats.base import Patch
from prunecli.formats.folders.dcp.boxes import Box
from prunecli.formats.io.pieces import Outcome
from prunecli.surgery.data.passes import TensorPass
from prunecli.surgery.data.workspace import Workspace

__all__ = ["part_patches"]


def part_patches(job: TensorPass, box: Box, *, scaled: bool, cleared: bool) -> Iterator[Patch]:
    """Cut a row-major part into patches, one for each mask block, so that no block is computed twice."""
    itemsize, start = job.tensor.dtype.itemsize, job.tensor.view.start
    first, last = (int(box.spread(np.array([own]))[0]) for own in (0, box.elements - 1))
    for block in range(first // BLOCK, last // BLOCK + 1):
        low, high = box.below(block * BLOCK), box.below((block + 1) * BLOCK)
        if high > low:
            content = _Run(job, box, block * BLOCK, low, high - low, scaled=scaled, cleared=cleared)
            yield Patch((start + low) * itemsize, (high - low) * itemsize, content)


class _Run:
    """The elements of a part that lie in one mask block: `count` of the part's own elements, starting at `first`."""

    workspace = Workspace

    def __init__(
        self, job: TensorPass, box: Box, base: int, first: int, count: int, *, scaled: bool, cleared: bool
    ) -> None:
        self.block = count * job.tensor.dtype.itemsize
        self._job = job
        self._box = box
        self._base = base
        self._first = first
        self._scaled = scaled
        self._cleared = cleared

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Count and edit all of these elements."""
        job, mask = self._job, self._job.mask
        raw = job.elements(data)
        whole = workspace.keep.flags(min(BLOCK, mask.parameter.weight.elements - self._base))
        before = None if mask.trivial else mask.keep(self._base, whole, workspace)
        place = self._box.place(self._first, raw.size, self._base)
        where = self._base + (place.start if isinstance(place, slice) else place)
        window = _window(self._box)
        counted_at = where if window is None else self._first
        if mask.trivial:
            found = job.count(raw, None, whole[: raw.size], counted_at, workspace, window=window)
        else:
            keep = whole[place]
            if self._scaled:
                dtype = job.tensor.dtype
                scale(raw, mask.old.read(self._base, whole.size, workspace.mask)[place], dtype.half or dtype.name)
            own_before = None if before is None else before[place]
            found = job.digest(whole, self._base)
            found += job.count(raw, own_before, keep, counted_at, workspace, window=window, clear=self._cleared)
            job.rescale(raw)
        if job.counting.summed:
            for low, high in self._rows(raw.size):
                found += job.sum_up(raw[low:high], where + low if isinstance(where, int) else int(where[low]))
        return job.outcome(self._cleared, found)

    def _rows(self, count: int) -> Iterator[tuple[int, int]]:
        """Yield runs of these elements that are contiguous in the whole tensor."""
        run, low = self._box.run, 0
        while low < count:
            high = min(low + run - (self._first + low) % run, count)
            yield low, high
            low = high


def _window(box: Box) -> Window | None:
    """Return which part of a matrix a box covers, None if its tensor does not have two dimensions."""
    if len(box.shape) != 2:
        return None
    (top, left), (_, wide) = box.offsets, box.sizes
    return top, left, wide
