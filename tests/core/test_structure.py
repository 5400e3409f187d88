"""Where zeros lie: the counter of runs in any order against numpy on the whole matrix."""

import itertools
import json
import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from structure_zoo import groups_of, structure_of

from prunecli.core.raw_elements import Flags
from prunecli.core.structure.counter import StructureCounter
from prunecli.core.structure.model import Structure


@st.composite
def matrices(draw: st.DrawFn) -> Flags:
    """Flags of all shapes, in which whole rows, columns and blocks are often zero, or nothing is."""
    sizes, kernels = st.sampled_from([0, 1, 2, 3, 4, 8, 12, 15, 16, 17, 40]), st.lists(st.integers(1, 3), max_size=3)
    convolutions = st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 4, 8, 12, 16]), kernels)
    shape = draw(st.lists(sizes, max_size=3).map(tuple) | convolutions.map(lambda sides: (*sides[:2], *sides[2])))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    zero = generator.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    if zero.ndim > 1 and zero.size:
        zero[generator.random(shape[0]) < draw(st.sampled_from([0.0, 0.5, 0.9]))] = True
        zero[:, generator.random(shape[1]) < draw(st.sampled_from([0.0, 0.5, 0.9]))] = True
    return np.asarray(zero)


@st.composite
def splits(draw: st.DrawFn, size: int) -> list[NDArray[np.int64]]:
    """Cut `size` places into pieces, in any order: runs, or what is scattered."""
    cuts = sorted(draw(st.sets(st.integers(0, size), max_size=6)) | {0, size})
    pieces = [np.arange(low, high) for low, high in itertools.pairwise(cuts)]
    if draw(st.booleans()):
        pieces.insert(0, np.arange(0))
    if draw(st.booleans()) and pieces:
        mixed = np.random.default_rng(draw(st.integers(0, 2**32))).permutation(np.concatenate(pieces[:3]))
        pieces = [*np.array_split(mixed, 2), *pieces[3:]]
    return draw(st.permutations(pieces))


def add(counter: StructureCounter, places: NDArray[np.int64], zero: Flags) -> None:
    """Take in a piece: as a run if it is one."""
    flags = zero.reshape(-1)[places]
    if places.size and np.array_equal(places, np.arange(places[0], places[0] + places.size)):
        counter.add(counter.look(int(places[0]), flags))
    else:
        counter.add(counter.look_at(places, flags))


@given(data=st.data(), zero=matrices(), cells=st.sampled_from([0, 1, 3, 8, 128]))
@settings(max_examples=100, deadline=None)
def test_the_structure_is_that_of_the_whole_matrix_however_its_elements_come(
    data: st.DataObject, zero: Flags, cells: int
) -> None:
    counter = StructureCounter(zero.shape, cells)
    for places in data.draw(splits(zero.size)):
        add(counter, places, zero)
    assert counter.result() == structure_of(zero, cells)


@given(data=st.data(), zero=matrices(), cells=st.sampled_from([0, 5]))
@settings(max_examples=100, deadline=None)
def test_what_several_counters_saw_adds_up_wherever_it_is_handed_over(
    data: st.DataObject, zero: Flags, cells: int
) -> None:
    counters = [StructureCounter(zero.shape, cells) for _ in range(3)]
    for places in data.draw(splits(zero.size)):
        one, other = (counters[data.draw(st.integers(0, 2))] for _ in range(2))
        add(one, places, zero)
        if data.draw(st.booleans()):
            drained = one.drain()
            if drained is not None:
                other.merge(json.loads(json.dumps(drained)))
    for each in counters[1:]:
        drained = each.drain()
        if drained is not None:
            counters[0].merge(drained)
    assert counters[0].result() == structure_of(zero, cells)
    assert all(each.drain() is None for each in counters[1:])


@given(data=st.data(), zero=matrices().filter(lambda zero: zero.ndim > 1), cells=st.sampled_from([0, 1, 3, 128]))
@settings(max_examples=100, deadline=None)
def test_parts_of_a_matrix_are_taken_in_run_by_run_of_their_own(data: st.DataObject, zero: Flags, cells: int) -> None:
    counter = StructureCounter(zero.shape, cells)
    matrix = zero.reshape(zero.shape[0], math.prod(zero.shape[1:]))
    rows, columns = (sorted(data.draw(st.sets(st.integers(0, size), max_size=2)) | {0, size}) for size in matrix.shape)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            part = matrix[top:bottom, left:right].reshape(-1)
            cuts = sorted(data.draw(st.sets(st.integers(0, part.size), max_size=3)) | {0, part.size})
            for low, high in itertools.pairwise(cuts):
                counter.add(counter.look(low, part[low:high], (top, left, right - left)))
    assert counter.result() == structure_of(zero, cells)


