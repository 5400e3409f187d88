"""Working memory that is reused from block to block: new memory costs more than the work done in it here."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Buffer"]

_ALIGN = 64
"""The alignment of the memory in bytes. Numpy's large arrays begin 16 bytes into a page, and copies to a place 16 bytes
further into its page than their source take up to ten times as long on some processors; torch aligns records to 64."""


class Buffer:
    """Memory for one array at a time, of any size; only for one thread.

    Every request returns the same memory, so an array that must outlive the next request needs its own buffer.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, dtype=np.uint8)
        self._flags = self._memory.view(np.bool_)  # made once: a view takes longer than the work on a small tensor

    def bytes(self, count: int) -> NDArray[np.uint8]:
        """Return `count` bytes, of any value."""
        if self._memory.size < count:
            memory = np.empty(count + _ALIGN, dtype=np.uint8)
            self._memory = memory[-memory.ctypes.data % _ALIGN :][:count]
            self._flags = self._memory.view(np.bool_)
        return self._memory[:count]

    def flags(self, count: int) -> NDArray[np.bool_]:
        """Return `count` booleans, of any value."""
        if self._flags.size < count:
            self.bytes(count)
        return self._flags[:count]

    def floats(self, count: int) -> NDArray[np.float64]:
        """Return `count` doubles, of any value."""
        return self.bytes(8 * count).view(np.float64)
