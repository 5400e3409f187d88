"""Memory to work in, kept from block to block."""

import threading

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scratch"]


class Scratch(threading.local):
    """Buffers that each thread uses again and again: fresh memory costs more than what is done in it here."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def flags(self, name: str, count: int) -> NDArray[np.bool_]:
        """Return `count` booleans, of any value, that stay the caller's until the thread asks for `name` again."""
        return self.bytes(name, count).view(np.bool_)

    def floats(self, name: str, count: int) -> NDArray[np.float64]:
        """Return `count` doubles in the same way."""
        return self.bytes(name, 8 * count).view(np.float64)

    def bytes(self, name: str, count: int) -> NDArray[np.uint8]:
        """Return `count` bytes in the same way."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < count:
            buffer = self._buffers[name] = np.empty(count, dtype=np.uint8)
        return buffer[:count]
