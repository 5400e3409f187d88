"""The compiled kernel does what numpy does, to the bit; and prunecli is installed and works without it."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prunecli.core import kernel, random_stream
from prunecli.core.block import BLOCK
from prunecli.core.kernel import build
from prunecli.core.methods.base import Block
from prunecli.core.methods.segments import LayerScan
from prunecli.core.order import Order
from prunecli.core.raw_elements import all_ones, count_zeros, fill_mask, is_zero, unsigned
from prunecli.core.scratch import Buffer
from prunecli.core.structure.flags import halved_packed_groups, most_kept

compiled = pytest.mark.skipif(not kernel.is_compiled(), reason="the kernel is not compiled here")

Bools = NDArray[np.bool_]


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load the library anew in the test, and again behind it."""
    kernel._library.cache_clear()
    yield
    monkeypatch.undo()
    kernel._library.cache_clear()


def by_numpy(key: int, index: int, amount: int, size: int) -> Bools:
    chosen = np.empty(size, dtype=np.bool_)
    random_stream._choose(random_stream._words(key, index), amount, chosen)
    return chosen


def by_kernel(key: int, index: int, amount: int, size: int) -> Bools:
    chosen = np.empty(size, dtype=np.bool_)
    assert kernel.draw_block(key, index, amount, chosen, rare=random_stream._RARE, close=random_stream._CLOSE)
    return chosen


