"""Lay records out exactly as torch.save does, so that loaders that compute offsets find them.

torch's writer is miniz with padding added: local headers without sizes, an `FB` extra field that moves every payload
to a multiple of 64, a data descriptor after every payload, and always zip64 end records. If there is a
`.format_version` record, torch computes storage offsets from this layout instead of reading them
(`torch/serialization.py`, `_get_offset`).
"""

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property, partial

from prunecli.formats.io.pieces import Checksum, Deferred, Literal, Piece, summed
from prunecli.lean import dataclass

__all__ = ["ALIGNMENT", "NewRecord", "lay_out"]

ALIGNMENT = 64
_MAX32 = 0xFFFFFFFF
_UTF8, _HAS_DESCRIPTOR = 0x0800, 0x0008


@dataclass(frozen=True)
class NewRecord:
    """A record to write: its name, and the pieces of its payload."""

    name: str
    pieces: Sequence[Piece]

    @cached_property
    def size(self) -> int:
        """The size of the payload in bytes."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class _Placed:
    record: NewRecord
    header: int
    checksum: Checksum

    @property
    def flags(self) -> int:
        return _UTF8 | (_HAS_DESCRIPTOR if self.record.size else 0)


def lay_out(records: Sequence[NewRecord], alignment: int = ALIGNMENT) -> Iterator[Piece]:
    """Yield the pieces of a whole archive, uncompressed, in torch's layout."""
    at = 0
    placed = []
    for record in records:
        entry = _Placed(record, at, Checksum(record.size))
        placed.append(entry)
        header = _local_header(entry, alignment)
        yield Literal(header)
        yield from summed(record.pieces, entry.checksum)
        descriptor = _descriptor_length(entry)
        if descriptor:
            yield Deferred(descriptor, partial(_descriptor, entry), (entry.checksum,))
        at += len(header) + record.size + descriptor
    yield from _directory(placed, at)


def _local_header(entry: _Placed, alignment: int) -> bytes:
    name = entry.record.name.encode("utf-8")
    wide = b""
    if entry.record.size >= _MAX32:
        wide += struct.pack("<QQ", entry.record.size, 0)
    if entry.header >= _MAX32:
        wide += struct.pack("<Q", entry.header)
    if wide:
        wide = struct.pack("<HH", 1, len(wide)) + wide
    fixed = 30 + len(name) + len(wide) + 4
    padding = -(entry.header + fixed) % alignment
    extra = wide + struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    fields = (b"PK\x03\x04", 0, entry.flags, 0, 0, 0, 0, 0, 0, len(name), len(extra))
    return struct.pack("<4s5H3L2H", *fields) + name + extra


def _descriptor_length(entry: _Placed) -> int:
    if not entry.record.size:
        return 0
    return 24 if entry.header >= _MAX32 or entry.record.size >= _MAX32 else 16


def _descriptor(entry: _Placed) -> bytes:
    layout = "<4sLLL" if _descriptor_length(entry) == 16 else "<4sLQQ"
    return struct.pack(layout, b"PK\x07\x08", entry.checksum.value, entry.record.size, entry.record.size)


def _central_header(entry: _Placed) -> bytes:
    name, size, header = entry.record.name.encode("utf-8"), entry.record.size, entry.header
    wide = b""
    if size >= _MAX32:
        wide += struct.pack("<QQ", size, size)
    if header >= _MAX32:
        wide += struct.pack("<Q", header)
    if wide:
        wide = struct.pack("<HH", 1, len(wide)) + wide
    short, at = min(size, _MAX32), min(header, _MAX32)
    crc = entry.checksum.value if size else 0
    fields = (b"PK\x01\x02", 0, 0, entry.flags, 0, 0, 0, crc, short, short, len(name), len(wide), 0, 0, 0, 0, at)
    return struct.pack("<4s6H3L5H2L", *fields) + name + wide


def _directory(placed: Sequence[_Placed], start: int) -> Iterator[Piece]:
    length = 0
    for entry in placed:
        header_length = 46 + len(entry.record.name.encode("utf-8")) + _wide_length(entry)
        needs = (entry.checksum,) if entry.record.size else ()
        yield Deferred(header_length, partial(_central_header, entry), needs)
        length += header_length
    count = len(placed)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, count, count, length, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, start + length, 1)
    short = min(count, 0xFFFF)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, short, short, min(length, _MAX32), min(start, _MAX32), 0)
    yield Literal(end64 + locator + end)


def _wide_length(entry: _Placed) -> int:
    wide = 16 * (entry.record.size >= _MAX32) + 8 * (entry.header >= _MAX32)
    return wide + 4 if wide else 0
