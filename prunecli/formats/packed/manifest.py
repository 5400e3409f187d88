"""The list of files in a packed folder, by which a missing, additional or exchanged one is noticed.

Names, sizes and CRC-32s are those of the originals: a file that was packed again in another way is the same file.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError
from prunecli.formats.io.source import Source
from prunecli.formats.json_text import parse_object
from prunecli.formats.packed.names import MARK

__all__ = ["Original", "read_manifest", "render_manifest"]

_VERSION = 1
_LARGEST = 64 << 20
"""The most bytes of a list; 100,000 files, the most that a folder may have, take about 10 MB."""


class Original(NamedTuple):
    """A file of the folder that was packed: its size and its CRC-32."""

    size: int
    crc: int


def render_manifest(files: Mapping[str, Original]) -> bytes:
    """Return the bytes of a list of files, with a line for each."""
    lines = ",\n".join(f"  {json.dumps(name)}: [{size}, {crc}]" for name, (size, crc) in sorted(files.items()))
    return f'{{\n "{MARK}": {_VERSION},\n "files": {{\n{lines}\n }}\n}}\n'.encode("ascii")


def read_manifest(source: Source) -> Mapping[str, Original]:
    """Return the files that a packed folder should have, by their original names.

    Raises:
        DamagedError: it is not such a list.
        UnsupportedError: it has a newer version.
        UnsafeError: it is larger than any list.
    """
    if source.size > _LARGEST:
        raise UnsafeError(f"{source.label} has {source.size} bytes; no list of files is larger than 64 MiB")
    content = parse_object(source.read(0, source.size), source.label)
    version, files = content.get(MARK), content.get("files")
    if type(version) is int and version > _VERSION:
        raise UnsupportedError(f"{source.label} has version {version}, and this prunecli reads 1; use a newer prunecli")
    if version is not _VERSION or not isinstance(files, dict) or not all(map(_is_entry, files.values())):
        raise DamagedError(f"{source.label} is not a list of packed files; fetch it again")
    return {name: Original(*entry) for name, entry in files.items()}


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and all(type(each) is int and each >= 0 for each in entry)
