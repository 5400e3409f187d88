"""Arrays as compressed text, which JSON data can contain."""

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["packed", "unpacked"]


def packed(array: NDArray[Any]) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(zlib.compress(array.tobytes(), 1)).decode("ascii")


def unpacked(text: str) -> NDArray[np.uint8]:
    """Return the bytes in a text of `packed`, shape `(n,)`; they are read-only.

    >>> unpacked(packed(np.array([1, 2], np.uint8))).tolist()
    [1, 2]
    """
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
