"""Passes over data while a plan is made: each step of the plan yields scans, which a `Scanner` carries out."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from prunecli.formats.base import Layout
from prunecli.formats.io.threads import default_jobs
from prunecli.lean import dataclass
from prunecli.surgery.data.block_task import run_tasks
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.data.scanned import BlockScan, ScanTask

__all__ = ["THIS_PROCESS", "Scanner", "Steps", "ThisProcess", "carry_out_steps"]

T = TypeVar("T")

Steps = Generator[Sequence[BlockScan], None, T]
"""A plan in the making: it yields the scans that it needs next, and returns its result."""


class Scanner(Protocol):
    """Carries scans out, in this process or in several."""

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return, in all processes, what the leading process makes."""

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        """Feed all blocks to the scans; those of the leading process then contain the sums of all processes."""


@dataclass(frozen=True)
class ThisProcess:
    """A scanner that uses the threads of this process; `given` are the masks and scores that scans read."""

    given: Given = NOTHING

    def from_leader(self, make: Callable[[], T]) -> T:
        return make()

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        run_tasks([ScanTask(scan, checkpoint, self.given) for scan in scans], checkpoint.source, default_jobs())


THIS_PROCESS: Scanner = ThisProcess()


def carry_out_steps(checkpoint: Layout, steps: Steps[T], scanner: Scanner) -> T:
    """Return the result of a plan's steps; all processes call this, and the leading one runs the steps."""

    def step() -> tuple[Sequence[BlockScan], T | None]:
        try:
            return next(steps), None
        except StopIteration as stop:
            return (), stop.value

    while True:
        scans, planned = scanner.from_leader(step)
        if planned is not None:
            return planned
        scanner.scan(checkpoint, scans)
