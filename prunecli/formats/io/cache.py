"""Decoded blocks of a source, a few of which are kept for further reads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from prunecli.formats.io.threads import Once

__all__ = ["BlockCache"]

_CACHED = 48 << 20
"""The most bytes of decoded blocks that are kept for further reads."""

_Bytes = NDArray[np.uint8]


class BlockCache:
    """Decoded blocks by key. If several threads need the same block, one decodes it, and the others wait."""

    def __init__(self) -> None:
        self._blocks: OrderedDict[Hashable, tuple[int, Once[_Bytes]]] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def get(self, key: Hashable, size: int, decode: Callable[[_Bytes], None]) -> _Bytes:
        """Return a block of `size` bytes, which `decode` fills unless it is kept."""

        def decoded() -> _Bytes:
            found = np.empty(size, dtype=np.uint8)
            decode(found)
            return found

        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = size, Once(decoded)
                self._size += size
            self._blocks.move_to_end(key)
            block = self._blocks[key][1]
            while self._size > _CACHED and len(self._blocks) > 1:
                self._size -= self._blocks.popitem(last=False)[1][0]
        return block.get()
