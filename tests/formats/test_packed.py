"""Packed files: any bytes with any tensors come back, whole and in parts, and damage is found."""

import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backports import zstd
from packed_tools import MemorySource, original_of, pack_bytes, read_packed, rewritten

from prunecli import files as prunecli_files
from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import DrawnRound, draw_kept, draws_of
from prunecli.errors import DamagedError, PrunecliError, UnsafeError, UnsupportedError
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.packed.codec import CodecWorkspace, ElementType, decode
from prunecli.formats.packed.write import PackedTensor

MANY = int(os.environ.get("PRUNECLI_TEST_PACKED", "500"))
"""The number of random files; 10,000 take a minute."""

KINDS = [
    ElementType(1),
    ElementType(2, 2, rotate=True),
    ElementType(2, 2, rotate=True, swap=True),
    ElementType(4, 4, rotate=True),
    ElementType(4, 2, rotate=True),
    ElementType(8, 8),
    ElementType(16, 8, rotate=True),
]


def random_file(seed: int) -> tuple[bytes, list[PackedTensor]]:
    """Return bytes with tensors anywhere in them: dense, with some zeros, or with a mask drawn in several rounds."""
    rng = np.random.default_rng(seed)
    data, tensors = rng.bytes(int(rng.integers(20))), []
    for number in range(rng.integers(5)):
        kind, elements = KINDS[rng.integers(len(KINDS))], int(rng.integers(1, 300))
        raw = rng.integers(0, rng.choice([1, 2, 256]), elements * kind.width, dtype=np.uint8)
        left, rounds = elements, []
        for _ in range(rng.integers(4)):
            amount = int(rng.integers(0, left + 1))
            rounds.append(DrawnRound(number, "k\ud800é", left, amount))
            left -= amount
        keep = rng.random(elements) < rng.choice([0.5, 1])
        if rounds:
            draw_kept(draws_of(rounds), [0] * len(rounds), keep)
        if rng.integers(3):
            raw.reshape(elements, -1)[~keep] = 0
        tensors.append(PackedTensor(len(data), elements, kind, tuple(rounds)))
        data += raw.tobytes() + rng.bytes(int(rng.choice([0, 0, 1, 9])))
    return data, tensors


def test_any_bytes_come_back() -> None:
    """Whole, and from anywhere to anywhere."""
    for seed in range(MANY):
        original, tensors = random_file(seed)
        packed = pack_bytes(original, tensors, ("zstd", "raw")[seed % 2])
        source = read_packed(packed)
        assert source.read(0, source.size) == original, seed
        start, stop = sorted(random.Random(seed).choices(range(len(original) + 1), k=2))  # noqa: S311
        assert source.read(start, stop - start) == original[start:stop], seed


