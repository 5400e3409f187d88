"""How many threads a run uses; values computed by one of them for all, objects of their own, and work in order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

__all__ = ["Once", "PerThread", "default_jobs", "in_order", "once_in"]

T = TypeVar("T")
R = TypeVar("R")

_creating = threading.Lock()


def default_jobs() -> int:
    """Return the number of threads worth using: the processors of this process, at most 8 (enough for a disk)."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


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
        """Return the value. If computing it raises an error, the next call computes it again."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]

    def release(self) -> None:
        """Drop the value; the next `get` computes it again."""
        with self._lock:
            self._made.clear()


class PerThread(Generic[T]):
    """One object for each thread, made by `make` when the thread first asks for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._own = threading.local()

    def get(self) -> T:
        """Return the object of this thread."""
        if not hasattr(self._own, "made"):
            self._own.made = self._make()
        made: T = self._own.made
        return made


def in_order(run: Callable[[T], R], tasks: Iterable[T], jobs: int) -> Iterator[R]:
    """Yield the results of tasks in their order, with `jobs` threads at work on the next ones."""
    if jobs == 1:
        yield from map(run, tasks)
        return
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="prunecli")
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(run, task))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
