"""Scans carried out by the threads and ranks of a run."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prunecli.formats.base import Layout
from prunecli.formats.outputs.base import OutputFile
from prunecli.lean import dataclass
from prunecli.surgery.data.block_task import add_found, pieces_of
from prunecli.surgery.data.kept import NOTHING, Given
from prunecli.surgery.data.scanned import BlockScan, ScanTask
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.resume import read_by_ranks

__all__ = ["RunScanner"]

T = TypeVar("T")


@dataclass(frozen=True)
class RunScanner:
    """Carries out scans with the threads and ranks of a run: each rank reads its share, and the leader adds them up.

    `given` are the masks and scores for scans that read them.
    """

    run: Run
    given: Given = NOTHING

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return, on all ranks, what the leader makes."""
        return self.run.ranks.from_leader(make)

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        """Feed all blocks to the scans."""

        def drain() -> list[Any]:
            # The scans of a single process already have all sums.
            return [scan.scan.drain() for scan in scans] if self.run.ranks.size > 1 else []

        tasks = [ScanTask(scan, checkpoint, self.given) for scan in scans]
        file = OutputFile("", pieces_of(tasks), checkpoint.source, changes=False)
        for entries in read_by_ranks([file], self.run, add_found, drain):
            for scan, drained in zip(scans, entries, strict=False):
                if drained is not None:
                    scan.scan.merge(drained)