@compiled
def test_a_block_drawn_by_the_kernel_is_the_block_drawn_by_numpy() -> None:
    rng = np.random.default_rng(5)
    for size in (1, 2, 7, 8, 9, 255, 256, 257, 2047, 2048, 2049, 5000, 70_001):
        rare = size // random_stream._RARE
        amounts = {0, 1, 2, rare - 1, rare, rare + 1, size // 16, size // 3, size // 2, *rng.integers(0, size + 1, 9)}
        for amount in {int(each) for some in amounts for each in (some, size - some) if 0 <= some <= size}:
            key, index = int.from_bytes(rng.bytes(16), "little") >> int(rng.integers(128)), int(rng.integers(1 << 32))
            drawn = by_kernel(key, index, amount, size)
            assert np.array_equal(drawn, by_numpy(key, index, amount, size)), (size, amount, key, index)


@compiled
@pytest.mark.parametrize("amount", [BLOCK // 2, BLOCK // 3, BLOCK // 256 + 1, BLOCK - 12_345])
def test_a_whole_block_drawn_by_the_kernel_is_the_block_drawn_by_numpy(amount: int) -> None:
    for key, index in ((0, 0), ((1 << 128) - 1, (1 << 32) - 1)):
        assert np.array_equal(by_kernel(key, index, amount, BLOCK), by_numpy(key, index, amount, BLOCK))


@compiled
@pytest.mark.parametrize(
    ("total", "good", "draws"),
    [
        (10**12, 7168 * 2048, 5 * 10**11),
        (10**9, 10**7, 3 * 10**6),
        (64 * BLOCK, BLOCK, 20 * BLOCK),
        (10**6, 6 * 10**5, 4 * 10**5),
        (300, 2, 299),
        (10, 7, 8),
    ],
)
def test_shares_of_the_kernel_are_those_of_numpy_up_to_the_words_where_they_step(
    total: int, good: int, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_kernel(word: int) -> int:
        return random_stream._hypergeometric(word, total, good, draws)

    words = [0, 2**11, 2**64 - 1, *np.random.default_rng(1).integers(0, 2**64, 40, dtype=np.uint64).tolist()]
    for word in words[-8:]:
        below, above = 0, word  # the share of `word` is first reached between them
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if by_kernel(middle) >= by_kernel(word) else (middle, above)
        words += [max(below - 2**11, 0), below, above, above + 2**11]
    compiled = [by_kernel(word) for word in words]
    monkeypatch.setattr(kernel, "share", lambda *_: None)
    assert compiled == [random_stream._hypergeometric(word, total, good, draws) for word in words]


def test_a_block_beyond_the_kernels_numbers_is_drawn_by_numpy() -> None:
    chosen = np.empty(100, dtype=np.bool_)
    random_stream._draw_block(3, 1 << 32, 50, chosen)
    assert np.array_equal(chosen, by_numpy(3, 1 << 32, 50, 100))


KINDS = [
    *((width, False, big) for width in (1, 2, 4, 8) for big in (False, True)),
    *((width, True, big) for width in (4, 8, 16) for big in (False, True)),
]


def elements(width: int, paired: bool, big: bool, count: int, rng: np.random.Generator) -> Any:
    """Elements at an odd address, of which many are zero, many are only a sign bit, and many a single other bit."""
    half = width // 2 if paired else width
    numbers = rng.integers(0, 4, (count, width // half)).astype(f"u{half}")
    numbers[numbers == 1] = 1 << (8 * half - 1)
    numbers[numbers == 2] = 1 << (8 * half - 2)
    stored = numbers.astype(f"{'>' if big else '<'}u{half}").tobytes()
    memory = np.empty(len(stored) + 1, dtype=np.uint8)
    memory[1:] = np.frombuffer(stored, dtype=np.uint8)
    return unsigned(memory[1:], width, big_endian=big, paired=paired)


@compiled
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("width", "paired", "big"), KINDS)
def test_zeros_counted_and_cleared_by_the_kernel_are_those_of_numpy(
    width: int, paired: bool, big: bool, signed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (0, 1, 17, 2048, 5003):
        for masks in ("", "before", "keep", "both"):
            results = []
            for way in ("kernel", "numpy"):
                with monkeypatch.context() as patch:
                    if way == "numpy":
                        patch.setattr(kernel, "_library", lambda: None)
                    rng = np.random.default_rng(count)
                    raw = elements(width, paired, big, count, rng)
                    before, keep = rng.integers(0, 2, (2, count)) > 0
                    zero, plain = np.empty(count, dtype=np.bool_), np.empty(count, dtype=np.bool_)
                    is_zero(raw, signed_zero=signed, out=plain, room=Buffer())
                    counts = count_zeros(
                        raw,
                        zero,
                        Buffer(),
                        signed_zero=signed,
                        before=before if masks in ("before", "both") else None,
                        keep=keep if masks in ("keep", "both") else None,
                        clear=masks in ("keep", "both"),
                    )
                    without = count_zeros(
                        elements(width, paired, big, count, np.random.default_rng(count)),
                        np.empty(count, dtype=np.bool_),
                        Buffer(),
                        signed_zero=signed,
                        before=before if masks in ("before", "both") else None,
                        keep=keep if masks in ("keep", "both") else None,
                        flags=False,
                    )
                    assert without == counts
                    results.append((counts, plain.tobytes(), zero.tobytes(), raw.tobytes()))
            assert results[0] == results[1]
            (was, now), plain_flags, flags, _ = results[0]
            assert now == np.count_nonzero(np.frombuffer(flags, dtype=np.bool_))
            assert masks or was == now == np.count_nonzero(np.frombuffer(plain_flags, dtype=np.bool_))


@compiled
@pytest.mark.parametrize(("width", "paired", "big"), KINDS)
def test_masks_filled_and_examined_by_the_kernel_are_those_of_numpy(
    width: int, paired: bool, big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, one = np.random.default_rng(1), 1 if width == 1 else 0x3C
    results = []
    for way in ("kernel", "numpy"):
        with monkeypatch.context() as patch:
            if way == "numpy":
                patch.setattr(kernel, "_library", lambda: None)
            raw = elements(width, paired, big, 5003, rng)
            fill_mask(raw, np.arange(raw.size) % 3 > 0, one)
            some = raw.tobytes()
            fill_mask(raw, np.ones(raw.size, dtype=np.bool_), one)
            filled, found = raw.tobytes(), [all_ones(raw, one)]
            raw[-1:].view(np.uint8)[0] ^= 1
            results.append((some, filled, [*found, all_ones(raw, one)]))
    assert results[0] == results[1]
    assert results[0][2] == [True, False]


@compiled
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bfloat16"])
@pytest.mark.parametrize("big", [False, True])
def test_sums_of_layers_by_the_kernel_are_those_of_numpy(
    dtype: str, big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, order = np.random.default_rng(7), Order.of("w", dtype)
    width = {"bfloat16": 2, "float64": 8}.get(dtype, 4)
    raw = unsigned(rng.integers(0, 256, 70_001 * width, dtype=np.uint8), width, big_endian=big)
    for left in (np.ones(raw.size, np.bool_), rng.random(raw.size) < 0.4):
        found = LayerScan(order, raw.size, np.zeros(1, np.uint64), order.bits).look(Block(0, 0, left, raw))
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "_library", lambda: None)
            expected = LayerScan(order, raw.size, np.zeros(1, np.uint64), order.bits).look(Block(0, 0, left, raw))
        assert found[:2] == expected[:2]
        assert np.array_equal(found[2], expected[2])
        assert np.array_equal(found[3], expected[3])


@compiled
def test_groups_counted_by_the_kernel_are_those_of_numpy() -> None:
    rng = np.random.default_rng(3)
    for count in (0, 4, 8, 12, 4096, 5004):
        flags = rng.integers(0, 2, count) > 0
        assert kernel.halved_groups(flags) == halved_packed_groups(np.packbits(flags), 1, count)


@compiled
@pytest.mark.parametrize("inner", [1, 2, 9, 255, 256, 257, 5000])
def test_the_fullest_groups_found_by_the_kernel_are_those_of_numpy(inner: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, found = np.random.default_rng(4), []
    for sizes in (1, 2, 3, 4):
        band = inner << sizes
        for groups in (1, 2, 3, max(5, 9000 // band)):
            kept = rng.random((groups, 1 << sizes, inner)).argsort(axis=1) < rng.integers(0, (1 << sizes) + 1)
            kept &= rng.random(kept.shape) < rng.choice([0.02, 0.5, 1])
            some = kept[rng.integers(groups), :, rng.integers(inner)]
            some |= rng.random(some.size) < rng.choice([0, 0.5])  # one group that is fuller
            most = [
                int(kept.reshape(-1, 2 << level, inner).sum(axis=1, dtype=np.int64).max()) for level in range(sizes)
            ]
            zero = ~kept.reshape(-1)
            for caps in ([2 << level for level in range(sizes)], rng.integers(0, 9, sizes).tolist(), [1] * sizes):
                expected = bytes(map(min, most, caps))
                assert kernel.most_kept(zero, inner, bytes(caps)) == expected, (sizes, groups, caps)
                found.append((zero, bytes(caps), expected))
    monkeypatch.setattr(kernel, "_library", lambda: None)
    assert [most_kept(zero, inner, caps) for zero, caps, _ in found] == [expected for *_, expected in found]


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("way", ["unwanted", "absent", "not a library", "another library", "another version", "older"])
def test_without_a_usable_library_numpy_does_the_work(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "kernel.shared"
    if way == "unwanted":
        monkeypatch.setenv("PRUNECLI_KERNEL", "0")
    elif way == "older":  # than its source, which was changed since
        for suffix, age in ((".shared", 1), (".c", 0)):
            (tmp_path / f"kernel{suffix}").write_bytes(b"")
            os.utime(tmp_path / f"kernel{suffix}", ns=(0, 10**9 - age))
        monkeypatch.setattr(kernel, "__file__", str(tmp_path / "__init__.py"))
        monkeypatch.setattr(ctypes, "CDLL", lambda path: pytest.fail("it was loaded"))
    elif way == "another version":
        monkeypatch.setattr(kernel, "_VERSION", kernel._VERSION + 1)
    else:
        if way == "not a library":
            other.write_bytes(b"no library")
        elif way == "another library":
            other.symlink_to(np.random.__path__[0] + "/" + next(Path(np.random.__path__[0]).glob("_sfc64*.so")).name)
        monkeypatch.setattr(kernel, "__file__", str(tmp_path / "__init__.py"))
    assert not kernel.is_compiled()
    chosen = np.empty(10, dtype=np.bool_)
    assert not kernel.draw_block(1, 0, 5, chosen, rare=256, close=0)
    assert kernel.all_equal(chosen, 0) is None
    random_stream._draw_block(1, 0, 5, chosen)
    assert np.array_equal(chosen, by_numpy(1, 0, 5, 10))


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [("", "there is no C compiler (cc, gcc or clang)"), ("false", "false: exit code 1"), ("no-cc -g", "no-cc")],
)
def test_a_failure_to_compile_is_stated_and_leaves_nothing(
    compiler: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler:
        monkeypatch.setenv("CC", compiler)
    else:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr("shutil.which", lambda name: None)
    assert reason in build.compile_kernel(tmp_path / "kernel.shared")
    assert list(tmp_path.iterdir()) == []


@compiled
def test_a_library_without_versions_for_processors_has_the_interface_and_the_results_that_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["-O0" if each == "-O3" else each for each in build._OPTIONS]  # in a tenth of the time
    monkeypatch.setattr(build, "_OPTIONS", [*options, "-DFOR_EACH_PROCESSOR="])
    path = tmp_path / "kernel.shared"
    assert build.compile_kernel(path) == ""
    assert list(tmp_path.iterdir()) == [path]
    library = kernel._declared(ctypes.CDLL(str(path)))
    assert library.prunecli_kernel_version() == kernel._VERSION
    rng, results = np.random.default_rng(3), list[Any]()
    bits = rng.integers(0, 4, 3 * 2048 + 7, dtype=np.uint16)
    for own in (library, kernel._library()):
        monkeypatch.setattr(kernel, "_library", lambda own=own: own)
        room, zero = Buffer(), np.empty(bits.size, dtype=np.bool_)
        counts = count_zeros(bits, zero, room, signed_zero=True)
        results.append((by_kernel(7, 1, 2500, 5003).tobytes(), counts, zero.tobytes()))
        results[-1] += (kernel.halved_groups(zero[:4096]), most_kept(zero[:4096], 1, b"\2\4\6\7"))
    assert results[0] == results[1]
    assert results[0][0] == by_numpy(7, 1, 2500, 5003).tobytes()
