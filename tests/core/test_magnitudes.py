"""Whether the smallest were pruned, against numpy over whole tensors: any type and order of runs, drained or not."""

import numpy as np
import pytest

from prunecli.core.magnitudes import MagnitudeCounter, MagnitudeLook, magnitude_look

RUN = 40_000  # more than one step


def counted(look: MagnitudeLook, raw: np.ndarray, flags: np.ndarray, run: int, seed: int) -> MagnitudeCounter:
    """Hand in runs in a random order, drain some, and merge what was drained into another counter."""
    counter, merged = MagnitudeCounter(look), MagnitudeCounter(look)
    rng = np.random.default_rng(seed)
    for start in rng.permutation(np.arange(0, raw.size, run)):
        counter.add(look.look(raw[start : start + run], flags[start : start + run]))
        if rng.random() < 0.5 and (drained := counter.drain()) is not None:
            merged.merge(drained)
    if (drained := counter.drain()) is not None:
        merged.merge(drained)
    assert counter.drain() is None
    return merged


def smallest_pruned(raw: np.ndarray, kept: np.ndarray, dtype: str = "float32", run: int = RUN) -> bool | None:
    look = magnitude_look("w", dtype, raw.size, masked=True)
    assert look is not None
    found = counted(look, raw, kept, run, 1)
    assert found.smallest_left(int((~kept).sum())) is None
    return found.smallest_pruned


def smallest_left(raw: np.ndarray, values: np.ndarray, dtype: str = "float32", run: int = RUN) -> float | None:
    look = magnitude_look("w", dtype, raw.size, masked=False)
    assert look is not None
    found = counted(look, raw, values == 0, run, 1)
    assert found.smallest_pruned is None
    return found.smallest_left(int((values == 0).sum()))


def normal(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, size).astype(np.float32)


def kept_largest(values: np.ndarray, share: float) -> np.ndarray:
    kept = np.ones(values.size, bool)
    kept[np.argsort(np.abs(values), kind="stable")[: int(share * values.size)]] = False
    return kept


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_of_masks(dtype: str, big: bool) -> None:
    values = normal(3 * RUN + 17).astype(dtype)
    raw = values.view(f"u{values.itemsize}").astype(f"{'>' if big else '<'}u{values.itemsize}")
    kept = kept_largest(values, 0.3)
    assert smallest_pruned(raw, kept, dtype) is True
    largest = np.flatnonzero(np.abs(values) == np.abs(values).max())
    dropped = kept.copy()
    dropped[largest] = False
    assert smallest_pruned(raw, dropped, dtype) is False
    assert smallest_pruned(raw, np.random.default_rng(1).random(values.size) < 0.5, dtype) is False


def test_equal_magnitudes_may_be_on_both_sides() -> None:
    values = np.array([1, -2, 2, -2, 3, 0, -0.0], np.float32)
    kept = np.array([0, 0, 1, 1, 1, 1, 0], bool)
    assert smallest_pruned(values.view(np.uint32), kept) is False  # a kept 0
    kept[5] = False
    assert smallest_pruned(values.view(np.uint32), kept) is True
    kept[5:] = True, True
    kept[:5] = True
    kept[5] = False
    assert smallest_pruned(values.view(np.uint32), kept) is True  # of two zeros, one


def test_nan_is_larger_than_everything() -> None:
    values = np.array([1, np.nan, 2, np.inf], np.float32)
    assert smallest_pruned(values.view(np.uint32), np.array([0, 1, 1, 1], bool)) is True
    assert smallest_pruned(values.view(np.uint32), np.array([1, 0, 1, 1], bool)) is False
    assert smallest_pruned(values.view(np.uint32), np.array([0, 1, 0, 0], bool)) is True
    assert smallest_left(np.zeros(0, np.uint32), np.zeros(0)) is None


@pytest.mark.parametrize("kept", [True, False])
def test_masks_that_drop_all_or_nothing_say_nothing(kept: bool) -> None:
    assert smallest_pruned(normal(99).view(np.uint32), np.full(99, kept), run=10) is None


def test_integers_are_compared_under_masks_only() -> None:
    values = np.array([-128, 5, 0, 127, -3], np.int8)
    assert smallest_pruned(values.view(np.uint8), np.array([1, 1, 0, 1, 0], bool), "int8") is True
    assert smallest_pruned(values.view(np.uint8), np.array([0, 1, 1, 1, 1], bool), "int8") is False
    assert magnitude_look("w", "int8", 5, masked=False) is None
    assert magnitude_look("w", "complex64", 5, masked=True) is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_of_zeros(share: float) -> None:
    values = normal(3 * RUN + 17)
    values[~kept_largest(values, share)] = 0
    left = np.abs(values[values != 0])
    assert smallest_left(values.view(np.uint32), values) == left.min()
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16
    shown = (upper.astype(np.uint32) << 16).view(np.float32)
    assert smallest_left(upper, shown, "bfloat16") == np.abs(shown[shown != 0]).min()
    small = values.astype(np.float16)
    assert smallest_left(small.view(np.uint16), small, "float16") == np.abs(small[small != 0]).min()


@pytest.mark.parametrize("shape", ["normal", "uniform"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("size", [100, RUN, 3 * RUN])
def test_chance_leaves_no_gap(shape: str, share: float, size: int) -> None:
    rng = np.random.default_rng(5)
    values = normal(size, 3) if shape == "normal" else rng.uniform(-1, 1, size).astype(np.float32)
    values[rng.random(size) < share] = 0
    assert smallest_left(values.view(np.uint32), values) is None


def test_a_gap_needs_zeros_numbers_and_more_than_the_steps_of_the_type() -> None:
    values = np.linspace(1, 2, 1000, dtype=np.float32)
    assert smallest_left(values.view(np.uint32), values) is None
    values[:10] = 0
    assert smallest_left(values.view(np.uint32), values) == values[10]
    values[-1] = np.nan
    assert smallest_left(values.view(np.uint32), values) is None
    values[:] = 0
    assert smallest_left(values.view(np.uint32), values) is None
    eighths = np.tile(np.array([0, 1, 2], np.uint8), 1000)  # the smallest numbers that float8 has
    assert smallest_left(eighths, eighths, "float8_e4m3fn") is None
    assert smallest_left(eighths * 2, eighths, "float8_e4m3fn") == 2 * 2.0**-9


def test_nothing_more_is_looked_at_once_the_answer_is_no() -> None:
    look = magnitude_look("w", "float32", 10 * RUN, masked=False)
    assert look is not None
    values = normal(RUN)
    assert look.look(values.view(np.uint32), values == 0) is None
    gap = np.ones(RUN, np.float32)
    assert look.look(gap.view(np.uint32), gap == 0) is None