def many() -> tuple[bytes, list[PackedTensor]]:
    """Return several blocks with a mask of two rounds, and a tensor that is dense."""
    rng, count = np.random.default_rng(0), 2 * BLOCK + 5
    rounds = (DrawnRound(1, "a", count, count // 2), DrawnRound(1, "a", count - count // 2, 1000))
    keep = np.empty(count, dtype=np.bool_)
    draw_kept(draws_of(rounds), [0, 0], keep)
    raw = (rng.integers(1, 255, count, dtype=np.uint8) * keep).tobytes()
    return raw + raw[:5000], [PackedTensor(0, count, ElementType(1), rounds), PackedTensor(count, 2500, KINDS[1])]


def test_threads_write_the_same_file() -> None:
    original, tensors = many()
    packed = pack_bytes(original, tensors)
    assert pack_bytes(original, tensors, jobs=3) == packed
    assert original_of(packed) == original
    assert read_packed(packed).directory.tensors_with(1) == 1


def small() -> bytes:
    rng = np.random.default_rng(0)
    rounds = tuple(DrawnRound(1, "name", left, 40) for left in (200, 160))
    keep = np.empty(200, dtype=np.bool_)
    draw_kept(draws_of(rounds), [0, 0], keep)
    values = rng.integers(1, 99, 200, dtype=np.uint16) * keep
    zeros = values * (np.arange(200) % 3 > 0)
    data = b"head" * 9 + values.tobytes() + b"gap" + zeros.tobytes() + bytes(50)
    tensors = [PackedTensor(36, 200, KINDS[1], rounds), PackedTensor(439, 200, KINDS[2])]
    return pack_bytes(data, tensors)


def test_a_flipped_bit_is_found_wherever_it_is() -> None:
    packed = small()
    original = original_of(packed)
    for at in range(len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 1 << at % 8
        with pytest.raises((PrunecliError, AssertionError)):  # an assertion of the test's own source: beyond its end
            assert original_of(bytes(damaged)) != original


def test_a_file_cut_short_is_refused_at_any_byte() -> None:
    packed = small()
    for size in range(8, len(packed)):
        with pytest.raises((PrunecliError, AssertionError)):
            original_of(packed[:size])


def tampered(change: Callable[[dict[str, Any]], None], **fields: int) -> bytes:
    """Return `small` with another directory, and its checksum right."""

    def changed(columns: dict[str, Any], parts: list[bytes], others: dict[str, int]) -> None:
        change(columns)
        others |= fields

    return rewritten(small(), changed)


def put(column: str, index: int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(columns: dict[str, Any]) -> None:
        columns[column][index] = value

    return change


def test_a_change_of_nothing_is_read() -> None:
    assert tampered(lambda columns: None) == small()


@pytest.mark.parametrize(
    ("column", "index", "value"),
    [
        ("gap", 0, 1 << 63),
        ("elements", 0, 0),
        ("elements", 0, 1 << 60),
        ("elements", 1, 201),
        ("width", 0, 3),
        ("width", 1, 16),
        ("number", 0, 8),
        ("flags", 0, 4),
        ("rounds", 0, 1),
        ("rounds", 1, 2),
        ("candidates", 0, 199),
        ("candidates", 1, 161),
        ("amount", 0, 41),
        ("amount", 1, 1 << 63),
        ("key_bytes", 0, 5),
        ("keys", 0, 0xFF),
        ("counts", 0, 161),
        ("form", 0, 3),
        ("form", 1, 1),
        ("form", 2, 2),
        ("kept", 0, 1 << 31),
        ("kept", 0, 119),
        ("kept", 2, 3),
        ("coding", 0, 3),
        ("stored", 0, 1),
    ],
)
def test_a_directory_that_contradicts_itself_is_refused(column: str, index: int, value: int) -> None:
    with pytest.raises(DamagedError, match="contradicts itself"):
        read_packed(tampered(put(column, index, value)))


@pytest.mark.parametrize("fields", [{"size": 1 << 60}, {"size": 1}, {"literals": 1 << 60}, {"literals": 0}])
def test_sizes_that_contradict_the_columns_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(DamagedError, match="contradicts itself"):
        read_packed(tampered(lambda columns: None, **fields))


def test_masks_that_are_not_those_of_the_seed_are_found() -> None:
    packed = tampered(put("seed", 0, np.frombuffer(bytes(15) + b"\1", dtype="V16")[0]))
    with pytest.raises(DamagedError, match="CRC-32 of its bytes is wrong"):
        original_of(packed)


def test_a_wrong_checksum_of_the_whole_is_found(tmp_path: Path) -> None:
    (tmp_path / "m.packed.safetensors").write_bytes(tampered(lambda columns: None, crc=1))
    with pytest.raises(DamagedError, match=r"what .* was packed from is damaged"):
        prunecli_files.unpack(tmp_path / "m.packed.safetensors")
    assert [each.name for each in tmp_path.iterdir()] == ["m.packed.safetensors"]


@pytest.mark.parametrize("at", [0, 4])
def test_newer_versions_are_refused(at: int) -> None:
    packed = bytearray(small())
    place = packed.rindex(b"\1\0\0\0\1\0\0\0")
    packed[place + at] = 2
    with pytest.raises(UnsupportedError, match="use a newer prunecli"):
        read_packed(bytes(packed))


def test_a_frame_that_expands_beyond_its_block_is_cut_off() -> None:
    frame = zstd.compress(bytes(64 << 20))
    raw = np.zeros(4000, dtype=np.uint8)
    tracemalloc.start()
    with pytest.raises(DamagedError, match="damaged block"):
        decode(0, 4000, ElementType(1), iter([(1, memoryview(frame))]), None, raw, CodecWorkspace())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_description_of_tensors_cannot_be_made_of_nothing() -> None:
    packed = pack_bytes(b"PK" + bytes(40 << 20), [])
    assert len(packed) < 3000
    source = read_packed(packed)
    assert source.read(0, 1 << 20)[:2] == b"PK"
    with pytest.raises(UnsafeError, match="no checkpoint needs that"):
        source.read(0, 30 << 20)


def test_a_packed_file_in_a_packed_file_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="a packed file in a packed file"):
        read_checkpoint(MemorySource(pack_bytes(small(), [])))
