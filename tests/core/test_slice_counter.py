"""Slices that are all zero, against a tensor in memory: whatever the order of runs, and whichever dimensions tell."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from prunecli.core.structure.slices import SliceCounter

SHAPES = [
    ((6, 5), (0,)),
    ((6, 5), (1,)),
    ((4, 3, 7), (2,)),
    ((4, 3, 7), (1,)),
    ((4, 3, 7), (0, 2)),
    ((9,), (0,)),
    ((4, 5), ()),
    ((4, 5), (0, 1)),
    ((1, 8), (0,)),
    ((0, 5), (1,)),
]


def flags(shape: Sequence[int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kept = rng.random(shape) < 0.2
    if kept.size:
        kept[rng.integers(shape[0])] = False
        kept[..., rng.integers(shape[-1])] = False
    return kept


def expected(kept: np.ndarray, dims: Sequence[int]) -> int:
    if not kept.size:
        return 0
    alive = kept.any(axis=tuple(at for at in range(kept.ndim) if at not in dims))
    return int(np.asarray(~alive).sum())


@pytest.mark.parametrize(("shape", "dims"), SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_runs_in_any_order_find_what_the_whole_tensor_shows(
    shape: tuple[int, ...], dims: tuple[int, ...], seed: int
) -> None:
    kept = flags(shape, seed)
    zero = ~kept.reshape(-1)
    rng = np.random.default_rng(seed)
    runs, places, windows, merged = (SliceCounter(shape, dims) for _ in range(4))
    for start in rng.permutation(np.arange(0, zero.size, 4)):
        run = zero[start : start + 4]
        runs.add(runs.look(int(start), run.copy()))
        places.add(places.look_at(np.arange(start, start + run.size), run.copy()))
        if rng.random() < 0.5:
            handed = runs.drain()
            if handed is not None:
                merged.merge(handed)
    handed = runs.drain()
    if handed is not None:
        merged.merge(handed)
    width = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
    if zero.size:
        matrix, cut = zero.reshape(-1, width), width // 2
        windows.add(windows.look(0, matrix[:, :cut].reshape(-1).copy(), (0, 0, cut))) if cut else None
        windows.add(windows.look(0, matrix[:, cut:].reshape(-1).copy(), (0, cut, width - cut)))
    assert {places.empty, windows.empty, merged.empty} == {expected(kept, dims)}
