"""Values that are made once, when they are first asked for."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Once"]

T = TypeVar("T")


class Once(Generic[T]):
    """A value that the first thread to ask for it makes, while others wait, and that is kept until it is released."""

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
        """Forget the value; it is made again if it is asked for again."""
        with self._lock:
            self._made.clear()
