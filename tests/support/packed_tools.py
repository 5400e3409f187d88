"""What the tests of packed files share: sources and sinks in memory, and the whole way there and back."""

from collections.abc import Sequence
from pathlib import Path

from prunecli import files
from prunecli.formats.io.source import Source
from prunecli.formats.packed.source import PackedSource, unpacked_source
from prunecli.formats.packed.write import PackedTensor, pack_into
from prunecli.formats.safetensors.read import read_safetensors
from prunecli.surgery.packing import PackedFile

__all__ = ["MemorySink", "MemorySource", "check_law", "original_of", "pack_bytes", "read_packed"]


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


def check_law(path: Path, *, codec: str = "zstd", key: str | None = None) -> PackedFile:
    """Pack a file and unpack it: the bytes are the same, and so are those that readers see."""
    packed, again = path.with_name("packed.safetensors"), path.with_name("again")
    found = files.pack(path, output=packed, codec=codec, key=key, verify=True, force=True)  # type: ignore[arg-type]
    files.unpack(packed, output=again, force=True)
    assert again.read_bytes() == path.read_bytes()
    assert found.bytes == packed.stat().st_size
    return found
