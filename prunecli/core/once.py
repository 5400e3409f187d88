"""Values that are computed once, on first use."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Once", "once_in"]

T = TypeVar("T")

_creating = threading.Lock()


def once_in(owner: Any, slot: str, make: Callable[[], T]) -> "Once[T]":
    """Return the `Once` in an attribute of an object, put there on first use: most of very many objects need none."""
    with _creating:
        found: Once[T] | None = getattr(owner, slot)
        if found is None:
            found = Once(make)
            setattr(owner, slot, found)
    return found


class Once(Generic[T]):
    """A value that the first thread to need it computes, while others wait; it is kept until it is released."""

    __slots__ = ("_lock", "_made", "_make")

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
