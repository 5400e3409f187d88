"""A rewrite cut into units of work, and what each of them adds to counts and checksums.

The cut depends on the files alone, not on the number of ranks: a unit that one run finished can be kept by another, and
what all units found, merged in any order, is what one pass would have found.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunecli.formats.io.pieces import Checksum, Copy, Generated, Piece
from prunecli.formats.io.stream import Span
from prunecli.formats.outputs.base import OutputFile
from prunecli.surgery.data.counts import Counts

__all__ = ["Unit", "UnitCounts", "assign_units", "split_into_units"]

_SMALLEST, _LARGEST = 64 << 20, 1 << 30
_UNITS = 64
"""About as many units as a large rewrite is cut into, if they do not become too small or too large by that."""

_VERIFYING = 4
"""How many times faster a finished unit is verified than made, about."""


@dataclass(frozen=True, eq=False)
class Unit:
    """A part of one file, done by one rank in one go; `number` names it in the journal."""

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
    """Give each rank neighbouring units, of about as many bytes as the others get."""
    weights = [unit.size // (_VERIFYING if unit.number in finished else 1) + 1 for unit in units]
    shares: list[list[Unit]] = [[] for _ in range(ranks)]
    total, before = sum(weights), 0
    for unit, weight in zip(units, weights, strict=True):
        shares[min((before + weight // 2) * ranks // total, ranks - 1)].append(unit)
        before += weight
    return shares


class UnitCounts:
    """The counts and checksums of a run, drained unit by unit and merged again, in this process or another.

    An entry is JSON data: it goes into the journal, and from rank to rank.
    """

    def __init__(self, counts: Counts, files: Sequence[OutputFile]) -> None:
        self._counts = counts
        self._checksums = {file.name: list(_checksums(file.pieces)) for file in files}

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add what a content found."""
        self._counts.add(found)

    def drain(self, file: str) -> dict[str, Any]:
        """Return what has been counted since the last time, all of it in one file."""
        sums = [checksum.drain() for checksum in self._checksums[file]]
        return {
            "file": file,
            "counts": self._counts.drain() or {},
            "sums": {str(place): drained for place, drained in enumerate(sums) if drained is not None},
        }

    def merge(self, entry: Mapping[str, Any]) -> None:
        """Add what was drained.

        Raises:
            DamagedError: that completes a checksum, and it is wrong.
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
