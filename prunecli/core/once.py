"""Values that are computed once, on first use."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Once"]

T = TypeVar("T")


class Once(Generic[T]):
    """A value that the first thread to need it computes, while others wait; it is kept until it is released."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def release(self) -> None:
        """Drop the value; the next `get` computes it again."""
        with self._lock:
            self._made.clear()
