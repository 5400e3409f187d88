"""A box of a larger tensor, as a shard is one: which elements of the whole it holds, and in which order.

A box's own row-major order is that of the whole with other elements left out, so what a run of the whole and a box have
in common is one run of the box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from prunecli.formats.views import View

__all__ = ["Box", "tile"]

_LONG = 4096
"""Elements in a row from which on rows are worth a step each."""

_CUT = 8
"""Dimensions in which a tensor may be cut; meshes of devices have up to five."""


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
        """How many of its elements lie together in the whole, too."""
        return self._rows()[0]

    def below(self, index: int) -> int:
        """Return how many elements of the box come before element `index` of the whole, both in row-major order."""
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
        """Return the indices in the whole of the box's elements `first .. first + count - 1`, less `base`.

        A slice where they are consecutive, else an array of shape `(count,)`.
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
        """Turn indices of the box's own row-major order into those of the whole; shapes `(n,)`."""
        run, outer = self._rows()
        return self._starts(own // run, outer) + own % run

    def _rows(self) -> tuple[int, int]:
        """Return how many elements lie together in the whole, too, and how many dimensions count such rows."""
        run = 1
        for dim in range(len(self.shape) - 1, -1, -1):
            run *= self.sizes[dim]
            if self.sizes[dim] != self.shape[dim]:
                return run, dim
        return run, 0

    def _starts(self, rows: NDArray[np.int64], outer: int) -> NDArray[np.int64]:
        """Return where in the whole each row begins."""
        strides = View.of(self.shape).stride
        starts = np.full(rows.shape, sum(at * step for at, step in zip(self.offsets, strides, strict=True)), np.int64)
        rest = rows
        for dim in range(outer - 1, -1, -1):
            rest, at = np.divmod(rest, self.sizes[dim])
            starts += at * strides[dim]
        return starts


def tile(shape: tuple[int, ...], boxes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> bool:
    """Whether boxes, as pairs of offsets and sizes, cover a tensor exactly: each element once.

    A function on a grid follows from its mixed differences, and those of a box are the signs of its corners: so the
    corners of boxes that tile the whole add up to the corners of the whole, and only theirs do.
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
