"""The safetensors file around a packed file: a header of constant length, then the data, then the directory."""

import json
from collections.abc import Mapping

from prunecli.errors import DamagedError
from prunecli.formats.base import TensorInfo
from prunecli.formats.crc import crc32
from prunecli.formats.io.source import Source, in_source
from prunecli.formats.packed.directory import PackedDirectory, render_directory
from prunecli.formats.packed.directory_check import check_version, parse_directory
from prunecli.formats.packed.names import DATA, DIRECTORY, MARK, SUFFIX
from prunecli.terms import HERE

__all__ = ["HEADER", "closing_bytes", "read_packed_directory"]

HEADER = 512
"""The length of the header with its own length before it, filled up with spaces."""

_NOTE = "a checkpoint packed by prunecli, not its tensors; 'prunecli unpack' writes the original file, to the byte"


def closing_bytes(directory: PackedDirectory, data_size: int, codec: str) -> tuple[bytes, bytes]:
    """Return the header, which comes before the data, and the directory, which comes behind it."""
    body = render_directory(directory)
    stop = data_size + len(body) + 4
    header = {
        "__metadata__": {MARK: "1", "codec": codec, "original_bytes": str(directory.size), "note": _NOTE},
        DATA: {"dtype": "U8", "shape": [data_size], "data_offsets": [0, data_size]},
        DIRECTORY: {"dtype": "U8", "shape": [stop - data_size], "data_offsets": [data_size, stop]},
    }
    text = json.dumps(header, separators=(",", ":")).encode("ascii").ljust(HEADER - 8)
    head = len(text).to_bytes(8, "little") + text
    return head, body + crc32(head + body).to_bytes(4, "little")


@in_source
def read_packed_directory(source: Source, tensors: Mapping[str, TensorInfo]) -> tuple[PackedDirectory, int]:
    """Return the directory of a packed file, and the offset of its data; `tensors` are the entries of its header.

    Raises:
        UnsupportedError: as `check_version`.
        DamagedError: the entries are not those of a packed file, the checksum is wrong, or as `parse_directory`.
    """
    if set(tensors) != {DATA, DIRECTORY} or any(each.dtype.name != "uint8" for each in tensors.values()):
        raise DamagedError(f"{HERE} says that it is a packed file ({SUFFIX}), and has other entries; fetch it again")
    data, directory = tensors[DATA].storage, tensors[DIRECTORY].storage
    raw, head = source.read(directory.offset, directory.nbytes), source.read(0, min(data.offset, directory.offset))
    check_version(raw)
    if crc32(head + raw[:-4]).to_bytes(4, "little") != raw[-4:]:
        raise DamagedError(f"{HERE} has a damaged header or directory: its CRC-32 is wrong; fetch it again")
    return parse_directory(raw[:-4], data.nbytes), data.offset
