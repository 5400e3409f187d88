"""Boxes against numpy's own slicing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prunecli.formats.folders.dcp.boxes import Box, tile


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    shape, offsets, sizes = [], [], []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.sampled_from([1, 2, 3, 5, 7]))
        first = draw(st.integers(0, size - 1))
        shape.append(size)
        offsets.append(first)
        sizes.append(draw(st.integers(1, size - first)))
    return Box(tuple(shape), tuple(offsets), tuple(sizes))


def indices(box: Box) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    whole = np.arange(np.prod(box.shape), dtype=np.int64).reshape(box.shape)
    return whole[tuple(slice(at, at + n) for at, n in zip(box.offsets, box.sizes, strict=True))].reshape(-1)


@given(boxes(), st.data())
def test_a_box_holds_what_slicing_takes_in_that_order(box: Box, data: st.DataObject) -> None:
    expected = indices(box)
    first = data.draw(st.integers(0, box.elements - 1))
    count = data.draw(st.integers(1, box.elements - first))
    base = data.draw(st.integers(0, int(expected[first])))
    whole = np.arange(np.prod(box.shape))[base:]
    assert np.array_equal(whole[box.place(first, count, base)], expected[first : first + count])
    assert np.array_equal(box.spread(np.arange(first, first + count)), expected[first : first + count])


@given(boxes())
def test_below_counts_what_comes_before(box: Box) -> None:
    expected = indices(box)
    for index in range(int(np.prod(box.shape)) + 1):
        assert box.below(index) == int(np.count_nonzero(expected < index))


def test_long_rows_are_placed_like_short_ones() -> None:
    box = Box((3, 4, 5000), (1, 1, 7), (2, 2, 4990))
    expected = indices(box)
    for first, count in ((0, 4990), (1, 4991), (4989, 10001), (0, box.elements)):
        assert np.array_equal(np.arange(60000)[box.place(first, count)], expected[first : first + count])


@given(st.lists(st.tuples(st.tuples(*[st.integers(0, 3)] * 2), st.tuples(*[st.integers(1, 4)] * 2)), max_size=5))
def test_tiles_are_those_that_cover_each_element_once(pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    shape = (3, 4)
    inside = all(at + own <= size for box in pairs for at, own, size in zip(*box, shape, strict=True))
    covered = np.zeros(shape, dtype=int)
    for (row, column), (height, width) in pairs:
        covered[row : row + height, column : column + width] += 1
    assert tile(shape, pairs) == (inside and bool(np.all(covered == 1)))


def test_grids_tile_and_lose_that_with_any_box() -> None:
    grid = [((i, j, 0), (2, 1, 5)) for i in (0, 2) for j in range(3)]
    assert tile((4, 3, 5), grid)
    for missing in range(len(grid)):
        assert not tile((4, 3, 5), [box for place, box in enumerate(grid) if place != missing])
        assert not tile((4, 3, 5), [*grid, grid[missing]])
    assert tile((3, 0), [])
    assert tile((), [((), ())])
    assert not tile((), [])
