"""N:M patterns: of every M neighbours the N largest are kept, or all that a mask leaves if these are fewer."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from method_runs import Bools, MethodRun, only
from numpy.typing import NDArray
from torch import Tensor

from prunecli.core import kernel
from prunecli.core.methods.base import Target
from prunecli.core.methods.groups import GroupsOf
from prunecli.core.methods.ranked import Ranked
from prunecli.core.methods.request import method_request
from prunecli.errors import UsageError
from prunecli.terms import render

L1, SCORES = Ranked(), Ranked(scores=True, signed=True)
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


@pytest.fixture(params=["kernel", "numpy"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)


def unlike(*shape: int, seed: int = 0) -> Tensor:
    """Numbers of which no two have the same magnitude, at most 256: types of two bytes have them all."""
    generator, count = torch.Generator().manual_seed(seed), math.prod(shape)
    numbers = torch.randperm(count, generator=generator) + 1.0
    return (numbers * torch.where(torch.rand(count, generator=generator) < 0.5, -1, 1)).reshape(shape)


def oracle(values: NDArray[Any], left: Bools, kept: int, size: int, dim: int) -> Bools:
    """What is kept, group by group."""
    keep = np.moveaxis(np.zeros_like(left), dim, -1)
    moved, candidates = np.moveaxis(values, dim, -1), np.moveaxis(left, dim, -1)
    for place in np.ndindex(keep.shape[:-1]):
        for start in range(0, keep.shape[-1], size):
            inside = [at for at in range(start, start + size) if candidates[(*place, at)]]
            inside.sort(key=lambda at: moved[(*place, at)])
            for at in inside[max(0, len(inside) - kept) :]:
                keep[(*place, at)] = True
    return np.moveaxis(keep, -1, dim)


SHAPES = [((6, 40), None, 1), ((16, 10), 0, 0), ((3, 8, 3, 3), None, 1), ((3, 8, 2, 2, 2), None, 1), ((8, 3, 4), -1, 2)]
SHAPES += [((8, 3, 4), 0, 0), ((24,), 0, 0)]

PATTERNS = [(2, 4), (1, 4), (3, 8)]
CASES = [(pattern, *each) for pattern in PATTERNS for each in SHAPES if each[0][each[2]] % pattern[1] == 0]


@pytest.mark.parametrize(("pattern", "shape", "dim", "place"), CASES, ids=str)
def test_the_largest_of_each_group_are_kept(
    pattern: tuple[int, int], shape: tuple[int, ...], dim: int | None, place: int
) -> None:
    tensor, scores = unlike(*shape), unlike(*shape, seed=1)
    everything = np.ones(shape, np.bool_)
    masked = np.random.default_rng(2).random(shape) < 0.6
    for left in (everything, masked):
        options: Any = {} if left is everything else {"before": left}
        keep = only(GroupsOf(*pattern, dim, L1), tensor, **options)
        assert np.array_equal(keep, oracle(tensor.abs().numpy(), left, *pattern, place))
        for signed in (False, True):
            keep = only(GroupsOf(*pattern, dim, Ranked(scores=True, signed=signed)), tensor, scores=scores, **options)
            values = scores if signed else scores.abs()
            assert np.array_equal(keep, oracle(values.numpy(), left, *pattern, place))
        keep = only(GroupsOf(*pattern, dim), tensor, **options)
        counts = np.moveaxis(keep, place, -1).reshape(-1, pattern[1]).sum(axis=1)
        before = np.moveaxis(left, place, -1).reshape(-1, pattern[1]).sum(axis=1)
        assert np.array_equal(counts, np.minimum(before, pattern[0]))
        assert not (keep & ~left).any()


@pytest.mark.parametrize("dtype", FLOATS + FLOAT8, ids=str)
def test_every_float_type_is_in_the_order_of_its_magnitudes(dtype: torch.dtype) -> None:
    tensor = unlike(8, 32).to(dtype)
    if dtype in FLOAT8:  # has 119 magnitudes or more: groups without equal ones
        tensor = (torch.arange(1, 113, dtype=torch.uint8) ^ (torch.arange(112) % 3 == 0).to(torch.uint8) << 7).view(
            dtype
        )
        tensor = tensor[torch.randperm(112, generator=torch.Generator().manual_seed(1))].reshape(7, 16)
    keep = only(GroupsOf(2, 4, 1, L1), tensor)
    assert np.array_equal(keep, oracle(tensor.double().abs().numpy(), np.ones(keep.shape, np.bool_), 2, 4, 1))


@pytest.mark.parametrize("dtype", FLOATS + FLOAT8, ids=str)
def test_nan_is_not_smaller_than_anything_and_zeros_are_equal(dtype: torch.dtype) -> None:
    largest = 2.0 if dtype in FLOAT8 else math.inf
    tensor = torch.tensor([[math.nan, -largest, largest, math.nan], [0.0, -1.0, -0.0, 0.5]]).to(dtype)
    assert only(GroupsOf(2, 4, None, L1), tensor).tolist() == [[True, False, False, True], [False, True, False, True]]
    zeros = torch.tensor([[0.0, -0.0]]).to(dtype)
    kept = MethodRun(GroupsOf(1, 2, None, L1), {f"w{number}": zeros for number in range(60)}).keep()
    assert {each.tobytes() for each in kept.values()} == {b"\0\1", b"\1\0"}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", FLOATS + FLOAT8, ids=str)
def test_a_note_counts_nan_that_is_left(dtype: torch.dtype, masked: bool) -> None:
    tensor = torch.tensor([[1.0, math.nan, math.nan, math.nan], [0.0, 1.0, -1.0, 2.0]]).to(dtype)
    before = {"w": np.array([[True, True, False, True], [True, True, True, False]])} if masked else {}
    run = MethodRun(GroupsOf(2, 4, None, L1), {"w": tensor}, before=before, block=4)
    run.keep()
    words = "NaN is larger than anything, and stays unless more than 2 of 4 neighbours are NaN"
    assert run.notes == [f"{words}: {2 if masked else 3} of w"]
    for method, other in ((GroupsOf(2, 4), tensor), (GroupsOf(2, 4, None, L1), tensor[1:])):
        quiet = MethodRun(method, {"w": other}, block=4)
        quiet.keep()
        assert quiet.notes == []


@pytest.mark.parametrize("ranked", [None, L1, SCORES], ids=["random", "l1", "scores"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dim", [0, 1])
def test_the_order_of_blocks_and_their_size_do_not_matter(ranked: Ranked | None, masked: bool, dim: int) -> None:
    tensor = torch.randint(-2, 3, (24, 36), generator=torch.Generator().manual_seed(4)).bfloat16()
    options: dict[str, Any] = {"scores": tensor.float()} if ranked and ranked.scores else {}
    if masked:
        options["before"] = np.random.default_rng(1).random((24, 36)) < 0.7
    method = GroupsOf(2, 4, dim, ranked)
    first = only(method, tensor, block=1 << 20, **options)
    for order in range(3):
        assert np.array_equal(only(method, tensor, order=order, block=10 + 40 * order, **options), first)
    assert not np.array_equal(only(method, tensor, seed=8, **options), first)


def test_all_patterns_are_equally_likely() -> None:
    ones = torch.ones(1, 12_000)
    for method in (GroupsOf(2, 4), GroupsOf(2, 4, None, L1)):
        keep = only(method, ones, block=1 << 20).reshape(-1, 4)
        counts = np.unique(keep @ [1, 2, 4, 8], return_counts=True)[1]
        assert counts.size == 6
        assert ((counts - 500) ** 2 / 500).sum() < 20.5  # 5 degrees of freedom, 0.1 %


def test_nan_among_scores_is_refused_and_negative_ones_are_noted() -> None:
    scores = torch.tensor([[1.0, -2.0, 3.0, -4.0], [1.0, 2.0, 3.0, math.nan]])
    method, tensor = GroupsOf(2, 4, None, SCORES), torch.ones(2, 4)
    with pytest.raises(UsageError, match=r"^the scores of w contain NaN, which is neither small nor large$"):
        only(method, tensor, scores=scores)
    run = MethodRun(method, {"w": tensor[:1]}, scores={"w": scores[:1]})
    assert run.keep()["w"].tolist() == [[True, False, True, False]]
    assert list(map(render, run.notes)) == [
        "negative scores are pruned before 0 and positive ones (see --abs-scores): 2 of w"
    ]
    left = np.ones((2, 4), np.bool_)
    left[1, 3] = False  # what is pruned has no part in it
    assert only(method, tensor, scores=scores, before=left).sum() == 4


def refused(method: GroupsOf, *shape: int) -> str:
    with pytest.raises(UsageError) as error:
        only(method, torch.ones(shape))
    return str(error.value)


def test_what_cannot_be_done_is_refused_with_the_numbers() -> None:
    expected = "--n-of-m 2:4: w has 3 dimensions; say along which one the groups lie by --dim, or exclude it"
    assert refused(GroupsOf(2, 4), 4, 4, 4) == expected
    expected = "--n-of-m 2:4: w has 1 dimension; say along which one the groups lie by --dim, or exclude it"
    assert refused(GroupsOf(2, 4), 4) == expected
    assert refused(GroupsOf(2, 4, 2), 4, 8) == "--dim 2: w has the shape [4, 8]"
    expected = (
        "--n-of-m 2:4: dimension 1 of w has the size 30, which 4 does not divide; choose another one by --dim, or "
    )
    assert refused(GroupsOf(2, 4), 8, 30) == f"{expected}exclude it"
    wide = Target("w", "w", (8, 1 << 19), "float32", 1 << 22)
    GroupsOf(1, 8, 0).check(wide)
    with pytest.raises(UsageError, match=r"^--n-of-m 1:8: a group along dimension 0 of w lies within 4,194,312 ele"):
        GroupsOf(1, 8, 0).check(replace(wide, shape=(8, (1 << 19) + 1)))


@pytest.mark.parametrize("text", ["4:2", "4:4", "0:2", "0:0"])
def test_patterns_that_keep_nothing_or_everything_are_refused(text: str) -> None:
    kept, size = text.split(":")
    with pytest.raises(
        UsageError, match=rf"^--n-of-m {text} keeps {kept} of every {size} elements; N is from 1 to M - 1$"
    ):
        method_request(n_of_m=text)


def test_a_plan_states_the_dimension() -> None:
    for shape, dim, expected in [((4, 8), None, 1), ((8, 4), 0, 0), ((2, 4, 3, 3), None, 1), ((2, 4, 4), -1, 2)]:
        target = Target("w", "w", shape, "float32", math.prod(shape))
        assert GroupsOf(2, 4, dim).detail(target) == f"2:4 along dimension {expected}"
