"""N:M patterns: what runs, scattered elements and parts show, against every group counted by itself."""

import itertools
import json
import math
import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from structure_zoo import density_of_rest, patterns_of

from prunecli.core.raw_elements import Flags
from prunecli.core.structure import patterns
from prunecli.core.structure.model import Pattern
from prunecli.core.structure.patterns import PatternCounter, PatternLook, pattern_look


@st.composite
def tensors(draw: st.DrawFn) -> Flags:
    """Zeros in an N:M pattern, or at random, or in whole slices; with a few more zeros, or a few fewer."""
    sides, more = st.sampled_from([3, 4, 8, 16, 24, 32, 48, 64]), st.sampled_from([(), (), (4,), (2, 3), (3, 1, 2)])
    shape = (*draw(st.tuples(sides, sides)), *draw(more))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    zero = generator.random(shape) < draw(st.sampled_from([0.0, 0.5, 0.8, 0.95]))
    dim = draw(st.integers(0, min(len(shape) - 1, 2)))
    sizes = [size for size in (2, 4, 8, 16) if shape[dim] % size == 0]
    if draw(st.integers(0, 3)) and sizes:
        size = draw(st.sampled_from(sizes))
        order = np.argsort(generator.random((zero.size // size, size)), axis=1)
        moved = np.moveaxis(zero, dim, -1)
        made = (order >= draw(st.integers(1, size // 2))).reshape(moved.shape)
        zero = np.moveaxis(made, -1, dim).copy()
    never = [0.0] * 6
    zero[generator.random(shape[0]) < draw(st.sampled_from([*never, 0.5]))] = True
    zero[:, generator.random(shape[1]) < draw(st.sampled_from([*never, 0.5]))] = True
    zero ^= generator.random(shape) < draw(st.sampled_from([*never, 0.001]))
    return zero


def take(data: st.DataObject, counter: PatternCounter, look: PatternLook, zero: Flags) -> None:
    """Show a counter all elements: as runs, some scattered, or as parts of a matrix, in any order."""
    flat = zero.reshape(-1)
    if zero.ndim == 2 and data.draw(st.booleans()):
        rows, columns = (sorted({0, data.draw(st.integers(0, size)), size}) for size in zero.shape)
        for top, bottom in data.draw(st.permutations(list(itertools.pairwise(rows)))):
            for left, right in itertools.pairwise(columns):
                own = zero[top:bottom, left:right].reshape(-1)
                for start in range(0, own.size, 100):
                    counter.add(look.look(start, own[start : start + 100], (top, left, right - left)))
        return
    cuts = sorted(data.draw(st.sets(st.integers(0, flat.size), max_size=5)) | {0, flat.size})
    for low, high in data.draw(st.permutations(list(itertools.pairwise(cuts)))):
        if data.draw(st.integers(0, 4)):
            counter.add(look.look(low, flat[low:high]))
        else:
            places = np.random.default_rng(low).permutation(np.arange(low, high))
            counter.add(look.look_at(places, flat[places]))


@given(data=st.data(), zero=tensors(), part=st.sampled_from([1 << 16, 256, 640]))
@settings(max_examples=40, deadline=None)
def test_patterns_are_those_of_all_groups_however_elements_come(data: st.DataObject, zero: Flags, part: int) -> None:
    assume(pattern_look(zero.shape) is not None)
    with patch.object(patterns, "_PART", part):
        first, second = (PatternLook(zero.shape) for _ in range(2))
        counter, other = PatternCounter(first), PatternCounter(second)
        take(data, counter, first, zero)
        expected = patterns_of(zero, part)
        assert counter.result(density_of_rest(zero)) == expected
        cut = data.draw(st.integers(0, zero.size))
        flat = zero.reshape(-1)
        counter = PatternCounter(PatternLook(zero.shape))
        for start, own in ((0, flat[:cut]), (cut, flat[cut:])):  # each on its own rank
            other.add(PatternLook(zero.shape).look(start, own))
            drained = other.drain()
            counter.merge(json.loads(json.dumps(drained)))
        assert other.drain() is None
        assert counter.result(density_of_rest(zero)) == expected


def halves(shape: tuple[int, ...], kept: int, size: int) -> Flags:
    """Zeros at random places of an N:M pattern along the last dimension."""
    order = np.argsort(np.random.default_rng(5).random((math.prod(shape) // size, size)), axis=1)
    return (order >= kept).reshape(shape)


def result_of(zero: Flags, run: int = 1 << 20, density: float | None = None) -> tuple[Pattern, ...]:
    look = PatternLook(zero.shape)
    counter, flat = PatternCounter(look), zero.reshape(-1)
    for start in range(0, flat.size, run):
        counter.add(look.look(start, flat[start : start + run]))
    return counter.result(density_of_rest(zero) if density is None else density)


@pytest.mark.parametrize(("kept", "size"), [(1, 2), (1, 4), (2, 4), (3, 8), (4, 8), (1, 16), (4, 16), (8, 16)])
def test_every_pattern_is_found_along_each_dimension(kept: int, size: int) -> None:
    zero = halves((48, 96), kept, size)
    tightest = f"{kept}:{size}"
    assert result_of(zero) == (Pattern(tightest, 1),)
    assert result_of(zero.T.copy(), run=1000) == (Pattern(tightest, 0),)
    assert result_of(halves((16, 3, 3, 32), kept, size).transpose(0, 3, 1, 2).copy()) == (Pattern(tightest, 1),)


def test_a_pattern_in_both_dimensions() -> None:
    both = (np.add.outer(np.arange(64), np.arange(64)) // 2 % 2).astype(bool)
    assert result_of(both) == (Pattern("2:4", 0), Pattern("2:4", 1))


def test_what_chance_or_whole_columns_leave_is_no_pattern() -> None:
    generator = np.random.default_rng(1)
    for share in (0.5, 0.9, 0.99, 0.9999, 1):
        assert result_of(generator.random((512, 512)) < share) == ()
    columns = np.zeros((64, 32), dtype=np.bool_)
    columns[:, generator.permutation(32)[:24]] = True
    assert result_of(columns) == ()
    assert max((~columns).reshape(64, -1, 16).sum(axis=2).max(), 0) <= 8  # though at most 8 of 16 are left
    assert pattern_look((512,)) is None
    assert pattern_look((8, 8)) is None


def test_large_tensors_take_bounded_memory_and_stop_at_the_first_part() -> None:
    zero = halves((1400, 1500), 2, 4)  # in runs that cut groups
    tracemalloc.start()
    assert result_of(zero, run=99_983, density=0.5) == (Pattern("2:4", 1),)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < zero.size // 8 + (3 << 20)
    look = PatternLook(zero.shape)
    random = np.random.default_rng(2).random(1 << 18) < 0.9
    assert look.look(0, random) is None
    assert look.look(1 << 20, random) is None  # whatever comes
    wide = PatternLook((4, 1 << 20))
    assert [line.dim for line in wide.lines] == [1]
