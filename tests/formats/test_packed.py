"""Packed files: any bytes with any tensors come back, whole and in parts, and damage is found."""

import os
import random

import numpy as np
import pytest
from packed_tools import original_of, pack_bytes, read_packed

from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import DrawnRound, draw_kept
from prunecli.errors import PrunecliError
from prunecli.formats.packed.codec import ElementType
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
    data, tensors = rng.bytes(rng.integers(20)), []
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
            draw_kept([each.subset for each in rounds], [0] * len(rounds), keep)
        if rng.integers(3):
            raw.reshape(elements, -1)[~keep] = 0
        tensors.append(PackedTensor(len(data), elements, kind, tuple(rounds)))
        data += raw.tobytes() + rng.bytes(rng.choice([0, 0, 1, 9]))
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
    draw_kept([each.subset for each in rounds], [0, 0], keep)
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
    draw_kept([each.subset for each in rounds], [0, 0], keep)
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
