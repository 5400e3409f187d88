"""Compressed records, unpacked into an unnamed file. torch.load reads them; general zip tools write them.

Unpacked records are read as if they followed the end of the file. In an output, all records are stored uncompressed,
as torch writes them.
"""

import os
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import IO

from prunecli.errors import DamagedError, UnreadableError, UnsafeError, UnsupportedError, raised_in, show
from prunecli.formats.io.source import FileSource, Source
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["inflate", "unpacking_limit"]

_PACKED, _SMALL = 100, 16 << 20
"""An archive may unpack to this many times its size, plus this many bytes. More is a zip bomb, or only zeros."""

_STEP = 1 << 20


@dataclass(frozen=True)
class _Inflated(FileSource):
    """A file followed by its unpacked records; no record crosses the boundary."""

    unpacked: FileSource

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: as for a file.
            UnreadableError: as for a file.
        """
        behind = self.size - self.unpacked.size
        if offset < behind:
            super().read_into(offset, buffer)
        else:
            self.unpacked.read_into(offset - behind, buffer)


def unpacking_limit(source: Source) -> int:
    """Return the most bytes to which the records of an archive may unpack, in proportion to the archive's size."""
    return _PACKED * source.size + _SMALL


def inflate(source: Source, directory: Directory) -> tuple[Source, Directory]:
    """Unpack an archive's compressed records; return a source that includes them, and its directory.

    torch itself compresses the code of a TorchScript program; if nothing else is compressed, it stays packed.

    Raises:
        UnsupportedError: the archive is not a file on this machine.
        UnsafeError: the unpacked records are far larger than the archive.
        DamagedError: a record cannot be unpacked, or contradicts the directory.
        UnreadableError: the temporary folder cannot hold the unpacked records.
    """
    packed = [record for record in directory.records if record.deflated]
    if all(record.name.partition("/")[2].startswith("code/") for record in packed):
        return source, directory
    if not isinstance(source, FileSource):
        raise UnsupportedError(f"{source.label} has compressed records, which are read from files only; fetch it first")
    limit = unpacking_limit(source)
    if sum(record.size for record in packed) > limit:
        raise UnsafeError(f"{source.label}: its compressed records unpack to more than {limit >> 20} MiB")
    with tempfile.TemporaryFile(prefix="prunecli-") as spool:
        places = dict(_unpack(source, packed, spool))
        descriptor = os.dup(spool.fileno())
    status = os.fstat(descriptor)
    unpacked = FileSource(descriptor, status.st_size, source.label, None, status)
    weakref.finalize(unpacked, os.close, descriptor)
    size = source.size + unpacked.size
    inflated = _Inflated(source.descriptor, size, source.label, source.name, source.status, unpacked)
    records = tuple(places.get(record.name, record) for record in directory.records)
    return inflated, Directory(records, directory.central, inflated=True)


def _unpack(source: FileSource, packed: list[Record], spool: IO[bytes]) -> Iterator[tuple[str, Record]]:
    at = 0
    for record in packed:
        where = f"{source.label}: record {show(record.name)}"
        crc, done = 0, 0
        with raised_in(where):
            for part in _inflated(source, record):
                crc = zlib.crc32(part, crc)
                done += len(part)
                _write(spool, part)
        if done != record.size or crc != record.crc:
            raise DamagedError(f"{where} is damaged; fetch the checkpoint again")
        yield (
            record.name,
            replace(
                record, offset=source.size + at, stored_size=record.size, deflated=False, packed_size=record.stored_size
            ),
        )
        at += record.size
    spool.flush()


def _inflated(source: Source, record: Record) -> Iterator[bytes]:
    """Yield a record's bytes in steps, at most one byte more than its stated size."""
    engine, at, room = zlib.decompressobj(-zlib.MAX_WBITS), 0, record.size + 1
    try:
        while room and not engine.eof:
            data = engine.unconsumed_tail
            if not data:
                data = source.read(record.offset + at, min(_STEP, record.stored_size - at))
                at += len(data)
            part = engine.decompress(data, min(_STEP, room))
            if not data and not part:
                break
            room -= len(part)
            yield part
    except zlib.error:
        raise DamagedError(f"{HERE} cannot be unpacked; fetch the checkpoint again") from None
    if not engine.eof or engine.unused_data or at < record.stored_size:
        raise DamagedError(f"{HERE} does not end where the zip directory says; fetch the checkpoint again")


def _write(spool: IO[bytes], part: bytes) -> None:
    try:
        spool.write(part)
    except OSError as error:
        raise UnreadableError(
            f"cannot unpack into {show(tempfile.gettempdir())}: {error.strerror}; set TMPDIR to a folder with room"
        ) from error
