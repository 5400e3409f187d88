"""Views against numpy's as_strided, torch's contiguity, and element sets counted one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecli.formats import views
from prunecli.formats.views import View, overlap

_SIZES = st.integers(0, 4) | st.just(1)


@st.composite
def _tensors(draw: st.DrawFn) -> torch.Tensor:
    """What indexing can make of a tensor: permuted, sliced, with steps, expanded, 0-d, empty."""
    shape = draw(st.lists(_SIZES, max_size=4))
    tensor = torch.zeros(shape)
    for axis in range(len(shape)):
        low, step = draw(st.integers(0, 2)), draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * axis + (slice(low, None, step),)]
    tensor = tensor.permute(draw(st.permutations(range(tensor.dim()))))
    if draw(st.booleans()):
        tensor = tensor.unsqueeze(0).expand(draw(st.integers(1, 3)), *tensor.shape)
    if tensor.dim() and tensor.shape[0] and draw(st.booleans()):
        tensor = tensor[0]
    return tensor


@st.composite
def _any_views(draw: st.DrawFn) -> View:
    """What a file may claim: any strides, also those that visit an element twice."""
    dims = draw(st.lists(st.tuples(_SIZES, st.integers(0, 7)), max_size=3))
    return View(draw(st.integers(0, 12)), tuple(n for n, _ in dims), tuple(step for _, step in dims))


def _view(tensor: torch.Tensor) -> View:
    return View(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def _positions(view: View) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The storage element of each logical one, in row-major order."""
    places = np.full(view.shape, view.start, dtype=np.int64)
    for axis, step in enumerate(view.stride):
        places += (np.arange(view.shape[axis]) * step).reshape([-1 if i == axis else 1 for i in range(len(view.shape))])
    return places.ravel()


@given(_tensors())
def test_torchs_views_are_nested_and_contiguous_as_torch_says(tensor: torch.Tensor) -> None:
    view = _view(tensor)
    assert view.nested
    assert view.row_major == tensor.is_contiguous()
    assert view.elements == tensor.numel()


@given(_any_views() | _tensors().map(_view), st.integers(0, 40), st.integers(0, 40))
def test_geometry_is_that_of_the_elements(view: View, first: int, count: int) -> None:
    positions = _positions(view)
    assert view.elements == positions.size
    assert view.stop == (positions.max() + 1 if positions.size else view.start)
    assert view.row_major == np.array_equal(positions, view.start + np.arange(positions.size))
    distinct = len(set(positions.tolist()))
    if view.nested:
        assert distinct * view.repeats == positions.size
        inside, logical = view.place(first, count)
        assert inside.tolist() == [place in set(positions.tolist()) for place in range(first, first + count)]
        assert np.array_equal(positions[logical[inside]], (first + np.arange(count))[inside])
        assert not logical[~inside].any()
    else:
        assert positions.size  # nothing is simpler than no elements


@given(_any_views())
def test_whatever_visits_an_element_twice_by_strides_other_than_zero_is_not_nested(view: View) -> None:
    dims = [dim for dim in view.normal() if dim[1]]
    once = View(view.start, tuple(n for n, _ in dims), tuple(step for _, step in dims))
    if len(set(_positions(once).tolist())) < once.elements:
        assert not view.nested


@given(_tensors())
def test_place_gives_the_first_of_the_logical_elements_that_share_one(tensor: torch.Tensor) -> None:
    view = _view(tensor)
    positions = _positions(view).tolist()
    inside, logical = view.place(0, view.stop)
    for place in np.flatnonzero(inside).tolist():
        assert logical[place] == positions.index(place)


@given(st.lists(_SIZES, max_size=4), st.integers(0, 5))
def test_of_a_shape_is_what_torch_makes(shape: list[int], start: int) -> None:
    view = View.of(shape, start)
    assert view == View(start, tuple(shape), torch.empty(shape).stride())
    assert view.row_major
    assert view.nested
    assert view.repeats == 1


@settings(max_examples=200)
@given(_any_views(), _any_views())
def test_overlap_is_a_common_element(one: View, other: View) -> None:
    common = bool(set(_positions(one).tolist()) & set(_positions(other).tolist()))
    assert overlap(one, other) == overlap(other, one)
    if one.nested and other.nested:
        assert overlap(one, other) == common
    else:
        assert overlap(one, other) or not common  # which elements are whose is not known: better one tie too many


@pytest.mark.parametrize("column", range(4))
def test_columns_of_one_storage_do_not_overlap_though_their_ranges_do(column: int) -> None:
    rows = torch.zeros(5, 4)
    mine, neighbour = _view(rows[:, column]), _view(rows[:, (column + 1) % 4])
    assert not overlap(mine, neighbour)
    assert overlap(mine, _view(rows))
    assert overlap(_view(rows), mine)


def test_overlap_looks_step_by_step_at_large_views() -> None:
    step = views._STEP
    far = View(0, (3,), (step,))
    assert overlap(far, View(2 * step, (5,), (1,)))
    assert overlap(far, View(2 * step - 1, (2, 2), (3, 1)))
    assert not overlap(far, View(2 * step + 1, (5,), (2,)))
    assert not overlap(View(1, (3,), (step,)), View(2, (3,), (step,)))
