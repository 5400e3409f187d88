"""Working memory that is reused from block to block: new memory costs more than the work done in it here."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer"]


class Buffer:
    """Memory for one array at a time, of any size; only for one thread.

    Every request returns the same memory, so an array that must outlive the next request needs its own buffer.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Return `count` bytes, of any value."""
        if self._memory.size < count:
            self._memory = np.empty(count, dtype=np.uint8)
        return self._memory[:count]

    def flags(self, count: int) -> NDArray[np.bool_]:
        """Return `count` booleans, of any value."""
        return self.bytes(count).view(np.bool_)

    def floats(self, count: int) -> NDArray[np.float64]:
        """Return `count` doubles, of any value."""
        return self.bytes(8 * count).view(np.float64)
