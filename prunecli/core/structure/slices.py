"""Find the slices of a tensor that are all zero, from flags that come run by run, in any order and from any thread."""

import base64
import math
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.counter import Window

__all__ = ["SliceTally"]


class SliceTally:
    """Gathers which slices of a tensor have an element that is not zero; a slice is what has one index in `kept`.

    `kept` are the dimensions that tell slices apart: (0,) for the rows of a matrix, () for the tensor as a whole.

    >>> tally = SliceTally((2, 3), (1,))
    >>> tally.add(0, np.array([True, True, False, True, False, False]))
    >>> tally.empty
    1
    """

    def __init__(self, shape: Sequence[int], kept: Sequence[int]) -> None:
        # For each such dimension: how many elements a step is in the tensor, its size, how many slices a step is.
        self._steps = [
            (math.prod(shape[at + 1 :]), shape[at], math.prod(shape[other] for other in kept if other > at))
            for at in sorted(kept)
        ]
        self._width = math.prod(shape[1:] if len(shape) > 1 else shape)
        self._alive = np.zeros(math.prod(shape[at] for at in kept) if math.prod(shape) else 0, dtype=np.bool_)
        self._full = not self._alive.size
        self._lock = threading.Lock()

    @property
    def empty(self) -> int:
        """How many slices are all zero, once every element has come."""
        return int(self._alive.size - np.count_nonzero(self._alive))

    def add(self, first: int, zero: Flags, window: Window | None = None) -> None:
        """Take in a run of elements as `StructureCounter.add` does; shape `(n,)`, True where they are zero."""
        if self._full:
            return
        kept = np.flatnonzero(~zero) + first
        if window is not None:
            top, left, wide = window
            row, column = np.divmod(kept, wide)
            kept = (top + row) * self._width + left + column
        self._note(kept)

    def add_at(self, logical: NDArray[np.int64], zero: Flags) -> None:
        """Take in elements by their places in row-major order; shapes `(n,)`."""
        if not self._full:
            self._note(logical[~zero])

    def take(self) -> str | None:
        """Hand over what was seen, and begin anew: what one process tells another, None if there is nothing."""
        with self._lock:
            alive, self._alive = self._alive, np.zeros_like(self._alive)
            self._full = not alive.size
        return base64.b64encode(np.packbits(alive).tobytes()).decode("ascii") if alive.any() else None

    def give(self, told: str) -> None:
        """Take in what was handed over by a tally of the same tensor."""
        packed = np.frombuffer(base64.b64decode(told), dtype=np.uint8)
        with self._lock:
            self._alive |= np.unpackbits(packed, count=self._alive.size).view(np.bool_)

    def _note(self, kept: NDArray[np.int64]) -> None:
        """Note elements that are not zero."""
        place = np.zeros(kept.size, dtype=np.int64)
        for step, size, slices in self._steps:
            place += kept // step % size * slices
        with self._lock:
            self._alive[place] = True
            self._full = bool(self._alive.all())
