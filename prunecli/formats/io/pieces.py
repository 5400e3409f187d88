"""An output file as a list of pieces of known lengths, so that any thread can make any piece at any time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prunecli.errors import DamagedError, show
from prunecli.formats.crc import combine, crc32
from prunecli.lean import dataclass

if TYPE_CHECKING:  # listing parameters needs no numpy, which takes as long as all else of a command's start
    import numpy as np
    from numpy.typing import NDArray

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
    "WholeBlocks",
    "join_run",
    "summed",
]

CHUNK = 2 << 20
"""Bytes processed at a time if a piece does not specify another number."""


class Outcome(NamedTuple):
    """The result of a content: whether any of the bytes may have changed, and what it found, if anything.

    `crc` is the CRC-32 of the bytes as the content left them, if it has computed that.
    """

    changed: bool
    found: Any = None
    crc: int | None = None


class Content(Protocol):
    """An object that fills, edits or examines a piece. Several threads call it, for disjoint ranges."""

    @property
    def block(self) -> int:
        """The size in bytes at whose multiples the piece is cut: a call never crosses a multiple of it."""

    @property
    def workspace(self) -> Callable[[], Any]:
        """The function that makes a thread's workspace; called once per thread, for all contents with this function."""

    def fill(self, data: "NDArray[np.uint8]", start: int, workspace: Any) -> Outcome:
        """Edit or make the piece's bytes from `start` on, in place in `data`."""


class WholeBlocks:
    """The content of pieces that are only to be cut in blocks of some size: their source decodes it at once."""

    __slots__ = ("block",)

    workspace = staticmethod(lambda: None)

    def __init__(self, block: int) -> None:
        self.block = block

    def fill(self, data: "NDArray[np.uint8]", start: int, workspace: Any) -> Outcome:
        """Leave the bytes as they are."""
        return Outcome(False)


CrcRun = tuple[int, int, int]
"""A run of a record: its start, its CRC-32, and its length."""


def join_run(runs: list[CrcRun], found: CrcRun) -> None:
    """Add a run to others; if it begins where the last one ends, they become one."""
    start, crc, length = found
    if runs and sum(runs[-1][::2]) == start:
        first, before, count = runs.pop()
        found = (first, combine(before, crc, length), count + length)
    runs.append(found)


class Checksum:
    """The CRC-32 of a record, combined from its runs, which may come in any order. It is not thread-safe.

    With `expected`, the CRC-32 is checked as soon as the whole record has been added. In messages, the record is the
    one named `record` in what `label` names, or all of that.
    """

    __slots__ = ("_expected", "_first", "_label", "_length", "_record", "_rest", "_seen")

    def __init__(self, length: int, expected: int | None = None, label: str = "", record: str = "") -> None:
        self._length = length
        self._expected = expected
        self._label, self._record = label, record  # joined in messages only: there may be very many records
        self._first: CrcRun | int | None = None
        """The run that was added first; only its CRC-32 if it is the whole record, as in most of very many records."""
        self._rest: dict[int, CrcRun] | None = None
        """The other runs by their starts."""
        self._seen = 0

    def add(self, found: CrcRun) -> None:
        """Add a run; a run that was added before changes nothing.

        Raises:
            DamagedError: the run completes the record, and its CRC-32 is not the expected one.
        """
        start, crc, length = found
        if not length:  # it would have the same start as its neighbour
            return
        if self._first is None:
            self._first = crc if length == self._length else found
        elif start == (0 if isinstance(self._first, int) else self._first[0]) or start in (self._rest or ()):
            return
        else:
            self._rest = self._rest or {}
            self._rest[start] = found
        self._seen += length
        if self.ready and self._expected is not None and self.value != self._expected:
            named = f"{self._label}: record {show(self._record)}" if self._record else self._label
            raise DamagedError(
                f"{named} is damaged: its CRC-32 is {self.value:08x}, recorded was {self._expected:08x}; "
                "fetch the checkpoint again"
            )

    def drain(self) -> list[CrcRun] | None:
        """Return the added runs, with neighbours joined, and reset the checksum; None if there were none."""
        added = self._runs()
        self._first, self._rest, self._seen = None, None, 0
        runs: list[CrcRun] = []
        for run in added:
            join_run(runs, run)
        return runs or None

    def merge(self, drained: Iterable[Iterable[int]]) -> None:
        """Add the runs that `drain` returned for another checksum of the same record.

        Raises:
            DamagedError: as for `add`.
        """
        for start, crc, length in drained:
            self.add((start, crc, length))

    @property
    def ready(self) -> bool:
        """Whether the whole record has been added."""
        return self._seen == self._length

    @property
    def value(self) -> int:
        """The CRC-32 of the whole record."""
        if isinstance(self._first, int):
            return self._first
        crc = 0
        for _, part, length in self._runs():
            crc = combine(crc, part, length)
        return crc

    def stored(self) -> bytes:
        """Return the CRC-32 of the whole record as zip archives store it, little-endian."""
        return self.value.to_bytes(4, "little")

    def _runs(self) -> list[CrcRun]:
        """Return the added runs in order."""
        if self._first is None:
            return []
        first = (0, self._first, self._length) if isinstance(self._first, int) else self._first
        return sorted([first, *self._rest.values()]) if self._rest else [first]


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """Bytes known beforehand: headers, a new pickle, padding."""

    data: bytes

    @property
    def length(self) -> int:
        """The size in bytes in the output."""
        return len(self.data)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """A run of the source, edited or examined by `content` if there is one.

    `before` checks the bytes read, `after` sums the bytes written; the run begins at `record_start` in their record.
    """

    offset: int
    length: int
    content: Content | None = None
    before: Checksum | None = None
    after: Checksum | None = None
    record_start: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A run of new bytes that `content` makes, such as a new mask. `after` is as in `Copy`."""

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
        """Whether all checksums that it depends on are complete."""
        return all(checksum.ready for checksum in self.needs)


Piece = Literal | Copy | Generated | Deferred


def summed(pieces: Iterable[Piece], after: Checksum) -> Iterator[Piece]:
    """Yield the pieces of a whole record so that `after` sums them; none of them may be `Deferred`."""
    at = 0
    for piece in pieces:
        if isinstance(piece, Copy | Generated):
            yield replace(piece, after=after, record_start=at)
        else:
            if isinstance(piece, Literal):
                after.add((at, crc32(piece.data), piece.length))
            yield piece
        at += piece.length
