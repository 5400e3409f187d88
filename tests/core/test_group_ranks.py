"""Of each group the smallest elements are dropped: the same by the kernel and by numpy, and equal ones by chance."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from prunecli.core import group_ranks, kernel
from prunecli.core.group_ranks import count_dropped, drop_smallest
from prunecli.core.tie_words import tie_words

Bools = NDArray[np.bool_]


@pytest.fixture(params=["kernel", "numpy"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)
    elif not kernel.is_compiled():
        pytest.skip("the kernel is not compiled here")


def dropped(keys: Any, left: Bools, **options: int) -> Bools:
    out = np.empty(left.size, dtype=np.bool_)
    drop_smallest(keys, left, out, **{"inner": 1, "tie_key": 5, "start": 0, **options})
    return out & left


def test_tie_words_are_the_published_outputs_of_splitmix64() -> None:
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert tie_words(1234567, np.arange(4)).tolist() == expected
    assert tie_words((9 << 64) + 1234567, np.array([3, 1])).tolist() == [expected[3], expected[1]]


def cases() -> Iterator[tuple[Any, Bools, dict[str, int]]]:
    """Keys of all widths with and without many ties, masked and not, in groups of all kinds."""
    rng = np.random.default_rng(7)
    for width, size, inner in itertools.product((0, 1, 2, 4, 8), (2, 3, 4, 8, 32, 33), (1, 3, 70)):
        for most, masked in itertools.product((3, 1 << (8 * max(width, 1) - 1)), (False, True)):
            left = np.ones(size * inner * int(rng.integers(1, 9)), dtype=np.bool_)
            keys = rng.integers(0, most, left.size, dtype=f"u{width}", endpoint=True) if width else None
            if masked:
                left = rng.integers(0, 3, left.size) > 0
            if keys is not None and most > 3:
                keys[rng.integers(0, 5, left.size) == 0] = (1 << 8 * width) - 1  # the largest key of all
            start, tie_key = int(rng.integers(1 << 40)), int(rng.integers(1 << 62)) << 40
            kept = int(rng.integers(1, size))
            yield keys, left, {"size": size, "inner": inner, "kept": kept, "start": start, "tie_key": tie_key}


@pytest.mark.skipif(not kernel.is_compiled(), reason="the kernel is not compiled here")
def test_the_kernel_drops_what_numpy_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_ranks, "_RUN", 100)
    by_kernel = [dropped(keys, left, **options) for keys, left, options in cases()]
    monkeypatch.setattr(kernel, "_library", lambda: None)
    for found, (keys, left, options) in zip(by_kernel, cases(), strict=True):
        assert np.array_equal(found, dropped(keys, left, **options)), (keys, options)
        size, inner, kept = options["size"], options["inner"], options["kept"]
        assert np.count_nonzero(found) == count_dropped(left, size=size, inner=inner, kept=kept)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize(("kept", "size", "inner"), [(2, 4, 1), (1, 4, 5), (4, 8, 1), (3, 5, 2)])
def test_without_ties_the_smallest_of_each_group_are_dropped(kept: int, size: int, inner: int) -> None:
    rng = np.random.default_rng(size)
    keys = rng.permutation(size * inner * 101).astype(np.uint16)
    for left in (np.ones(keys.size, dtype=np.bool_), rng.integers(0, 2, keys.size) > 0):
        found = dropped(keys, left, size=size, inner=inner, kept=kept).reshape(-1, size, inner)
        for group, inside in np.ndindex(found.shape[0], inner):
            places = np.flatnonzero(left.reshape(found.shape)[group, :, inside])
            values = keys.reshape(found.shape)[group, places, inside]
            expected = places[np.argsort(values)[: max(0, places.size - kept)]]
            assert np.flatnonzero(found[group, :, inside]).tolist() == sorted(expected)


@pytest.mark.usefixtures("_way")
@pytest.mark.parametrize("values", [None, [7, 7, 7, 7]], ids=["random", "equal"])
def test_all_patterns_are_equally_likely(values: list[int] | None) -> None:
    keys = None if values is None else np.tile(np.array(values, np.uint16), 60_000)
    found = dropped(keys, np.ones(240_000, dtype=np.bool_), size=4, kept=2).reshape(-1, 4)
    _, counts = np.unique(found @ [1, 2, 4, 8], return_counts=True)
    assert counts.size == 6  # of 4 over 2
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5  # chi-square with 5 degrees of freedom, 0.1 %


@pytest.mark.usefixtures("_way")
def test_of_equal_elements_at_the_border_each_is_as_likely() -> None:
    keys = np.tile(np.array([3, 0, 3, 9, 3], np.uint8), 30_000)
    found = dropped(keys, np.ones(keys.size, dtype=np.bool_), size=5, kept=3).reshape(-1, 5)
    assert found[:, 1].all()
    assert not found[:, 3].any()
    assert (found.sum(axis=1) == 2).all()
    counts = found[:, [0, 2, 4]].sum(axis=0)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 13.8  # 2 degrees of freedom, 0.1 %


@pytest.mark.usefixtures("_way")
def test_a_part_of_the_groups_comes_out_as_in_the_whole() -> None:
    keys = np.random.default_rng(1).integers(0, 3, 4000).astype(np.uint16)
    whole = dropped(keys, np.ones(4000, dtype=np.bool_), size=4, kept=1)
    part = dropped(keys[1012:3000].copy(), np.ones(1988, dtype=np.bool_), size=4, kept=1, start=1012)
    assert np.array_equal(part, whole[1012:3000])
    assert not np.array_equal(whole, dropped(keys, np.ones(4000, dtype=np.bool_), size=4, kept=1, tie_key=6))
