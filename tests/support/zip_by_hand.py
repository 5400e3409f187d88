"""Zip archives by hand, record by record, with whatever is wrong in them."""

import struct
import zlib
from dataclasses import dataclass

__all__ = ["CRC", "FLAG8", "MAX32", "PLAIN", "TWO", "WIDE", "Made", "archive"]


@dataclass(frozen=True)
class Made:
    """One record by hand, with what may be wrong in it."""

    name: bytes = b"r/data.pkl"
    data: bytes = b"abcdef"
    flags: int = 0
    method: int = 0
    local: tuple[int, int, int] | None = None  # CRC and sizes in the local header, if not the true ones
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_extra: bytes = b""
    descriptor: bytes = b""
    central: tuple[int, int, int] | None = None
    central_extra: bytes = b""
    header: int | None = None
    comment: bytes = b""
    before: bytes = b""
    disk: int = 0

    @property
    def true(self) -> tuple[int, int, int]:
        return zlib.crc32(self.data), len(self.data), len(self.data)

    def local_bytes(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        flags = self.flags if self.local_flags is None else self.local_flags
        method = self.method if self.local_method is None else self.local_method
        fields = (b"PK\x03\x04", 20, flags, method, 0, 0, *(self.local or self.true), len(name), len(self.local_extra))
        return struct.pack("<4s5H3L2H", *fields) + name + self.local_extra + self.data + self.descriptor

    def central_bytes(self, at: int) -> bytes:
        lengths = len(self.name), len(self.central_extra), len(self.comment)
        header = at if self.header is None else self.header
        fields = (b"PK\x01\x02", 20, 20, self.flags, self.method, 0, 0, *(self.central or self.true), *lengths)
        packed = struct.pack("<4s6H3L5H2L", *fields, self.disk, 0, 0, header)
        return packed + self.name + self.central_extra + self.comment


def archive(*records: Made, end: dict[str, int] | None = None, zip64: dict[str, int] | None = None) -> bytes:
    """An archive by hand. `end` and `zip64` replace fields of the end records; a zip64 one is written if given."""
    body, central = b"", b""
    for record in records:
        body += record.before
        central += record.central_bytes(len(body))
        body += record.local_bytes()
    true = {"disk": 0, "first": 0, "here": len(records), "count": len(records), "length": len(central)}
    true |= {"start": len(body), "comment": 0}
    wide = b""
    if zip64 is not None:
        fields = true | {"at": len(body) + len(central)} | zip64
        order = [fields[key] for key in ("disk", "first", "here", "count", "length", "start")]
        wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, *order)
        wide += struct.pack("<4sLQL", b"PK\x06\x07", 0, fields["at"], 1)
    fields = true | (end or {})
    narrow = [fields[key] for key in ("disk", "first", "here", "count", "length", "start", "comment")]
    return body + central + wide + struct.pack("<4s4H2LH", b"PK\x05\x06", *narrow)


CRC = zlib.crc32(b"abcdef")
MAX32 = 0xFFFFFFFF
WIDE = struct.pack("<HHQQ", 1, 16, 6, 6)
FLAG8 = Made(flags=8, local=(0, 0, 0), descriptor=struct.pack("<4sLLL", b"PK\x07\x08", CRC, 6, 6))
TWO = Made(name=b"r/data/0", data=b"ghi")
PLAIN = archive(Made(), TWO)
"""A sound archive of two records."""
