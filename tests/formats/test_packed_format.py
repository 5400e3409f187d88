"""The format of packed files: a reader written from docs/packed.md alone, and files that stay readable."""

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backports import zstd
from packed_tools import pack_bytes, read_packed
from test_packed import random_file

from prunecli.core.random_stream import Subset, stream_key
from prunecli.formats.packed.write import PackedTensor

GOLDEN = Path(__file__).parent / "golden"
BLOCK = 1 << 20
PER_TENSOR = [("gap", "<u8"), ("elements", "<u8"), ("width", "u1"), ("number", "u1"), ("flags", "u1"), ("rounds", "u1")]
PER_ROUND = [("candidates", "<u8"), ("amount", "<u8"), ("seed", "V16"), ("key_bytes", "<u4")]
PER_BLOCK = [("crc", "<u4"), ("form", "u1"), ("kept", "<u4")]


def unpack(file: bytes) -> bytes:
    """Return the original of a packed file."""
    stop = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:stop])
    start, end = header["prunecli.packed.directory"]["data_offsets"]
    directory = file[stop + start : stop + end]
    assert zlib.crc32(file[:stop] + directory[:-4]) == int.from_bytes(directory[-4:], "little")
    head, rest = np.frombuffer(directory[:68], np.uint8), io.BytesIO(directory[68:-4])
    size, literals, *lengths = (int(each) for part in (head[8:16], head[20:]) for each in part.copy().view("<u8"))
    tensors, rounds, key_bytes, counts, blocks = lengths

    def columns(kinds: list[tuple[str, str]], many: int) -> dict[str, Any]:
        return {name: np.frombuffer(rest.read(many * np.dtype(kind).itemsize), kind) for name, kind in kinds}

    t, r = columns(PER_TENSOR, tensors), columns(PER_ROUND, rounds)
    keys, _ = rest.read(key_bytes), rest.read(4 * counts)
    b = columns(PER_BLOCK, blocks)
    data, parts = io.BytesIO(file[stop + header["prunecli.packed.data"]["data_offsets"][0] :]), rest.read()
    many = len(parts) // 5
    part = zip(parts[:many], np.frombuffer(parts[many:], "<u4").tolist(), strict=True)
    block = zip(*(b[name].tolist() for name, _ in PER_BLOCK), strict=True)

    def decoded(length: int) -> Any:
        coding, stored = next(part)
        raw = data.read(stored)
        raw = zstd.decompress(raw) if coding == 1 else raw * length if coding == 2 else raw
        return np.frombuffer(raw, np.uint8, length)

    def values(elements: int, width: int, number: int, flags: int, mask: Any) -> bytes:
        whole = b""
        for first in range(0, elements, BLOCK):
            (crc, form, kept), count = next(block), min(BLOCK, elements - first)
            keep = mask[first : first + count] if form == 1 else np.ones(count, bool)
            if form == 2:
                keep = np.unpackbits(decoded(-(-count // 8)), count=count, bitorder="little").astype(bool)
            planes = np.stack([decoded(kept * width // number) for _ in range(number)], axis=1)
            found = planes.copy().view(f"<u{number}")
            if flags & 1:
                found = (found >> 1) | (found << (8 * number - 1))
            out = np.zeros((count, width), np.uint8)
            out[keep] = found.astype(f"{'>' if flags & 2 else '<'}u{number}").view(np.uint8).reshape(kept, width)
            assert zlib.crc32(out.tobytes()) == crc
            whole += out.tobytes()
        return whole

    found, at, place = [], 0, 0
    rows = zip(*(t[name].tolist() for name, _ in PER_TENSOR[1:]), strict=True)
    for elements, width, number, flags, many_rounds in rows:
        mask = np.ones(elements, bool)
        for index in range(at, at + many_rounds):
            key = keys[place : (place := place + int(r["key_bytes"][index]))].decode("utf-8", "surrogatepass")
            left, seed = int(r["candidates"][index]), int.from_bytes(r["seed"][index].tobytes(), "little")
            dropped = Subset(stream_key(seed, key, left), left, int(r["amount"][index])).span(0, left)
            mask[np.flatnonzero(mask)[dropped]] = False
        at += many_rounds
        found.append(values(elements, width, number, flags, mask))
    literal, original, place = values(literals, 1, 1, 0, b""), b"", 0
    for gap, own in zip(t["gap"].tolist(), found, strict=True):
        original, place = original + literal[place : place + gap] + own, place + gap
    original += literal[place:]
    assert len(original) == size
    assert zlib.crc32(original) == int.from_bytes(directory[16:20], "little")
    return original


def test_the_page_describes_what_is_written() -> None:
    for seed in range(60):
        original, tensors = random_file(seed)
        assert unpack(pack_bytes(original, tensors, ("zstd", "raw")[seed % 2])) == original, seed


@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_files_stay_readable(codec: str) -> None:
    """The files in golden/ were written once; with `raw`, the same bytes are written for ever."""
    original, golden = ((GOLDEN / name).read_bytes() for name in ("original", f"{codec}.packed.safetensors"))
    source = read_packed(golden)
    directory = source.directory
    assert source.read(0, source.size) == unpack(golden) == original
    assert set(directory.columns["form"].tolist()) == {0, 1, 2}
    assert set(directory.columns["coding"].tolist()) == ({0, 1, 2} if codec == "zstd" else {0, 2})
    tensors = [
        PackedTensor(int(start), int(directory.elements[index]), directory.kind(index), tuple(directory.rounds(index)))
        for index, start in enumerate(directory.starts)
    ]
    if codec == "raw":
        assert pack_bytes(original, tensors, "raw") == golden
