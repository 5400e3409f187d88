"""Passes over data while a plan is made: planned in steps, each carried out by whoever shares the work."""

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

from prunecli.formats.base import Layout
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import default_jobs, run_pieces
from prunecli.surgery.data.scanned import BlockScan, add_found, scan_pieces

__all__ = ["THIS_PROCESS", "Scanner", "Steps", "carry_out_steps"]

T = TypeVar("T")

Steps = Generator[Sequence[BlockScan], None, T]
"""A plan in the making: it yields the scans that it needs next, and returns what is planned."""


class Scanner(Protocol):
    """Carries scans out, in this process or in several."""

    def from_leader(self, make: Callable[[], T]) -> T:
        """Let the process that plans make something, and return it in all of them."""

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        """Let the scans see all blocks; those of the process that plans have added everything up."""


class _ThisProcess:
    """Threads of this process."""

    def from_leader(self, make: Callable[[], T]) -> T:
        return make()

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        pieces = scan_pieces(scans, checkpoint)
        run_pieces(pieces, checkpoint.source, NullSink(), jobs=default_jobs(), found=add_found)


THIS_PROCESS: Scanner = _ThisProcess()


def carry_out_steps(checkpoint: Layout, steps: Steps[T], scanner: Scanner) -> T:
    """Go through the steps of a plan, and return it; all processes do so, and the steps are taken in one of them."""

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
