"""Read a zip's directory strictly: refuse anything that two readers could understand differently.

The format is that of PKWARE's APPNOTE 6.3. Python's zipfile is too lenient here: it skips leading junk, takes the last
of two equal names, and never compares local headers. A checkpoint that two loaders read differently is a trap.
"""

import struct
from collections.abc import Iterator, Mapping
from functools import cached_property

from prunecli.errors import DamagedError, UnsupportedError, raised_in, show
from prunecli.formats.io.source import Source, in_source
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["Directory", "Record", "read_directory"]

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_HAS_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_LEVEL = 0x0006
"""The flags for the compression level of a deflated record; without a meaning for a stored one."""

_IS_FOLDER = 0x10
_DESCRIPTOR = 24
_PADDING = 128
"""The expected size of the extra fields in a local header, in bytes: torch aligns payloads to 64."""

_SMALL = 4096
"""The most bytes of a record that is read whole with its header: of very many tensors, each read has its price."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the archive. All offsets are in the file; `entry` is that of its header in the central directory.

    `packed_size` is the size in the file of a record that was unpacked for reading, None for all others.
    """

    name: str
    header: int
    offset: int
    size: int
    stored_size: int
    crc: int
    deflated: bool
    stop: int
    entry: int
    packed_size: int | None = None

    @property
    def crc_places(self) -> tuple[int, int]:
        """The offsets of its CRC-32 (4 bytes each): in its descriptor or local header, and in the directory."""
        behind = self.offset + self.stored_size
        return (behind if behind < self.stop else self.header + 10) + 4, self.entry + 16


@dataclass(frozen=True)
class Directory:
    """All records, in the order of the file, and the offset of the central directory (`central`).

    `inflated` means that some records are compressed in the file and were unpacked, so that an output needs a new
    layout.
    """

    records: tuple[Record, ...]
    central: int
    inflated: bool = False

    @cached_property
    def by_name(self) -> Mapping[str, Record]:
        """The records by name. Names are unique."""
        return {record.name: record for record in self.records}


@in_source
def read_directory(source: Source) -> Directory:
    """Return the whole directory, read and checked.

    Raises:
        DamagedError: it is missing, or its parts contradict each other.
        UnsupportedError: it uses encryption, a compression other than deflate, or several disks.
    """
    start, length, count = _find_central(source)
    central = source.read(start, length)
    source.prefetch(_headers(central))
    records, at = [], 0
    for _ in range(count):
        if at + _CENTRAL.size > length:
            raise DamagedError(f"{source.label}: its zip directory ends early; the file is damaged")
        record, at = _record(source, central, at, start)
        records.append(record)
    if at != length:
        raise DamagedError(f"{source.label}: its zip directory holds more than the {count} records it states")
    records.sort(key=lambda record: record.header)
    _check_places(source, records, start)
    return Directory(tuple(records), start)


def _find_central(source: Source) -> tuple[int, int, int]:
    """Return the offset of the central directory, its length, and its number of records."""
    if source.size < _END.size:
        raise DamagedError(f"{source.label} is too short for a zip file; it is truncated")
    end_at = source.size - _END.size
    magic, disk, start_disk, here, count, length, start, comment = _END.unpack(source.read(end_at, _END.size))
    if magic != b"PK\x05\x06" or comment:
        raise DamagedError(f"{source.label} has no zip directory at its end; it is truncated, or has data behind it")
    stop = end_at
    if _MAX16 in (here, count) or _MAX32 in (length, start) or _has_locator(source, end_at):
        narrow = ((here, _MAX16), (count, _MAX16), (length, _MAX32), (start, _MAX32))
        stop, disk, start_disk, here, count, length, start = _read_end64(source, end_at)
        wide = (here, count, length, start)
        if any(small not in (value, limit) for (small, limit), value in zip(narrow, wide, strict=True)):
            raise DamagedError(f"{source.label}: its two zip end records contradict each other")
    if disk or start_disk or here != count:
        raise UnsupportedError(f"{source.label} is one part of a zip file in several parts")
    if start + length != stop:
        raise DamagedError(f"{source.label}: its zip directory does not lie where its end record says")
    return start, length, count


