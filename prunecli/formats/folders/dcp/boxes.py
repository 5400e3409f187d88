"""A box of a larger tensor, for example a shard: which elements of the whole tensor it contains, and in which order.

The row-major order of a box is that of the whole tensor with other elements left out. So the elements that a run of the
whole tensor shares with a box are one run of the box.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from prunecli.formats.views import View
from prunecli.lean import dataclass

__all__ = ["Box", "tile"]

_LONG = 4096
"""Rows of at least this many elements are handled one by one."""

_CUT = 8
"""The most dimensions in which a tensor may be cut; meshes of devices have up to five."""


@dataclass(frozen=True, slots=True)
class Box:
    """The elements `offsets[d] <= index[d] < offsets[d] + sizes[d]` of a tensor of `shape`.

    >>> box = Box(shape=(4, 6), offsets=(1, 2), sizes=(2, 3))
    >>> box.place(0, 6)
    array([ 8,  9, 10, 14, 15, 16])
    >>> box.below(14)
    3
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The product of the sizes."""
        return math.prod(self.sizes)

    @property
    def run(self) -> int:
        """The number of consecutive elements of the box that are consecutive in the whole tensor, too."""
        return self._rows()[0]

    def below(self, index: int) -> int:
        """Return the number of elements of the box before element `index` of the whole, both in row-major order."""
        count, inner, step = 0, self.elements, math.prod(self.shape)
        for size, first, own in zip(self.shape, self.offsets, self.sizes, strict=True):
            if not inner or not step:
                return 0
            step //= size
            inner //= own
            at, index = divmod(index, step)
            count += min(max(at - first, 0), own) * inner
            if not first <= at < first + own:
                break
        return count

    def place(self, first: int, count: int, base: int = 0) -> slice | NDArray[np.int64]:
        """Return the indices in the whole of the box's elements `first .. first + count - 1`, minus `base`.

        The result is a slice if they are consecutive, else an array of shape `(count,)`.
        """
        run, outer = self._rows()
        row, last = first // run, (first + count - 1) // run
        if row == last:
            start = int(self._starts(np.array([row]), outer)[0]) + first - row * run - base
            return slice(start, start + count)
        starts = self._starts(np.arange(row, last + 1), outer) - base
        skipped = first - row * run
        if run < _LONG:
            return (starts[:, None] + np.arange(run)).reshape(-1)[skipped : skipped + count]
        stops = [run] * (last - row) + [first + count - last * run]
        begins = [skipped] + [0] * (last - row)
        rows = zip(starts.tolist(), begins, stops, strict=True)
        return np.concatenate([np.arange(start + low, start + high) for start, low, high in rows])

    def spread(self, own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row-major indices in the whole for row-major indices in the box; shapes `(n,)`."""
        run, outer = self._rows()
        return self._starts(own // run, outer) + own % run

    def _rows(self) -> tuple[int, int]:
        """Return the length of a row that is consecutive in the whole, and the number of dimensions that count rows."""
        run = 1
        for dim in range(len(self.shape) - 1, -1, -1):
            run *= self.sizes[dim]
            if self.sizes[dim] != self.shape[dim]:
                return run, dim
        return run, 0

    def _starts(self, rows: NDArray[np.int64], outer: int) -> NDArray[np.int64]:
        """Return the index in the whole at which each row begins."""
        strides = View.of(self.shape).stride
        starts = np.full(rows.shape, sum(at * step for at, step in zip(self.offsets, strides, strict=True)), np.int64)
        rest = rows
        for dim in range(outer - 1, -1, -1):
            rest, at = np.divmod(rest, self.sizes[dim])
            starts += at * strides[dim]
        return starts


def tile(shape: tuple[int, ...], boxes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether boxes, given as pairs of offsets and sizes, cover each element of a tensor exactly once.

    A function on a grid is determined by its mixed differences. The mixed differences of a box are the signs of its
    corners. So the corners of boxes add up to the corners of the whole if, and only if, the boxes tile it.
    """
    if 0 in shape:
        return not boxes
    cut = [d for d, size in enumerate(shape) if any(sizes[d] != size for _, sizes in boxes)]
    if len(cut) > _CUT:
        return False
    if len({offsets for offsets, _ in boxes}) != len(boxes):
        return False
    corners: dict[tuple[int, ...], int] = {}
    signs = [(-1) ** sum(ends) for ends in product((0, 1), repeat=len(cut))]
    whole = ((0,) * len(shape), shape)
    for sign, (offsets, sizes) in [(-1, whole), *((1, box) for box in boxes)]:
        if not all(0 <= at <= at + own <= size for at, own, size in zip(offsets, sizes, shape, strict=True)):
            return False
        ends = product(*((offsets[d], offsets[d] + sizes[d]) for d in cut))
        for corner, own in zip(ends, signs, strict=True):
            corners[corner] = corners.get(corner, 0) + sign * own
    return not any(corners.values())
