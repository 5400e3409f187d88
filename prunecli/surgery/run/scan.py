"""Scans carried out by the threads and ranks of a run."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from prunecli.formats.base import Layout
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.outputs.base import OutputFile
from prunecli.surgery.data.scanned import BlockScan, add_found, scan_pieces
from prunecli.surgery.run.resume import Run
from prunecli.surgery.run.units import assign_units, split_into_units

__all__ = ["RunScanner"]

T = TypeVar("T")


@dataclass(frozen=True)
class RunScanner:
    """Carries out scans with the threads and ranks of a run: each rank reads its share, and the leader adds them up."""

    run: Run

    def from_leader(self, make: Callable[[], T]) -> T:
        """Return, on all ranks, what the leader makes."""
        return self.run.ranks.from_leader(make)

    def scan(self, checkpoint: Layout, scans: Sequence[BlockScan]) -> None:
        """Feed all blocks to the scans."""
        own = [replace(scan, scan=copy.deepcopy(scan.scan)) for scan in scans]
        pieces = scan_pieces(own, checkpoint)
        file = OutputFile("", pieces, checkpoint.source, changes=False)
        units = assign_units(split_into_units([file]), {}, self.run.ranks.size)[self.run.ranks.rank]
        transfer = self.run.transfer(sum(unit.size for unit in units))

        def look() -> list[Any]:
            for unit in units:
                run_pieces(
                    pieces,
                    checkpoint.source,
                    NullSink(),
                    jobs=transfer.threads,
                    progress=transfer.progress,
                    span=unit.span,
                    found=add_found,
                )
            return [scan.scan.drain() for scan in own]

        for entries in self.run.ranks.to_leader(look):
            for scan, drained in zip(scans, entries, strict=True):
                if drained is not None:
                    scan.scan.merge(drained)
