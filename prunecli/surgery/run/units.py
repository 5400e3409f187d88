"""The units of work of a rewrite, and what each of them adds to counts and checksums.

The division depends only on the files, not on the number of ranks, so another run can reuse a finished unit. The
results of all units, merged in any order, equal those of a single pass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prunecli.formats.io.pieces import Checksum, Copy, Generated, Piece
from prunecli.formats.io.stream import Span
from prunecli.formats.outputs.base import OutputFile
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counts

__all__ = ["Unit", "UnitCounts", "assign_units", "split_into_units"]

_SMALLEST, _LARGEST = 64 << 20, 1 << 30
_UNITS = 64
"""The approximate number of units of a large rewrite, unless that makes them too small or too large."""

_VERIFYING = 4
"""Roughly how many times faster it is to verify a finished unit than to make it."""


@dataclass(frozen=True, eq=False)
class Unit:
    """A part of one file, processed by one rank in one go; `number` identifies it in the journal."""

    number: int
    file: OutputFile
    span: Span
    size: int


def split_into_units(files: Sequence[OutputFile]) -> list[Unit]:
    """Return the units of files, in order."""
    sizes = [file.size for file in files]
    step = min(max(sum(sizes) // _UNITS, _SMALLEST), _LARGEST)
    units: list[Unit] = []
    for file, size in zip(files, sizes, strict=True):
        for start in range(0, max(size, 1), step):
            units.append(Unit(len(units), file, (start, min(start + step, max(size, 1))), min(step, size - start)))
    return units


def assign_units(units: Sequence[Unit], finished: Mapping[int, object], ranks: int) -> list[list[Unit]]:
    """Return the units of each rank: consecutive ones, with about equal work for all ranks."""
    weights = [unit.size // (_VERIFYING if unit.number in finished else 1) + 1 for unit in units]
    shares: list[list[Unit]] = [[] for _ in range(ranks)]
    total, before = sum(weights), 0
    for unit, weight in zip(units, weights, strict=True):
        shares[min((before + weight // 2) * ranks // total, ranks - 1)].append(unit)
        before += weight
    return shares


class UnitCounts:
    """The counts and checksums of a run, drained after each unit and merged again, in this process or another.

    An entry is JSON data: it is written to the journal and sent between ranks.
    """

    def __init__(self, counts: Counts, files: Sequence[OutputFile]) -> None:
        self._counts = counts
        self._checksums = {file.name: list(_checksums(file.pieces)) for file in files}

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add the results of a content."""
        self._counts.add(found)

    def drain(self, file: str) -> dict[str, Any]:
        """Return everything counted since the last call, all of it in one file."""
        sums = [checksum.drain() for checksum in self._checksums[file]]
        return {
            "file": file,
            "counts": self._counts.drain() or {},
            "sums": {str(place): drained for place, drained in enumerate(sums) if drained is not None},
        }

    def merge(self, entry: Mapping[str, Any]) -> None:
        """Add a drained entry.

        Raises:
            DamagedError: the entry completes a checksum, and the checksum is wrong.
        """
        self._counts.merge(entry["counts"])
        for place, drained in entry["sums"].items():
            self._checksums[entry["file"]][int(place)].merge(drained)


def _checksums(pieces: Sequence[Piece]) -> Iterator[Checksum]:
    """Yield every checksum of a file once, in order."""
    seen: set[int] = set()
    for piece in pieces:
        for checksum in _of(piece):
            if checksum is not None and id(checksum) not in seen:
                seen.add(id(checksum))
                yield checksum


def _of(piece: Piece) -> tuple[Checksum | None, ...]:
    if isinstance(piece, Copy):
        return piece.before, piece.after
    return (piece.after,) if isinstance(piece, Generated) else ()
