"""L1 and scores: exact counts, torch's choice where no ties decide, fair ones where they do, however divided."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from blockwise import Bools, Outcome, Tensor, carry_out, dropped_by
from torch import nn
from torch.nn.utils import prune as torch_prune

from prunecli.core import kernel
from prunecli.core.methods import make_method, threshold
from prunecli.core.methods.request import MethodRequest
from prunecli.core.order import Order
from prunecli.errors import UsageError
from prunecli.terms import render

FLOATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e5m2fnuz")
prune: Any = torch_prune  # its functions have no types
L1 = make_method(MethodRequest("l1"))
SCORES = make_method(MethodRequest("scores", scores="some.pt"))
ABS_SCORES = make_method(MethodRequest("scores", scores="some.pt", abs_scores=True))


@pytest.fixture(params=["kernel", "numpy", "many"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the kernel, without it, and with histograms of even the smallest blocks."""
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)
    if request.param != "kernel":
        monkeypatch.setattr(threshold, "_FEW", -1)
    return str(request.param)


def bits(values: torch.Tensor, dtype: str) -> Any:
    """The elements of a tensor as unsigned integers."""
    width = getattr(torch, dtype).itemsize
    return values.to(getattr(torch, dtype)).reshape(-1).contiguous().view(torch.uint8).numpy().view(f"u{width}")