@pytest.mark.parametrize("shape", [(2**21 + 5,), (2**21, 1), (3000, 1001), (700, 300, 9), (70001, 20)])
def test_large_matrices_in_blocks_by_threads(shape: tuple[int, ...]) -> None:
    zero = np.random.default_rng(1).random(shape) < 0.3
    flat = zero.reshape(-1)
    counter = StructureCounter(shape)
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda start: counter.look(start, flat[start : start + 2**20]), range(0, flat.size, 2**20))
        for each in runs:
            counter.add(each)
    found = counter.result()
    matrix = zero.reshape(shape[0], -1) if len(shape) > 1 else zero[None]
    assert found is not None
    assert found.empty_rows == matrix.all(axis=1).sum()
    assert found.empty_columns == matrix.all(axis=0).sum()
    assert (found.groups_of_4, found.groups_of_4_with_2_zeros) == groups_of(zero, 4)
    assert (found.groups_of_8, found.groups_of_8_with_4_zeros) == groups_of(zero, 8)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1), (7,), (2, 3, 3)])
def test_a_convolution_is_looked_at_along_its_input_channels(kernel: tuple[int, ...]) -> None:
    """Pruned 2:4 along the channels, as hardware takes it, and then along the flattened row, as it does not."""
    channels = np.zeros((16, 32, *kernel), dtype=np.bool_)
    channels[:, ::2] = True
    two_of_four = np.argsort(np.random.default_rng(3).random((channels.size // 4, 4)), axis=1) < 2
    for zero, halved in ((channels, True), (two_of_four.reshape(channels.shape), math.prod(kernel) == 1)):
        counter = StructureCounter(zero.shape)
        counter.add(counter.look(0, zero.reshape(-1)))
        found = counter.result()
        assert found is not None
        assert (found.group_dimension, found.groups_of_4) == (1, zero.size // 4)
        assert (found.groups_of_4_with_2_zeros == found.groups_of_4) is halved
        assert (found.groups_of_4, found.groups_of_4_with_2_zeros) == groups_of(zero, 4)
    counter = StructureCounter((16, 3, *kernel))
    counter.add(counter.look(0, np.ones(math.prod((16, 3, *kernel)), dtype=np.bool_)))
    assert counter.result() == structure_of(np.ones((16, 3, *kernel), dtype=np.bool_), 0)


def test_a_stack_of_matrices_is_looked_at_along_their_rows() -> None:
    zero = np.zeros((4, 12, 64), dtype=np.bool_)
    zero[..., ::2] = True
    counter = StructureCounter(zero.shape)
    counter.add(counter.look(0, zero.reshape(-1)))
    found = counter.result()
    assert found is not None
    assert (found.group_dimension, found.groups_of_4_with_2_zeros, found.groups_of_4) == (
        2,
        zero.size // 4,
        zero.size // 4,
    )


def test_counting_strided_groups_takes_memory_in_steps() -> None:
    """Twenty million flags in runs that cut every group: a bit for each, and what one step takes."""
    shape = (512, 4096, 3, 3)
    counter, count = StructureCounter(shape), math.prod(shape)
    run = np.random.default_rng(2).random(1_000_003) < 0.5
    tracemalloc.start()
    for first in range(0, count, run.size):
        counter.add(counter.look(first, run[: count - first]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    zero = np.resize(run, count).reshape(shape)
    found = counter.result()
    assert found is not None
    assert (found.groups_of_4, found.groups_of_4_with_2_zeros) == groups_of(zero, 4)
    assert peak < count // 8 + (12 << 20)


def test_nothing_is_drained_before_the_last_element_has_come() -> None:
    counter = StructureCounter((2, 3))
    counter.add(counter.look(1, np.zeros(5, dtype=np.bool_)))
    assert counter.result() is None
    counter.add(counter.look(0, np.ones(1, dtype=np.bool_)))
    assert counter.result() == Structure(2, 0, 3, 0, 1, 0, None, None, None, None)