def _has_locator(source: Source, end_at: int) -> bool:
    at = end_at - _END64_LOCATOR.size
    return at >= 0 and source.read(at, 4) == b"PK\x06\x07"


def _read_end64(source: Source, end_at: int) -> tuple[int, int, int, int, int, int, int]:
    locator_at = end_at - _END64_LOCATOR.size
    if not _has_locator(source, end_at):
        raise DamagedError(f"{source.label}: its zip64 end record is missing; the file is damaged")
    _, _, at, _ = _END64_LOCATOR.unpack(source.read(locator_at, _END64_LOCATOR.size))
    if at + _END64.size != locator_at:
        raise DamagedError(f"{source.label}: its zip64 end record does not lie where its locator says")
    end = _END64.unpack(source.read(at, _END64.size))
    if end[0] != b"PK\x06\x06":
        raise DamagedError(f"{source.label}: its zip64 end record is damaged")
    _, _, _, _, disk, start_disk, here, count, length, start = end
    return at, disk, start_disk, here, count, length, start


def _headers(central: bytes) -> Iterator[tuple[int, int]]:
    """Yield the offsets and lengths of the local headers to be read, each with the descriptor that may precede it."""
    at = 0
    while at + _CENTRAL.size <= len(central):
        fields = _CENTRAL.unpack_from(central, at)
        stored, size, name_length, extra_length, comment_length = fields[8:13]
        at += _CENTRAL.size + name_length
        *_, header = _widen(central[at : at + extra_length], size, stored, fields[16])
        at += extra_length + comment_length
        yield header - _DESCRIPTOR, _DESCRIPTOR + _read_at_once(name_length, stored)


def _read_at_once(name_length: int, stored: int) -> int:
    """Return the bytes from a record's local header on that are read in one piece."""
    return _LOCAL.size + name_length + _PADDING + (stored + _DESCRIPTOR if stored <= _SMALL else 0)


