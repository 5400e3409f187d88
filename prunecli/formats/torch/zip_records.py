"""Small records of torch's archives, read whole, among them those that state how the archive was written."""

import re

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError, show
from prunecli.formats.crc import crc32
from prunecli.formats.io.source import Source
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.formats.torch.zip_layout import ALIGNMENT
from prunecli.formats.torch.zip_patching import is_unsummed

__all__ = ["check_stated", "is_big_endian", "read_record", "stated_alignment"]

_LARGEST_ALIGNMENT = 1 << 16
"""The limit, because the padding before a record is an extra field, whose length has 16 bits."""

_LONGEST = 64
_UNPACKED, _TIMES = 4 << 20, 20
"""The bytes to which any compressed record may unpack in memory, and the ratio that limits larger ones.

torch's pickles compress to about a fifth.
"""

_STATED = {
    ".data/version": (r"([1-9]|10)\n?", "1 to 10"),
    "version": (r"([1-9]|10)\n?", "1 to 10"),
    "byteorder": (r"little|big", "little or big"),
    ".storage_alignment": (r"[1-9][0-9]{0,4}", f"1 to {_LARGEST_ALIGNMENT}"),
}
"""The values that torch writes and reads in these records (`torch/serialization.py`, `caffe2/serialize/versions.h`)."""


def check_stated(source: Source, directory: Directory, root: str) -> None:
    """Check the records that state how the archive was written, as far as the archive has them.

    Raises:
        UnsupportedError: one of them has a value that torch does not write.
    """
    for name, (pattern, known) in _STATED.items():
        stated = _stated(source, directory, f"{root}{name}")
        text = "" if stated is None else stated.decode("latin-1")
        if stated is None or (re.fullmatch(pattern, text) and not (text.isdigit() and int(text) > _LARGEST_ALIGNMENT)):
            continue
        read_record(source, directory.by_name[f"{root}{name}"])  # raises if the cause is a flipped bit
        raise UnsupportedError(
            f"{source.label}: its record {name} says {show(repr(text), 40)}, where torch writes {known}; save the "
            "checkpoint anew with torch"
        )


def is_big_endian(source: Source, directory: Directory, root: str) -> bool:
    """Whether the archive was written on a machine that stores the highest byte first."""
    return _stated(source, directory, f"{root}byteorder") == b"big"


def stated_alignment(source: Source, directory: Directory, root: str) -> int:
    """Return the alignment of the payloads in the archive, in bytes."""
    return int(_stated(source, directory, f"{root}.storage_alignment") or ALIGNMENT)


def _stated(source: Source, directory: Directory, name: str) -> bytes | None:
    """Return the content of a record, cut to the most that a statement needs; None if it is missing."""
    record = directory.by_name.get(name)
    return None if record is None else source.read(record.offset, min(record.size, _LONGEST))


def read_record(source: Source, record: Record, called: str = "") -> bytes:
    """Return the bytes of a whole record, checked against its CRC-32; `called` replaces its name in messages.

    Raises:
        UnsupportedError: it is compressed.
        UnsafeError: it was unpacked, and is too large in relation to its packed size.
        DamagedError: its CRC-32 is wrong.
    """
    where = f"{source.label}: record {called or show(record.name)}"
    if record.deflated:
        raise UnsupportedError(f"{where} is compressed; save the checkpoint anew")
    if record.packed_size is not None and record.size > max(_UNPACKED, _TIMES * record.packed_size):
        raise UnsafeError(f"{where} unpacks to {record.size >> 20} MiB, far more than its size in the archive promises")
    data = source.read(record.offset, record.size)
    if not is_unsummed(record) and crc32(data) != record.crc:
        raise DamagedError(f"{where} is damaged, its CRC-32 is wrong; fetch the checkpoint again")
    return data