def some(dtype: str, *shape: int, seed: int = 1, masked: bool = False, ties: bool = True) -> Tensor:
    """Random elements; with `ties`, of a few values, both zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    values = torch.round(values * 4) / 4 if ties else values
    left = (torch.rand(shape, generator=generator) < 0.7).reshape(-1).numpy() if masked else None
    raw = bits(values, dtype)
    return Tensor(raw, dtype, shape, np.ones(raw.size, np.bool_) if left is None else left)


def keys_of(tensor: Tensor) -> Any:
    return Order(tensor.dtype).values(Order(tensor.dtype).keys(tensor.raw))


def is_smallest(dropped: Mapping[str, Bools], tensors: Mapping[str, Tensor], count: int) -> bool:
    """Whether exactly so many are dropped, and none that is kept is smaller than one of them."""
    gone = np.concatenate([keys_of(each)[dropped[key]] for key, each in tensors.items()])
    kept = np.concatenate([keys_of(each)[each.left & ~dropped[key]] for key, each in tensors.items()])
    assert gone.size == count
    assert not np.isnan(gone).any()
    return bool(not gone.size or not kept.size or gone.max() <= np.nanmin(kept, initial=np.inf))


def masks(outcome: Outcome) -> list[bytes]:
    return [outcome.dropped[key].tobytes() for key in sorted(outcome.dropped)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_without_ties_the_masks_are_torchs(dtype: str, way: str) -> None:
    torch.manual_seed(5)
    layers: Any = nn.ModuleList(nn.Linear(60, 50, bias=False, dtype=getattr(torch, dtype)) for _ in range(2))
    patterns = torch.randperm(8000) + 0x3C00  # different magnitudes in every type
    for place, layer in enumerate(layers):
        values = patterns[place * 3000 : (place + 1) * 3000].to(torch.int16).view(torch.bfloat16)
        signs = torch.randint(0, 2, (3000,)) * 2 - 1
        layer.weight.data = (values.to(layer.weight.dtype) * signs).view(50, 60)
    weights: list[Any] = [layer.weight.detach().clone() for layer in layers]
    tensors = {
        str(place): Tensor(bits(each, dtype), dtype, (50, 60), np.ones(3000, np.bool_))
        for place, each in enumerate(weights)
    }
    for amount in (0.0, 0.3, 0.5, 0.97, 1.0, 1, 77):
        expected = [~prune.L1Unstructured(amount).compute_mask(each, torch.ones_like(each)).bool() for each in weights]
        found = carry_out(L1, tensors, amount, size=512)
        assert masks(found) == [each.numpy().tobytes() for each in expected]
    for amount in (0.4, 1234):
        for layer in layers:
            prune.identity(layer, "weight")
        prune.global_unstructured([(each, "weight") for each in layers], prune.L1Unstructured, amount=amount)
        found = carry_out(L1, tensors, amount, global_=True, size=512)
        assert masks(found) == [(~each.weight_mask.bool()).numpy().tobytes() for each in layers]
        for layer in layers:
            prune.remove(layer, "weight")
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight.clone()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e5m2fnuz"])
def test_the_count_is_exact_and_the_mask_the_same_however_the_work_is_divided(
    dtype: str, masked: bool, way: str
) -> None:
    tensors = {
        "a": some(dtype, 30, 41, masked=masked),
        "b": some(dtype, 7, seed=2, masked=masked),
        "c": some(dtype, 900, seed=3, masked=masked, ties=False),
    }
    left = {key: int(each.left.sum()) for key, each in tensors.items()}
    for amount, global_ in itertools.product((0.1, 0.6), (False, True)):
        ways: list[dict[str, Any]] = [
            {"size": 1 << 20},
            {"size": 300},
            {"size": 300, "shuffled": 1, "ranks": 2},
            {"size": 300, "ranks": 3},
            {"size": 1 << 20, "ranks": 2},
        ]
        outcomes = [carry_out(L1, tensors, amount, global_=global_, seed=7, **each) for each in ways]
        assert all(masks(each) == masks(outcomes[0]) for each in outcomes)
        dropped = outcomes[0].dropped
        if global_:
            assert is_smallest(dropped, tensors, round(amount * sum(left.values())))
        else:
            for key, each in tensors.items():
                assert is_smallest({key: dropped[key]}, {key: each}, round(amount * left[key]))
        assert {key: choice.pruned for key, choice in outcomes[1].choices.items()} == {
            key: int(each.sum()) for key, each in dropped.items()
        }
        for key, tensor in tensors.items():  # a report contains enough to choose again
            target = tensor.target(key)
            choice = outcomes[1].choices[key]
            again = L1.replay(target, 7, choice.pruned, choice.as_dict())
            assert np.array_equal(dropped_by(again, tensor, tensor.blocks(L1, target, 300)), dropped[key])


def test_types_can_be_mixed_in_a_global_amount(way: str) -> None:
    tensors = {dtype: some(dtype, 500, seed=place, masked=True) for place, dtype in enumerate(FLOATS)}
    for some_of in (tensors, {key: each for key, each in tensors.items() if key != "float64"}):
        found = carry_out(L1, some_of, 0.4, global_=True, size=128)
        assert is_smallest(found.dropped, some_of, round(0.4 * sum(int(each.left.sum()) for each in some_of.values())))
        for key, tensor in some_of.items():
            choice, target = found.choices[key], tensor.target(key)
            again = L1.replay(target, 0, choice.pruned, choice.as_dict())
            assert np.array_equal(dropped_by(again, tensor, tensor.blocks(L1, target, 128)), found.dropped[key])
    with pytest.raises(UsageError, match=r"^integers are ordered among themselves only"):
        carry_out(
            L1, {**tensors, "i": Tensor(np.zeros(4, np.uint8), "int8", (4,), np.ones(4, np.bool_))}, 1, global_=True
        )
    with pytest.raises(UsageError, match=r"^only real numbers have an order, and c is complex64; exclude it$"):
        L1.check(Tensor(np.zeros(4, np.uint64), "complex64", (4,), np.ones(4, np.bool_)).target("c"))


def test_integers_are_ordered_by_magnitude(way: str) -> None:
    values = np.array([-128, 127, 0, -1, 2, -3, 100, -100], np.int8)
    tensor = Tensor(values.view(np.uint8), "int8", (8,), np.ones(8, np.bool_))
    for amount, expected in ((4, {0, -1, 2, -3}), (7, {0, -1, 2, -3, 100, -100, 127})):
        assert set(values[carry_out(L1, {"i": tensor}, amount, size=4).dropped["i"]].tolist()) == expected
    assert carry_out(L1, {"i": tensor}, 8, size=4).dropped["i"].all()
    most = Tensor(np.full(9, 255, np.uint8), "uint8", (9,), np.ones(9, np.bool_))
    assert carry_out(L1, {"i": most}, 9, size=4).dropped["i"].all()


@pytest.mark.parametrize("global_", [False, True])
def test_tied_subsets_are_equally_likely(global_: bool) -> None:
    raw = bits(torch.tensor([1.0, 2, -2, 3, 2, 2.0, 0.5]), "bfloat16")
    other = bits(torch.tensor([2.0, 5]), "bfloat16")
    tensors = {"a": Tensor(raw, "bfloat16", (7,), np.ones(7, np.bool_))}
    if global_:
        tensors["b"] = Tensor(other, "bfloat16", (2,), np.ones(2, np.bool_))
    runs, found = 300, Counter[bytes]()
    for seed in range(runs):
        outcome = carry_out(L1, tensors, 4, global_=global_, seed=seed, size=3)
        found[b"".join(masks(outcome))] += 1
    subsets = 10 if global_ else 6  # two of five, or of four
    assert len(found) == subsets
    statistic = sum((count - runs / subsets) ** 2 for count in found.values()) / (runs / subsets)
    assert statistic < {6: 20.5, 10: 27.9}[subsets]  # exceeded with a probability of 0.001


def test_given_counts_replace_the_amount(way: str) -> None:
    tensors = {"a": some("float32", 700), "b": some("bfloat16", 300), "c": some("float16", 20), "d": some("float32", 5)}
    counts = {"a": 111, "b": 300, "c": 0, "d": 2}
    found = carry_out(L1, tensors, 0, given=counts, size=64)
    for key, count in counts.items():
        assert is_smallest({key: found.dropped[key]}, {key: tensors[key]}, count)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz"])
def test_nan_is_kept_and_the_two_zeros_are_equal(dtype: str, way: str) -> None:
    values = torch.full((400,), 3.0)
    values[::4] = torch.nan
    raw = bits(values, dtype)
    raw[1::4] = 0
    if "fnuz" not in dtype:
        raw[5::8] = 1 << 8 * raw.itemsize - 1  # -0.0
    tensors = {"a": Tensor(raw, dtype, (400,), np.ones(400, np.bool_))}
    found = carry_out(L1, tensors, 50, size=64)
    assert set(np.flatnonzero(found.dropped["a"]) % 4) == {1}
    if "fnuz" not in dtype:
        assert set(np.flatnonzero(found.dropped["a"]) % 8) == {1, 5}
    assert found.notes == ["NaN is not smaller than anything, and stays: 100 of a"]
    found = carry_out(L1, tensors, 300, size=64)
    assert np.array_equal(~found.dropped["a"], np.arange(400) % 4 == 0)
    message = "cannot prune 301 elements of {}: 100 are NaN, which is not smaller than anything; prune 300 at most"
    for size in (64, 1 << 20):
        with pytest.raises(UsageError) as error:
            carry_out(L1, tensors, 301, size=size)
        assert str(error.value) == message.format("a")
    two = {**tensors, "b": Tensor(raw[:0], dtype, (0,), np.ones(0, np.bool_)), "c": some(dtype, 3)}
    with pytest.raises(UsageError, match=r"of the 2 selected parameters together: 100 are NaN.*; prune 303 at most"):
        carry_out(L1, two, 304, global_=True, size=64)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float8_e4m3fn"])
def test_small_tensors_have_the_choices_that_histograms_give(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {str(size): some(dtype, size, seed=size, masked=size % 2 == 0) for size in (1, 2, 5, 40, 901)}
    tensors |= {key: replace(each, scores=(each.raw, dtype)) for key, each in tensors.items()}
    for method, amount, global_ in itertools.product((L1, SCORES), (0.2, 0.5, 1.0), (False, True)):
        found = carry_out(method, tensors, amount, global_=global_, seed=3, size=1000)
        with monkeypatch.context() as patch:
            patch.setattr(threshold, "_FEW", -1)
            expected = carry_out(method, tensors, amount, global_=global_, seed=3, size=1000)
        assert masks(found) == masks(expected)
        assert found.notes == expected.notes
        records = [{key: each.as_dict() for key, each in of.choices.items()} for of in (found, expected)]
        assert records[0] == records[1]


def test_values_of_two_bytes_take_one_pass_and_of_four_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype, passes in (("bfloat16", 1), ("float16", 1), ("float32", 2), ("float64", 4)):
        tensors = {"a": some(dtype, 40_000, ties=False), "b": some(dtype, 30_000, seed=2, ties=False)}
        for global_ in (False, True):
            found = carry_out(L1, tensors, 0.5, global_=global_, size=5000, shuffled=3)
            assert found.passes == passes
            with monkeypatch.context() as patch:
                patch.setattr(threshold, "_MOST", 10)
                again = carry_out(L1, tensors, 0.5, global_=global_, size=5000, shuffled=3)
                assert again.passes == passes + 1 or (again.passes == passes and not global_)
                by_ranks = carry_out(L1, tensors, 0.5, global_=global_, size=5000, shuffled=3, ranks=2)
            assert masks(again) == masks(found) == masks(by_ranks)
        assert carry_out(L1, tensors, 0.5).passes == 1  # tensors of one block


def scored(values: list[float], dtype: str = "float32", **options: Any) -> Tensor:
    raw = bits(torch.tensor(values), dtype)
    weight = np.zeros(raw.size, np.uint16)
    return Tensor(weight, "bfloat16", (raw.size,), np.ones(raw.size, np.bool_), (raw, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_scores_are_signed_unless_their_magnitudes_are_wanted(dtype: str, way: str) -> None:
    tensors = {"a": scored([3, -1, 2, -5, 0, 0.5, -0.0, 7], dtype)}
    for size in (3, 100):
        signed = carry_out(SCORES, tensors, 3, size=size)
        assert set(np.flatnonzero(signed.dropped["a"])) in ({3, 1, 4}, {3, 1, 6})
        assert [render(note) for note in signed.notes] == [
            "negative scores are pruned before 0 and positive ones (see --abs-scores): 2 of a"
        ]
        absolute = carry_out(ABS_SCORES, tensors, 3, size=size)
        assert set(np.flatnonzero(absolute.dropped["a"])) == {4, 6, 5}
        assert not absolute.notes
        choice = signed.choices["a"]
        target = tensors["a"].target("a")
        again = SCORES.replay(target, 0, 3, choice.as_dict())
        blocks = tensors["a"].blocks(SCORES, target, size)
        assert np.array_equal(dropped_by(again, tensors["a"], blocks), signed.dropped["a"])
    positive = {"a": scored([3, 1, 2, 0], dtype)}
    assert list(carry_out(SCORES, positive, 2).notes) == []
    for size in (3, 100):
        with pytest.raises(UsageError, match=r"^the scores of a contain NaN, which is neither small nor large$"):
            carry_out(SCORES, {"a": scored([3, float("nan"), 2, 1], dtype)}, 2, size=size)
    rows = replace(scored([3, float("nan"), 2, 1], dtype), shape=(2, 2))
    target = rows.target("a", rows=True)
    with pytest.raises(UsageError, match=r"^the scores of a contain NaN, which is neither small nor large$"):
        dropped_by(SCORES.choose_slices(target, 1, 0), rows, rows.blocks(SCORES, target, 100))


def test_scores_need_a_file_and_take_no_other_settings() -> None:
    with pytest.raises(UsageError, match=r"^--method scores needs --scores, with a score for each element$"):
        make_method(MethodRequest("scores"))
    with pytest.raises(UsageError, match=r"does not take --norm"):
        make_method(MethodRequest("scores", scores="s.pt", norm=1.0))
    with pytest.raises(UsageError, match=r"does not take --abs-scores"):
        make_method(MethodRequest("l1", abs_scores=True))
    assert SCORES.reads_scores
    assert not SCORES.reads_values


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float8_e4m3fn"])
def test_rows_are_pruned_exactly(dtype: str, masked: bool, way: str) -> None:
    for shape in ((30, 41), (12, 1), (6, 3, 4)):
        tensor = some(dtype, *shape, masked=masked, seed=4)
        target, size = tensor.target("a", rows=True), tensor.raw.size // shape[0]
        left = tensor.left.reshape(shape[0], -1)
        for amounts in (0.5, 1.0, 0.0, [int(count) // 3 for count in left.sum(1)]):
            choice = L1.choose_slices(target, amounts, 7)
            outs = [dropped_by(choice, tensor, tensor.blocks(L1, target, each)) for each in (100, 64, 1 << 20)]
            assert all(np.array_equal(each, outs[0]) for each in outs)
            assert choice.pruned == int(outs[0].sum())
            for row in range(shape[0]):
                part = slice(row * size, (row + 1) * size)
                own = Tensor(tensor.raw[part], dtype, (size,), tensor.left[part])
                count = amounts[row] if isinstance(amounts, list) else round(amounts * int(own.left.sum()))
                assert is_smallest({"row": outs[0][part]}, {"row": own}, count)
            again = L1.replay(target, 7, choice.pruned, choice.as_dict())
            assert np.array_equal(dropped_by(again, tensor, tensor.blocks(L1, target, 100)), outs[0])


@pytest.mark.skipif(not kernel.is_compiled(), reason="the kernel is not compiled here")
def test_rows_are_the_same_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = some("bfloat16", 50, 64, masked=True)
    target = tensor.target("a", rows=True)
    choice = L1.choose_slices(target, 0.5, 3)
    compiled = dropped_by(choice, tensor, tensor.blocks(L1, target, 640))
    monkeypatch.setattr(kernel, "_library", lambda: None)
    assert np.array_equal(dropped_by(choice, tensor, tensor.blocks(L1, target, 640)), compiled)


def test_ties_within_rows_are_equally_likely() -> None:
    tensor = Tensor(bits(torch.tensor([[1.0, 2, 2, 2, 2, 5]] * 2), "float16"), "float16", (2, 6), np.ones(12, np.bool_))
    target, runs, found = tensor.target("a", rows=True), 1000, Counter[tuple[int, ...]]()
    for seed in range(runs):
        dropped = dropped_by(L1.choose_slices(target, 3, seed), tensor, tensor.blocks(L1, target, 12))
        assert dropped[[0, 6]].all()
        found[tuple(np.flatnonzero(dropped).tolist())] += 1
    assert len(found) == 36
    assert sum((count - runs / 36) ** 2 for count in found.values()) / (runs / 36) < 66.6  # probability 0.001


def test_rows_with_too_many_nans_are_refused(way: str) -> None:
    values = torch.ones(3, 4)
    values[1, :2] = torch.nan
    tensor = Tensor(bits(values, "float32"), "float32", (3, 4), np.ones(12, np.bool_))
    target = tensor.target("a", rows=True)
    assert dropped_by(L1.choose_slices(target, 2, 0), tensor, tensor.blocks(L1, target, 4)).sum() == 6
    with pytest.raises(UsageError, match=r"^cannot prune 3 elements of row 1 of a: too many are NaN, which is not"):
        dropped_by(L1.choose_slices(target, 3, 0), tensor, tensor.blocks(L1, target, 4))
