"""The share of one process in a rewrite in units: each unit is synced and recorded when it is done."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.pieces import Checksum
from prunecli.formats.io.sinks import NullSink, Sink
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.outputs.base import Transfer, sink_of
from prunecli.formats.outputs.unit_files import UnitWriter
from prunecli.lean import dataclass
from prunecli.surgery.run.spread import Entry
from prunecli.surgery.run.units import Unit, UnitCounts

__all__ = ["Share", "do_share", "look_at"]


@dataclass(frozen=True)
class Share:
    """The work of one process: units, some of them already `finished` (by number), and passthrough files."""

    units: Sequence[Unit]
    passthrough: Sequence[PassthroughFile]
    finished: Mapping[int, Entry]

    @property
    def bytes(self) -> int:
        """The total number of bytes."""
        return sum(unit.size for unit in self.units) + sum(file.size for file in self.passthrough)


def do_share(share: Share, writer: UnitWriter, transfer: Transfer, counts: UnitCounts) -> list[Entry]:
    """Return the entries of all units, after doing those that are not finished or are damaged.

    Raises:
        OutputError, OSError: the output cannot be written.
        DamagedError: the input's data contradict its checksums.
        UnreadableError: the input cannot be read.
    """
    partial = writer.partial
    entries: list[Entry] = []
    with _UnitSyncer(writer) as syncer:
        for file in share.passthrough:
            if partial.failed:
                break
            writer.keep(file)
        for unit in share.units:
            if partial.failed:
                break  # the process that failed reports why
            entry = share.finished.get(unit.number)
            if entry is not None and _is_sound(unit, writer, entry):
                transfer.count(unit.size)
            else:
                entry = _do(unit, writer, transfer, counts)
                syncer.finish(unit, entry)
            entries.append(entry)
    return entries


class _UnitSyncer:
    """Syncs written units and records them in the journal, while the next ones are being made."""

    def __init__(self, writer: UnitWriter) -> None:
        self._writer = writer
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prunecli-sync")
        self._last: Future[None] | None = None

    def __enter__(self) -> "_UnitSyncer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error nothing may write any more, since the folder is given up; a signal does not wait for the disk.
        self._pool.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=kind is not None)
        if kind is None and self._last is not None:
            self._last.result()

    def finish(self, unit: Unit, entry: Entry) -> None:
        """Begin to sync a unit once the previous one is synced, so that less than two units are unsynced."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._writer.finish_unit, unit.number, unit.file, entry)


def _do(unit: Unit, writer: UnitWriter, transfer: Transfer, counts: UnitCounts) -> Entry:
    """Make a unit, and return its entry in the journal."""
    file, digest = unit.file, Checksum(0)
    with sink_of(writer, file) as sink:
        _run(unit, sink, transfer, counts.add, digest if file.changes else None)
    return {**counts.drain(file.name), "span": list(unit.span), "size": file.size, "crc32": digest.value}


def look_at(unit: Unit, transfer: Transfer, add: Callable[[Any], None]) -> None:
    """Read a unit without writing it, and pass the results of its contents to `add`."""
    _run(unit, NullSink(), transfer, add, None)


def _run(unit: Unit, sink: Sink, transfer: Transfer, add: Callable[[Any], None], digest: Checksum | None) -> None:
    run_pieces(
        unit.file.pieces,
        unit.file.source,
        sink,
        jobs=transfer.threads,
        progress=transfer.progress,
        span=unit.span,
        digest=digest,
        found=add,
    )


def _is_sound(unit: Unit, writer: UnitWriter, entry: Entry) -> bool:
    """Whether the file contains a finished unit as the journal records it."""
    expected = unit.file.name, list(unit.span), unit.file.size
    recorded = tuple(entry.get(field) for field in ("file", "span", "size"))
    return recorded == expected and writer.is_sound(unit.file, unit.span, entry.get("crc32"))
