"""What one process does of a spread rewrite: its units, one after the other, each synced and noted when it is done."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunecli.errors import PrunecliError
from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.pieces import Checksum
from prunecli.formats.io.sinks import FileSink, NullSink
from prunecli.formats.io.source import open_source
from prunecli.formats.io.stream import deferred, run_pieces, sum_up
from prunecli.formats.outputs.file import reserve_once, sync_path
from prunecli.formats.outputs.folder import output_errors
from prunecli.formats.outputs.passthrough import Carrier
from prunecli.formats.outputs.resumable import Partial
from prunecli.formats.outputs.system import sync
from prunecli.surgery.run.units import OutputFile, Unit, UnitCounts

__all__ = ["WorkerContext", "do_units", "look_at", "write_deferred"]

ByteProgress = Callable[[int], None] | None


@dataclass(frozen=True)
class WorkerContext:
    """Where a process works: the unfinished output that will be `path`, how many threads it has, whom it tells.

    With `link`, what comes along unchanged may be a hard link.
    """

    partial: Partial
    path: Path
    threads: int
    told: ByteProgress
    link: bool = False


def do_units(
    place: WorkerContext,
    units: Sequence[Unit],
    carried: Sequence[PassthroughFile],
    finished: Mapping[int, Mapping[str, Any]],
    ledger: UnitCounts,
) -> list[Mapping[str, Any]]:
    """Carry files along and do units, but for those that are `finished` and undamaged; return the entries of all.

    Raises:
        OutputError: the output cannot be written.
        DamagedError: the input's data contradict its checksums.
        UnreadableError: the input cannot be read.
    """
    partial, entries = place.partial, []
    carrier = Carrier(place.path, place.link, place.threads, place.told)
    try:
        with output_errors(place.path, partial.root), _UnitSyncer(partial) as settler:
            for file in carried:
                if partial.failed:
                    break
                carrier.carry(file, partial.place(file.name))
            for unit in units:
                if partial.failed:
                    break  # whoever failed says why
                entry = finished.get(unit.number)
                if entry is None or not _is_sound(unit, partial, entry):
                    entry = _do(unit, place, ledger)
                    settler.settle(unit, entry)
                elif place.told is not None:
                    place.told(unit.size)
                entries.append(entry)
    except PrunecliError:
        partial.announce_failure()
        raise
    return entries


class _UnitSyncer:
    """Syncs units that were written and notes them in the journal, while the next ones are being made."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prunecli-sync")
        self._last: Future[None] | None = None

    def __enter__(self) -> "_UnitSyncer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error nothing may write any more, as the folder is given up; a signal waits for no disk.
        self._pool.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=kind is not None)
        if kind is None and self._last is not None:
            self._last.result()

    def settle(self, unit: Unit, entry: Mapping[str, Any]) -> None:
        """Begin with a unit once the one before is settled: what is not synced yet stays less than two."""
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._settle, unit, entry)

    def _settle(self, unit: Unit, entry: Mapping[str, Any]) -> None:
        if unit.work.written:
            sync_path(self._partial.output / unit.work.name)
        self._partial.record_unit(unit.number, entry)


def _do(unit: Unit, workplace: WorkerContext, ledger: UnitCounts) -> dict[str, Any]:
    """Do a unit, and return what there is to note of it."""
    work, digest = unit.work, Checksum(0)
    if not work.written:
        look_at(unit, workplace.threads, workplace.told, ledger)
    else:
        place = workplace.partial.place(work.name)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            reserve_once(descriptor, work.size, workplace.path)
            sink = FileSink(descriptor)
            run_pieces(
                work.pieces,
                work.source,
                sink,
                jobs=workplace.threads,
                progress=workplace.told,
                span=unit.span,
                digest=digest,
                found=ledger.add,
            )
        finally:
            os.close(descriptor)
    return {**ledger.drain(work.name), "span": list(unit.span), "size": work.size, "crc32": digest.value}


def look_at(unit: Unit, threads: int, told: ByteProgress, ledger: UnitCounts) -> None:
    """Do a unit of a file that is not written."""
    work = unit.work
    run_pieces(work.pieces, work.source, NullSink(), jobs=threads, progress=told, span=unit.span, found=ledger.add)


def _is_sound(unit: Unit, partial: Partial, entry: Mapping[str, Any]) -> bool:
    """Whether a finished unit is in the file as the journal says: its size, and the digest of its bytes."""
    if (entry.get("file"), entry.get("span"), entry.get("size")) != (unit.work.name, list(unit.span), unit.work.size):
        return False
    if not unit.work.written:
        return True
    try:
        with open_source(partial.output / unit.work.name) as output:
            if output.size != unit.work.size:
                return False
            return sum_up(unit.work.pieces, output, unit.span) == entry.get("crc32")
    except PrunecliError:
        return False


def write_deferred(work: OutputFile, place: Path) -> None:
    """Write the fields of a file that depend on checksums, which several units may have summed, and set its mode."""
    descriptor = os.open(place, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, piece in deferred(work.pieces):
            os.pwrite(descriptor, piece.render(), offset)
        if work.mode is not None:
            os.fchmod(descriptor, work.mode)
        sync(descriptor)
    finally:
        os.close(descriptor)
