"""Where zeros lie: the tally of runs in any order against numpy on the whole matrix."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from structure_zoo import Flags, structure_of

from prunecli.core.structure import Structure
from prunecli.core.structure_tally import StructureTally


@st.composite
def matrices(draw: st.DrawFn) -> Flags:
    """Flags of all shapes, in which whole rows, columns and blocks are often zero, or nothing is."""
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 12, 15, 16, 17, 40]), max_size=3).map(tuple))
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


def add(tally: StructureTally, places: NDArray[np.int64], zero: Flags) -> None:
    """Take in a piece: as a run if it is one."""
    flags = zero.reshape(-1)[places]
    if places.size and np.array_equal(places, np.arange(places[0], places[0] + places.size)):
        tally.add(int(places[0]), flags)
    else:
        tally.add_at(places, flags)


@given(data=st.data(), zero=matrices(), cells=st.sampled_from([0, 1, 3, 8, 128]))
@settings(max_examples=300, deadline=None)
def test_the_structure_is_that_of_the_whole_matrix_however_its_elements_come(
    data: st.DataObject, zero: Flags, cells: int
) -> None:
    tally = StructureTally(zero.shape, cells)
    for places in data.draw(splits(zero.size)):
        add(tally, places, zero)
    assert tally.result() == structure_of(zero, cells)


@given(data=st.data(), zero=matrices(), cells=st.sampled_from([0, 5]))
@settings(max_examples=200, deadline=None)
def test_what_several_tallies_saw_adds_up_wherever_it_is_handed_over(
    data: st.DataObject, zero: Flags, cells: int
) -> None:
    tallies = [StructureTally(zero.shape, cells) for _ in range(3)]
    for places in data.draw(splits(zero.size)):
        one, other = (tallies[data.draw(st.integers(0, 2))] for _ in range(2))
        add(one, places, zero)
        if data.draw(st.booleans()):
            told = one.take()
            if told is not None:
                other.give(json.loads(json.dumps(told)))
    for each in tallies[1:]:
        told = each.take()
        if told is not None:
            tallies[0].give(told)
    assert tallies[0].result() == structure_of(zero, cells)
    assert all(each.take() is None for each in tallies[1:])


@given(data=st.data(), zero=matrices().filter(lambda zero: zero.ndim == 2), cells=st.sampled_from([0, 1, 3, 128]))
@settings(max_examples=200, deadline=None)
def test_parts_of_a_matrix_are_taken_in_run_by_run_of_their_own(data: st.DataObject, zero: Flags, cells: int) -> None:
    tally = StructureTally(zero.shape, cells)
    rows, columns = (sorted(data.draw(st.sets(st.integers(0, size), max_size=2)) | {0, size}) for size in zero.shape)
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            part = zero[top:bottom, left:right].reshape(-1)
            cuts = sorted(data.draw(st.sets(st.integers(0, part.size), max_size=3)) | {0, part.size})
            for low, high in itertools.pairwise(cuts):
                tally.add(low, part[low:high], (top, left, right - left))
    assert tally.result() == structure_of(zero, cells)


@pytest.mark.parametrize("shape", [(2**21 + 5,), (2**21, 1), (3000, 1001), (700, 300, 9), (70001, 20)])
def test_large_matrices_in_blocks_by_threads(shape: tuple[int, ...]) -> None:
    zero = np.random.default_rng(1).random(shape) < 0.3
    flat = zero.reshape(-1)
    tally = StructureTally(shape)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda start: tally.add(start, flat[start : start + 2**20]), range(0, flat.size, 2**20)))
    found = tally.result()
    matrix = zero.reshape(shape[0], -1) if len(shape) > 1 else zero[None]
    assert found is not None
    assert found.empty_rows == matrix.all(axis=1).sum()
    assert found.empty_columns == matrix.all(axis=0).sum()
    assert found.halved_fours == (None if matrix.shape[1] % 4 else (matrix.reshape(-1, 4).sum(axis=1) >= 2).sum())


def test_nothing_is_told_before_the_last_element_has_come() -> None:
    tally = StructureTally((2, 3))
    tally.add(1, np.zeros(5, dtype=np.bool_))
    assert tally.result() is None
    tally.add(0, np.ones(1, dtype=np.bool_))
    assert tally.result() == Structure(2, 3, 0, 0, 1, 0)
