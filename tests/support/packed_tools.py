"""What the tests of packed files share: sources and sinks in memory, and the whole way there and back."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from prunecli import files
from prunecli.core.drawn_mask import DrawnRound, draw_kept, draws_of
from prunecli.formats.crc import crc32
from prunecli.formats.io.source import Source
from prunecli.formats.packed.codec import ElementType
from prunecli.formats.packed.container import HEADER, closing_bytes
from prunecli.formats.packed.source import PackedSource, unpacked_source
from prunecli.formats.packed.write import PackedTensor, pack_into
from prunecli.formats.safetensors.read import read_safetensors
from prunecli.surgery.packing import PackedFile

__all__ = [
    "MemorySink",
    "MemorySource",
    "check_law",
    "original_of",
    "pack_bytes",
    "read_packed",
    "rewritten",
    "small_checkpoint",
]

Change = Callable[[dict[str, Any], list[bytes], dict[str, int]], object]


class MemorySource(Source):
    """Bytes as a file."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.label, self.name = data, len(data), "bytes", None

    @property
    def state(self) -> str:
        return ""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        assert 0 <= offset <= offset + len(buffer) <= self.size
        buffer[:] = self.data[offset : offset + len(buffer)]


class MemorySink:
    """Memory to write to at offsets."""

    ordered = False

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: memoryview, offset: int) -> None:
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data


def pack_bytes(data: bytes, tensors: Sequence[PackedTensor], codec: str = "zstd", jobs: int = 1) -> bytes:
    """Return the packed form of bytes with these tensors."""
    sink = MemorySink()
    packed = pack_into(MemorySource(data), tensors, sink, codec=codec, jobs=jobs)
    assert packed.size == len(sink.data)
    return bytes(sink.data)


def read_packed(packed: bytes) -> PackedSource:
    """Return the original of a packed file in memory."""
    source = MemorySource(packed)
    return unpacked_source(source, read_safetensors(source).tensors)


def original_of(packed: bytes) -> bytes:
    """Return the bytes of the original."""
    source = read_packed(packed)
    return source.read(0, source.size)


def small_checkpoint() -> tuple[bytes, list[PackedTensor]]:
    """Return a checkpoint with a drawn mask of two rounds, zeros that make a stored mask, and a dense tensor."""
    rounds = tuple(DrawnRound(1, "w", left, 40) for left in (400, 360))
    keep = np.empty(400, dtype=np.bool_)
    draw_kept(draws_of(rounds), [0, 0], keep)
    generator = torch.Generator().manual_seed(0)
    w, z, d = (torch.randn(400, generator=generator).bfloat16() for _ in range(3))
    data = safetensors.torch.save({"w": w * torch.from_numpy(keep), "z": z * (torch.arange(400) % 3 > 0), "d": d})
    stop = 8 + int.from_bytes(data[:8], "little")
    header, kind = json.loads(data[8:stop]), ElementType(2, 2, rotate=True)
    starts = {name: stop + entry["data_offsets"][0] for name, entry in header.items()}
    tensors = [PackedTensor(start, 400, kind, rounds if name == "w" else ()) for name, start in starts.items()]
    return data, sorted(tensors, key=lambda each: each.offset)


def rewritten(packed: bytes, change: Change, version: int = 1, stream: int = 1) -> bytes:
    """Return a packed file with another directory, and its checksum right.

    `change` gets the columns, the parts, and a dictionary for other fields of the directory, and changes them.
    """
    directory, fields = read_packed(packed).directory, dict[str, int]()
    columns: dict[str, Any] = {name: each.copy() for name, each in directory.columns.items()}
    places = (HEADER + directory.part_starts).tolist()
    parts = [packed[start:stop] for start, stop in pairwise(places)]
    change(columns, parts, fields)
    data = b"".join(parts)
    head, closing = closing_bytes(replace(directory, columns=columns, **fields), len(data), "zstd")
    body = version.to_bytes(4, "little") + stream.to_bytes(4, "little") + closing[8:-4]
    return head + data + body + crc32(head + body).to_bytes(4, "little")


def check_law(path: Path, *, codec: str = "zstd", key: str | None = None) -> PackedFile:
    """Pack a file and unpack it: the bytes are the same, and so are those that readers see."""
    packed, again = path.with_name("packed.safetensors"), path.with_name("again")
    found = files.pack(path, output=packed, codec=codec, key=key, verify=True, force=True)  # type: ignore[arg-type]
    files.unpack(packed, output=again, force=True)
    assert again.read_bytes() == path.read_bytes()
    assert found.bytes == packed.stat().st_size
    return found
