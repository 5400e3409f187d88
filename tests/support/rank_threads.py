"""Ranks as threads of this process: the laws of spread work without a launcher."""

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prunecli.errors import PeerError, PrunecliError
from prunecli.surgery.run.ranks import Ranks

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Meeting:
    """What the ranks have on the table."""

    size: int
    barrier: threading.Barrier = field(init=False)
    made: list[Any] = field(init=False)
    codes: list[int | None] = field(init=False)

    def __post_init__(self) -> None:
        self.barrier = threading.Barrier(self.size, timeout=60)
        self.made = [None] * self.size
        self.codes = [None] * self.size


class ThreadRank(Ranks):
    """One of the ranks."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.size, self._meeting = rank, meeting.size, meeting

    def from_leader(self, make: Callable[[], T]) -> T:
        def sent() -> tuple[T, bytes]:
            value = make()
            return value, pickle.dumps(value) if self.size > 1 else b""  # at once: the leader may go on to change it

        value, data = self._meet(sent if self.is_leader else None)[0]
        received: T = value if self.is_leader else pickle.loads(data)  # as between processes
        return received

    def to_leader(self, make: Callable[[], T]) -> list[T]:
        found = self._meet(make)
        return found if self.is_leader else []

    def _meet(self, make: Callable[[], Any] | None) -> list[Any]:
        meeting, failure = self._meeting, None
        meeting.made[self.rank] = meeting.codes[self.rank] = None
        try:
            meeting.made[self.rank] = None if make is None else make()
        except PrunecliError as error:
            failure, meeting.codes[self.rank] = error, error.exit_code
        meeting.barrier.wait()
        found, codes = list(meeting.made), list(meeting.codes)
        meeting.barrier.wait()
        if failure is not None:
            raise failure
        for code in codes:
            if code is not None:
                raise PeerError(code)
        return found


def by_ranks(size: int, work: Callable[[Ranks], R]) -> list[R | PrunecliError]:
    """Let as many ranks do a piece of work at the same time; return what each returned, or raised."""
    meeting = Meeting(size)

    def one(rank: int) -> R | PrunecliError:
        try:
            return work(ThreadRank(rank, meeting))
        except PrunecliError as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
