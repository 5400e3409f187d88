"""The processes that share a piece of work: one alone, or the ranks that a launcher such as torchrun started.

Every rank runs the same program. Masks need no communication, being functions of (seed, name); what the ranks tell each
other is the plan, and at the end what each has counted.
"""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from prunecli.errors import OutputError, PeerError, PrunecliError, UsageError

__all__ = ["ALONE", "Alone", "Team", "team_of_launcher"]

T = TypeVar("T")

_PATIENCE = timedelta(days=30)
"""How long ranks wait for each other: the largest share of the work takes as long as it takes."""


class Team(ABC):
    """The ranks of a run. The first, rank 0, leads: it plans, commits and speaks."""

    rank: int
    size: int
    restarts: int = 0
    """How often the launcher has started this run again."""
    restartable: bool = False
    """Whether the launcher may start it again, should a rank be lost."""

    @property
    def leads(self) -> bool:
        """Whether this is the rank that plans, commits and speaks."""
        return self.rank == 0

    @abstractmethod
    def share(self, make: Callable[[], T]) -> T:
        """Let the leader make something and give it to all.

        Raises:
            PrunecliError: what the leader raised; on the other ranks a `PeerError`.
            OutputError: a rank was lost.
        """

    @abstractmethod
    def gather(self, make: Callable[[], T]) -> list[T]:
        """Let every rank make something and give all of it to the leader, in the order of the ranks.

        The other ranks get an empty list.

        Raises:
            PrunecliError: what `make` raised here; or a `PeerError`, if it did elsewhere.
            OutputError: a rank was lost.
        """

    def each(self, make: Callable[[], T]) -> T:
        """Let every rank make something of its own; all fail if one does, raising what `gather` raises."""
        made: list[T] = []
        self.gather(lambda: made.append(make()))
        return made[0]


class Alone(Team):
    """One process."""

    rank = 0
    size = 1

    def share(self, make: Callable[[], T]) -> T:
        """Make it."""
        return make()

    def gather(self, make: Callable[[], T]) -> list[T]:
        """Make it."""
        return [make()]


ALONE = Alone()
"""What all functions take who is not told otherwise."""


class _Ranks(Team):
    """The ranks of a process group of torch.distributed. What they send each other is made by themselves."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.restarts = _number("TORCHELASTIC_RESTART_COUNT")
        self.restartable = _number("TORCHELASTIC_MAX_RESTARTS") > 0

    def share(self, make: Callable[[], T]) -> T:
        """Let the leader make it, and broadcast it."""
        from torch import distributed

        made: list[Any] = [None, None]
        failure: PrunecliError | None = None
        if self.leads:
            try:
                made[0] = make()
            except PrunecliError as error:
                failure, made[1] = error, error.exit_code
        with _noticing_losses():
            distributed.broadcast_object_list(made, src=0)
        if failure is not None:
            raise failure
        if made[1] is not None:
            raise PeerError(made[1])
        value: T = made[0]
        return value

    def gather(self, make: Callable[[], T]) -> list[T]:
        """Let every rank make it; codes of failures go to all, what was made to the leader."""
        from torch import distributed

        made: T | None = None
        failure: PrunecliError | None = None
        try:
            made = make()
        except PrunecliError as error:
            failure = error
        codes: list[Any] = [None] * self.size
        with _noticing_losses():
            distributed.all_gather_object(codes, None if failure is None else failure.exit_code)
        if failure is not None:
            raise failure
        for code in codes:
            if code is not None:
                raise PeerError(code)
        gathered: list[Any] | None = [None] * self.size if self.leads else None
        with _noticing_losses():
            distributed.gather_object(made, gathered, dst=0)
        return gathered or []


def _number(variable: str) -> int:
    text = os.environ.get(variable, "0")
    return int(text) if text.isdecimal() else 0


@contextmanager
def _noticing_losses() -> Iterator[None]:
    """Say in our words what torch.distributed raises when a rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise OutputError("another rank was lost in the middle; run it again, with --resume") from error


@contextmanager
def team_of_launcher() -> Iterator[Team]:
    """Join the ranks that the environment names, as torchrun sets it; alone without a launcher.

    Raises:
        UsageError: the environment names ranks, but they cannot be joined.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1" or "RANK" not in os.environ:
        yield ALONE
        return
    from torch import distributed

    with _standard_output_aside():
        try:
            distributed.init_process_group("gloo", init_method="env://", timeout=_PATIENCE)
        except (RuntimeError, ValueError) as error:
            raise UsageError(
                f"WORLD_SIZE is {size}, but the ranks cannot be joined ({str(error).splitlines()[0]}); start all of "
                "them with torchrun, or unset WORLD_SIZE"
            ) from error
    try:
        yield _Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


@contextmanager
def _standard_output_aside() -> Iterator[None]:
    """Send standard output to standard error: gloo greets there, and standard output is for data."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
