"""The processes that share a piece of work: a single one, or the ranks that a launcher such as torchrun started.

Every rank runs the same program. Masks need no communication, since they are functions of (seed, name). The ranks
exchange only the plan, and at the end their counts.
"""

from __future__ import annotations  # torch's names are imported for the type checker only

import hashlib
import os
import secrets
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from prunecli.errors import OutputError, PeerError, PrunecliError, UsageError, show

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

__all__ = ["SINGLE_PROCESS", "Ranks", "SingleProcess", "ranks_of_launcher"]

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""How long ranks wait for each other: long, since the largest share of the work can take any time."""

_JOINING = timedelta(minutes=10)
"""How long a rank waits for the others to join: a rank that was lost before, or has another address, never joins."""


class Ranks(ABC):
    """The ranks of a run. Rank 0 is the leader: it plans, gives the output its name, and prints."""

    rank: int
    size: int
    restarts: int = 0
    """How often the launcher has started this run again."""
    restartable: bool = False
    """Whether the launcher may start the run again if a rank is lost."""

    @property
    def is_leader(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @abstractmethod
    def from_leader(self, make: Callable[[], T]) -> T:
        """Return, on all ranks, what `make` returns on the leader.

        Raises:
            PrunecliError: what the leader raised; on the other ranks a `PeerError`.
            OutputError: a rank was lost.
        """

    @abstractmethod
    def to_leader(self, make: Callable[[], T]) -> list[T]:
        """Return, on the leader, what `make` returns on each rank, in rank order; on the others an empty list.

        Raises:
            PrunecliError: what `make` raised here; or a `PeerError`, if it failed elsewhere, or on the leader as well.
            OutputError: a rank was lost.
        """

    def on_all(self, make: Callable[[], T]) -> T:
        """Return what `make` returns on this rank; if it fails on one, all ranks raise as `to_leader` does."""
        made: list[T] = []
        self.to_leader(lambda: made.append(make()))
        return made[0]


class SingleProcess(Ranks):
    """A single process."""

    rank = 0
    size = 1

    def __init__(self, restarts: int = 0, restartable: bool = False) -> None:
        self.restarts = restarts
        self.restartable = restartable

    def from_leader(self, make: Callable[[], T]) -> T:
        """Make it."""
        return make()

    def to_leader(self, make: Callable[[], T]) -> list[T]:
        """Make it."""
        return [make()]


SINGLE_PROCESS = SingleProcess()
"""The default: a single process."""


class _TorchRanks(Ranks):
    """The ranks of a process group of torch.distributed. They unpickle only what they have sent each other."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.restarts, self.restartable = _restarts()

    def from_leader(self, make: Callable[[], T]) -> T:
        """Call `make` on the leader, and broadcast the result."""
        from torch import distributed

        made: list[Any] = [None, None]
        failure: PrunecliError | None = None
        if self.is_leader:
            try:
                made[0] = make()
            except PrunecliError as error:
                failure, made[1] = error, error.exit_code
        _together(lambda: distributed.broadcast_object_list(made, src=0))
        if failure is not None:
            raise failure
        if made[1] is not None:
            raise PeerError(made[1])
        value: T = made[0]
        return value

    def to_leader(self, make: Callable[[], T]) -> list[T]:
        """Call `make` on every rank; failure codes go to all ranks, results to the leader."""
        from torch import distributed

        made: T | None = None
        failure: PrunecliError | None = None
        try:
            made = make()
        except PrunecliError as error:
            failure = error
        codes: list[Any] = [None] * self.size
        own = None if failure is None else failure.exit_code
        _together(lambda: distributed.all_gather_object(codes, own))
        if failure is not None and (self.is_leader or codes[0] != own):  # the leader reports its own failure
            raise failure
        for code in codes:
            if code is not None:
                raise PeerError(code)
        gathered: list[Any] | None = [None] * self.size if self.is_leader else None
        _together(lambda: distributed.gather_object(made, gathered, dst=0))
        return gathered or []


def _restarts() -> tuple[int, bool]:
    """Return how often torchrun has restarted this run, and whether it may restart it at all."""
    return _number("TORCHELASTIC_RESTART_COUNT"), _number("TORCHELASTIC_MAX_RESTARTS") > 0


def _number(variable: str) -> int:
    text = os.environ.get(variable, "0")
    return int(text) if text.isdecimal() else 0


def _together(call: Callable[[], object]) -> None:
    """Make a call that waits for other ranks; raise an OutputError if a rank was lost."""
    failure = _interruptibly(call)
    if isinstance(failure, RuntimeError | ValueError):  # from torch.distributed
        raise OutputError("another rank was lost in the middle; run it again") from failure
    if failure is not None:
        raise failure


def _interruptibly(call: Callable[[], object]) -> Exception | None:
    """Make a call in a thread and wait for it: inside torch, a signal would have to wait for the other ranks.

    Returns the error that it raised.
    """
    failures: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    return failures[0] if failures else None


@contextmanager
def ranks_of_launcher() -> Iterator[Ranks]:
    """Join the ranks described by torchrun's environment variables; yield a single process without a launcher.

    Raises:
        UsageError: the environment names ranks, but they cannot be joined.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "RANK" not in os.environ:
        yield SingleProcess(*_restarts()) if "RANK" in os.environ else SINGLE_PROCESS
        return
    from torch import distributed

    with _standard_output_aside():
        failure = _interruptibly(_join)
    if failure is not None:
        raise UsageError(
            f"WORLD_SIZE is {show(size)}, but the ranks cannot be joined ({show(str(failure).partition(chr(10))[0])}); "
            "start all of them with torchrun, or unset WORLD_SIZE"
        )
    try:
        yield _TorchRanks(distributed.get_rank(), distributed.get_world_size())
    except PrunecliError:
        distributed.destroy_process_group()  # left to the interpreter's end, its threads may abort the process
        raise
    distributed.destroy_process_group()  # not on a signal: a thread may still wait for the other ranks


def _join() -> None:
    """Create the process group under a new name, since torchrun keeps one store across all restarts."""
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(rendezvous("env://", timeout=_JOINING))
    fresh = PrefixStore(f"prunecli/{_agreed_name(store, rank, size)}", store)
    distributed.init_process_group("gloo", store=fresh, rank=rank, world_size=size, timeout=_PATIENCE)


def _agreed_name(store: Store, rank: int, size: int) -> str:
    """Return a name that all ranks have agreed on, and that no earlier attempt has used.

    Every rank draws an id and publishes it; the name is made of all ids. It is agreed on when all ranks have seen the
    same ids. An earlier attempt cannot have seen them, since this attempt's ids did not exist then.
    """
    store.set(f"prunecli/id/{rank}", secrets.token_hex(8))
    latest = time.monotonic() + _JOINING.total_seconds()
    while time.monotonic() < latest:
        ids = b",".join(store.get(f"prunecli/id/{other}") for other in range(size))
        name = hashlib.blake2b(ids, digest_size=16).hexdigest()
        store.set(f"prunecli/{name}/{rank}", "seen")
        if store.check([f"prunecli/{name}/{other}" for other in range(size)]):
            return name
        time.sleep(0.02)
    raise RuntimeError("not all ranks joined")


@contextmanager
def _standard_output_aside() -> Iterator[None]:
    """Redirect standard output to standard error: gloo prints a greeting, and standard output is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
