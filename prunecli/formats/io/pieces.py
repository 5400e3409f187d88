"""An output file as a list of pieces, each of known length, so that any thread can make any of them at any time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.errors import DamagedError
from prunecli.formats.crc import combine, crc32

__all__ = [
    "CHUNK",
    "Checksum",
    "Content",
    "Copy",
    "CrcRun",
    "Deferred",
    "Generated",
    "Literal",
    "Outcome",
    "Piece",
    "summed",
]

CHUNK = 4 << 20
"""Bytes handled at a time where a piece has no wish of its own."""


class Outcome(NamedTuple):
    """What a content did: whether any of the bytes may have changed, and what it found, if anything."""

    changed: bool
    found: Any = None


class Content(Protocol):
    """What fills a piece, or looks at it on its way. Called from several threads, for disjoint ranges."""

    @property
    def block(self) -> int:
        """Bytes to cut the piece at: a call never spans a multiple of it."""

    @property
    def workspace(self) -> Callable[[], Any]:
        """What makes the memory that a thread works in; called once a thread, for all contents that share it."""

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Any) -> Outcome:
        """Edit (or make) the piece's bytes from `start` on, in place."""


CrcRun = tuple[int, int, int]
"""A run of a record: where it begins, its CRC-32, and its length."""


class Checksum:
    """The CRC-32 of a record, folded from its runs in whatever order they come; not for several threads at once.

    With `expected`, the record's bytes are checked as soon as all of them have been seen.
    """

    __slots__ = ("_expected", "_label", "_length", "_parts", "_seen")

    def __init__(self, length: int, expected: int | None = None, label: str = "") -> None:
        self._length = length
        self._expected = expected
        self._label = label
        self._parts: dict[int, tuple[int, int]] = {}
        self._seen = 0

    def add(self, found: CrcRun) -> None:
        """Add a run; one that is known already changes nothing.

        Raises:
            DamagedError: that completes the record, and it is not the one that was written.
        """
        start, crc, length = found
        if not length or start in self._parts:  # without bytes, it would stand at the start of its neighbour
            return
        self._parts[start] = (crc, length)
        self._seen += length
        if self.ready and self._expected is not None and self.value != self._expected:
            raise DamagedError(
                f"{self._label} is damaged: its CRC-32 is {self.value:08x}, recorded was {self._expected:08x}; "
                "fetch the checkpoint again"
            )

    def drain(self) -> list[CrcRun] | None:
        """Return the runs that were added, neighbours as one, and start anew; None if there were none."""
        parts, self._parts, self._seen = self._parts, {}, 0
        runs: list[CrcRun] = []
        for start, (crc, length) in sorted(parts.items()):
            if runs and sum(runs[-1][::2]) == start:
                first, before, count = runs.pop()
                runs.append((first, combine(before, crc, length), count + length))
            else:
                runs.append((start, crc, length))
        return runs or None

    def merge(self, drained: Iterable[Iterable[int]]) -> None:
        """Add the runs that another checksum of the record returned from `drain`.

        Raises:
            DamagedError: as `add`.
        """
        for start, crc, length in drained:
            self.add((start, crc, length))

    @property
    def ready(self) -> bool:
        """Whether all of the record has been seen."""
        return self._seen == self._length

    @property
    def value(self) -> int:
        """The CRC-32 of the whole record."""
        crc = 0
        for _, (part, length) in sorted(self._parts.items()):
            crc = combine(crc, part, length)
        return crc


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """Bytes known beforehand: headers, a new pickle, padding."""

    data: bytes

    @property
    def length(self) -> int:
        """Bytes in the output."""
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A run of the source, passed through `content` where there is one.

    `before` checks what was read, `after` sums what is written, both counted from `record_start` of their record.
    """

    offset: int
    length: int
    content: Content | None = None
    before: Checksum | None = None
    after: Checksum | None = None
    record_start: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A run that the source does not have: a new mask. `after` is that of `Copy`."""

    length: int
    content: Content
    after: Checksum | None = None
    record_start: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """Bytes that depend on checksums of earlier pieces: `render` may be called once all of `needs` are ready."""

    length: int
    render: Callable[[], bytes]
    needs: Sequence[Checksum] = field(default=())

    @property
    def ready(self) -> bool:
        """Whether everything that it depends on has been written."""
        return all(checksum.ready for checksum in self.needs)


Piece = Literal | Copy | Generated | Deferred


def summed(pieces: Iterable[Piece], after: Checksum) -> Iterator[Piece]:
    """Return the pieces of a whole record so that `after` sums them; none of them may be deferred."""
    at = 0
    for piece in pieces:
        if isinstance(piece, Copy | Generated):
            yield replace(piece, after=after, record_start=at)
        else:
            if isinstance(piece, Literal):
                after.add((at, crc32(piece.data), piece.length))
            yield piece
        at += piece.length
