"""The slices of a tensor that are all zero, computed from flags that arrive in runs, in any order."""

import base64
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.counter import Window

__all__ = ["SliceCounter"]


class SliceCounter:
    """A counter of the slices of a tensor that are all zero.

    A slice is the elements with the same index in the dimensions `kept`: (0,) for the rows of a matrix, () for the
    whole tensor.

    >>> counter = SliceCounter((2, 3), (1,))
    >>> counter.add(counter.look(0, np.array([True, True, False, True, False, False])))
    >>> counter.empty
    1
    """

    def __init__(self, shape: Sequence[int], kept: Sequence[int]) -> None:
        # For each of these dimensions: the elements per step in the tensor, the size, and the slices per step.
        self._steps = [
            (math.prod(shape[at + 1 :]), shape[at], math.prod(shape[other] for other in kept if other > at))
            for at in sorted(kept)
        ]
        self._width = math.prod(shape[1:] if len(shape) > 1 else shape)
        self._slices = math.prod(shape[at] for at in kept) if math.prod(shape) else 0
        self._alive: Flags | None = None

    @property
    def empty(self) -> int:
        """The number of slices that are all zero, valid after every element has arrived."""
        return self._slices - (0 if self._alive is None else int(np.count_nonzero(self._alive)))

    def look(self, first: int, zero: Flags, window: Window | None = None) -> NDArray[np.int64] | Flags:
        """Return the findings in a run of elements, without changing the counter; see `StructureCounter.look`."""
        kept = np.flatnonzero(~zero) + first
        if window is not None:
            top, left, wide = window
            row, column = np.divmod(kept, wide)
            kept = (top + row) * self._width + left + column
        return self._of(kept)

    def look_at(self, logical: NDArray[np.int64], zero: Flags) -> NDArray[np.int64] | Flags:
        """Return the findings in elements, given by their row-major indices; shapes `(n,)`."""
        return self._of(logical[~zero])

    def add(self, found: NDArray[np.int64] | Flags) -> None:
        """Add slices with a nonzero element, given as numbers or as flags."""
        if self._alive is None:
            self._alive = np.zeros(self._slices, dtype=np.bool_)
        self._alive[found] = True

    def drain(self) -> str | None:
        """Return the sum as JSON data, and reset the counter; None if nothing was added."""
        alive, self._alive = self._alive, None
        return None if alive is None else base64.b64encode(np.packbits(alive).tobytes()).decode("ascii")

    def merge(self, drained: str) -> None:
        """Add the result of `drain` of a counter for the same tensor."""
        packed = np.frombuffer(base64.b64decode(drained), dtype=np.uint8)
        self.add(np.unpackbits(packed, count=self._slices).view(np.bool_))

    def _of(self, kept: NDArray[np.int64]) -> NDArray[np.int64] | Flags:
        """Return the slices of elements, as flags if there are fewer slices than elements."""
        place = np.zeros(kept.size, dtype=np.int64)
        for step, size, slices in self._steps:
            place += kept // step % size * slices
        if self._slices > place.size:
            return place
        alive = np.zeros(self._slices, dtype=np.bool_)
        alive[place] = True
        return alive