class _Around:
    """A source of which the bytes around one place were read at once."""

    def __init__(self, source: Source, start: int, length: int) -> None:
        self.source, self.label, self.size = source, source.label, source.size
        self.start = start
        self.data = source.read(start, max(0, min(length, source.size - start)))

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on, read anew if they are not there."""
        at = offset - self.start
        if at >= 0 and at + length <= len(self.data):
            return self.data[at : at + length]
        return self.source.read(offset, length)


def _record(source: Source, central: bytes, at: int, base: int) -> tuple[Record, int]:
    fields = _CENTRAL.unpack_from(central, at)
    magic, _, _, flags, method, _, _, crc, stored, size, name_length, extra_length, comment_length, disk = fields[:14]
    attributes, header = fields[15:17]
    name_at = at + _CENTRAL.size
    stop = name_at + name_length + extra_length + comment_length
    if magic != b"PK\x01\x02" or stop > len(central):
        raise DamagedError(f"{source.label}: its zip directory is damaged at byte {base + at}")
    raw_name = central[name_at : name_at + name_length]
    name = _decode(raw_name, flags)
    extra = central[name_at + name_length : name_at + name_length + extra_length]
    if _MAX32 in (size, stored, header):
        with raised_in(f"{source.label}: record {show(name)}"):
            size, stored, header = _widen(extra, size, stored, header)
    if flags & ~(_HAS_DESCRIPTOR | _UTF8 | (_LEVEL if method else 0)) or method not in (0, 8) or disk:
        raise UnsupportedError(f"{source.label}: record {show(name)} is encrypted or uses compression method {method}")
    if (method == 0 and stored != size) or (size == 0 and crc != 0):
        raise DamagedError(f"{source.label}: record {show(name)} contradicts itself in the zip directory")
    if attributes & _IS_FOLDER and size:  # torch's reader then reads nothing, and leaves memory uninitialised
        raise DamagedError(f"{source.label}: record {show(name)} has bytes, but is marked as a folder")
    around = _Around(source, header, _read_at_once(name_length, stored))
    offset = _check_local(around, header, raw_name, (flags, method, crc, stored, size))
    record_stop = offset + stored
    if flags & _HAS_DESCRIPTOR:
        record_stop += _descriptor_length(around, record_stop, crc, stored, size, name)
    return Record(name, header, offset, size, stored, crc, method == 8, record_stop, base + at), stop


def _decode(raw: bytes, flags: int) -> str:
    # torch ignores the flag: it compares bytes, and older versions wrote UTF-8 without setting it.
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & _UTF8:
            raise DamagedError(f"{HERE}: a record's name is not UTF-8: {show(raw)}") from None
        return raw.decode("cp437")


def _widen(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int]:
    """Return size, stored size and header offset, where saturated 32-bit fields give way to the zip64 extra field."""
    values = [size, stored, header]
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<HH", extra, at)
        body = extra[at + 4 : at + 4 + length]
        at += 4 + length
        if tag != 0x0001:
            continue
        for index, value in enumerate(values):
            if value == _MAX32:
                if len(body) < 8:
                    raise DamagedError(f"{HERE} has a damaged zip64 field")
                values[index], body = int.from_bytes(body[:8], "little"), body[8:]
    return values[0], values[1], values[2]


def _check_local(source: _Around, header: int, raw_name: bytes, central: tuple[int, int, int, int, int]) -> int:
    """Compare the local header with the directory; return the offset of the payload.

    `central` holds the directory's flags, method, CRC-32 and both sizes. If a record has a descriptor, its header need
    not contain the last three.
    """
    if header + _LOCAL.size + len(raw_name) > source.size:
        raise DamagedError(f"{_named(source, raw_name)} lies behind the end of the file")
    fixed = _LOCAL.unpack(source.read(header, _LOCAL.size))
    magic, _, flags, method, _, _, crc, stored, size, name_length, extra_length = fixed
    offset: int = header + _LOCAL.size + name_length + extra_length
    if magic != b"PK\x03\x04" or name_length != len(raw_name) or offset > source.size:
        raise DamagedError(f"{_named(source, raw_name)} has no header where the zip directory says")
    name_and_extra = source.read(header + _LOCAL.size, name_length + extra_length)
    if _MAX32 in (size, stored):
        with raised_in(_named(source, raw_name)):
            size, stored, _ = _widen(name_and_extra[name_length:], size, stored, 0)
    known = (flags, method, crc, stored, size)
    same = known == central
    if flags & _HAS_DESCRIPTOR:
        same = known[:2] == central[:2] and all(
            mine in (0, _MAX32, theirs) for mine, theirs in zip(known[2:], central[2:], strict=True)
        )
    if name_and_extra[:name_length] != raw_name or not same:
        raise DamagedError(f"{_named(source, raw_name)} has a header that contradicts the zip directory")
    return offset


def _named(source: _Around, raw_name: bytes) -> str:
    return f"{source.label}: record {show(raw_name.decode('utf-8', 'replace'))}"


def _descriptor_length(source: _Around, at: int, crc: int, stored: int, size: int, name: str) -> int:
    """Return the length of the data descriptor at `at`: 16 bytes, or 24 with 64-bit sizes."""
    found = source.read(at, min(24, max(0, source.size - at)))
    for layout in ("<4sLQQ", "<4sLLL"):  # for an empty record, the wide layout begins like the narrow one
        length = struct.calcsize(layout)
        if len(found) >= length and struct.unpack_from(layout, found) == (b"PK\x07\x08", crc, stored, size):
            return length
    raise DamagedError(f"{source.label}: record {show(name)} is not followed by the descriptor it announces")


def _check_places(source: Source, records: list[Record], central: int) -> None:
    names = {record.name.casefold() for record in records}
    if len(names) != len(records):
        raise DamagedError(f"{source.label}: two of its zip records have one name")
    at = 0
    for record in records:
        if record.header < at or record.stop > central:
            raise DamagedError(f"{source.label}: record {show(record.name)} overlaps its neighbour or the directory")
        if record.header > at:
            raise DamagedError(f"{source.label}: bytes that belong to no record lie before {show(record.name)}")
        at = record.stop
        parts = record.name.split("/")
        if record.name.startswith("/") or ".." in parts or "\\" in record.name:
            raise DamagedError(f"{source.label}: record {show(record.name)} leaves the archive")
        if "\0" in record.name or "." in parts or "" in parts[:-1]:
            raise DamagedError(f"{source.label}: record {show(record.name)} has a name that readers take differently")
    if at != central:
        raise DamagedError(f"{source.label}: bytes that belong to no record lie before the zip directory")
