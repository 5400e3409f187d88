"""LAMP: the scores of a sort of each layer, one exact amount over all layers, and l1 in each of them."""

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from blockwise import Tensor, carry_out
from numpy.typing import NDArray

from prunecli.core.methods import make_method, segments
from prunecli.core.methods.request import MethodRequest
from prunecli.core.order import Order
from prunecli.errors import UsageError

LAMP = make_method(MethodRequest("lamp"))


def layers(dtype: str, *, masked: bool = False, ties: bool = False) -> dict[str, Tensor]:
    """Layers of different sizes and scales."""
    generator, found = torch.Generator().manual_seed(3), {}
    for place, (count, scale) in enumerate(((900, 0.02), (60, 3.0), (2000, 0.3), (7, 1.0))):
        values = torch.randn(count, generator=generator, dtype=torch.float64)
        values = (torch.round(values * 3) / 3 if ties else values) * scale
        raw: Any = values.to(getattr(torch, dtype)).view(torch.uint8).numpy().view(f"u{getattr(torch, dtype).itemsize}")
        left = (torch.rand(count, generator=generator) < 0.7).numpy() if masked else np.ones(count, np.bool_)
        found[f"layer{place}"] = Tensor(raw, dtype, (count,), left)
    return found


def magnitudes(tensor: Tensor) -> NDArray[np.float64]:
    values: NDArray[np.float64] = Order(tensor.dtype).values(Order(tensor.dtype).keys(tensor.raw))
    return values[tensor.left]


def by_sorting(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores of a layer by its definition."""
    squares = values**2
    return np.array(
        [own / squares[values >= value].sum() if own else 0.0 for own, value in zip(squares, values, strict=True)]
    )


def expected_counts(tensors: Mapping[str, Tensor], wanted: int) -> tuple[dict[str, int], dict[str, int]]:
    """The fewest and the most elements of each layer whose scores are among the smallest so many."""
    scores = {key: by_sorting(magnitudes(each)) for key, each in tensors.items()}
    threshold = np.sort(np.concatenate(list(scores.values())))[wanted - 1]
    slack = threshold * 1e-12
    fewest = {key: int((each < threshold - slack).sum()) for key, each in scores.items()}
    return fewest, {key: int((each <= threshold + slack).sum()) for key, each in scores.items()}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float8_e4m3fn"])
def test_layers_have_the_numbers_of_their_scores(dtype: str, ties: bool, masked: bool) -> None:
    tensors = layers(dtype, masked=masked, ties=ties)
    total = sum(int(each.left.sum()) for each in tensors.values())
    for amount in (0.1, 0.5, 0.95):
        found = carry_out(LAMP, tensors, amount, global_=True, seed=1, size=500)
        wanted = round(amount * total)
        numbers = {key: int(each.sum()) for key, each in found.dropped.items()}
        assert sum(numbers.values()) == wanted
        fewest, most = expected_counts(tensors, wanted)
        assert all(fewest[key] <= numbers[key] <= most[key] for key in numbers)
        for key, tensor in tensors.items():
            gone, values = found.dropped[key][tensor.left], magnitudes(tensor)
            assert not gone.any() or gone.all() or values[gone].max() <= values[~gone].min()
        ways: tuple[dict[str, Any], ...] = (
            {"shuffled": 1, "size": 500},
            {"ranks": 2, "size": 300, "shuffled": 2},
            {"ranks": 3},
        )
        for options in ways:
            again = carry_out(LAMP, tensors, amount, global_=True, seed=1, **options)
            assert all(np.array_equal(each, found.dropped[key]) for key, each in again.dropped.items())


def test_doubles_are_divided_as_floats_are() -> None:
    for dtype in ("float64", "float16"):
        tensors = layers(dtype)
        found = carry_out(LAMP, tensors, 0.6, global_=True, size=512)
        fewest, most = expected_counts(tensors, round(0.6 * 2967))
        assert all(fewest[key] <= each.sum() <= most[key] for key, each in found.dropped.items())
        assert sum(int(each.sum()) for each in found.dropped.values()) == round(0.6 * 2967)


@pytest.mark.parametrize("exponent", [-1030, 900])
def test_the_scale_does_not_matter(exponent: int) -> None:
    """Neither that of numbers below the normal ones, nor that of numbers whose squares are too large for doubles."""
    tensors = {key: each for key, each in layers("float64").items() if key != "layer0"}
    scaled = {
        key: Tensor(np.ldexp(each.raw.view(np.float64), exponent).view(np.uint64), "float64", each.shape, each.left)
        for key, each in tensors.items()
    }
    one, other = (carry_out(LAMP, each, 0.6, global_=True, size=512).dropped for each in (tensors, scaled))
    assert all(np.array_equal(each, other[key]) for key, each in one.items())


def test_one_large_segment_is_divided_until_the_threshold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_SEGMENTS", 8)
    values = (1 + torch.arange(700) / 2**23).float()  # all in one segment
    other = torch.cat([values[:50], 5 + torch.arange(20).float()])
    tensors = {
        key: Tensor(each.numpy().view(np.uint32), "float32", (each.numel(),), np.ones(each.numel(), np.bool_))
        for key, each in {"a": values, "b": other}.items()
    }
    found = carry_out(LAMP, tensors, 600, global_=True, size=100)
    numbers = {key: int(each.sum()) for key, each in found.dropped.items()}
    fewest, most = expected_counts(tensors, 600)
    assert sum(numbers.values()) == 600
    assert all(fewest[key] <= numbers[key] <= most[key] for key in numbers)


def test_small_layers_take_little_memory_and_are_divided_as_large_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(100, 16, generator=torch.Generator().manual_seed(1)).numpy().view(np.uint32)
    tensors = {
        f"layer{place}": Tensor(each, "float32", (16,), np.ones(16, np.bool_)) for place, each in enumerate(values)
    }
    tracemalloc.start()
    try:
        found = carry_out(LAMP, tensors, 0.5, global_=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(int(each.sum()) for each in found.dropped.values()) == 800
    assert peak < 4 << 20
    monkeypatch.setattr(segments, "_TINY", 0)
    again = carry_out(LAMP, tensors, 0.5, global_=True)
    assert again.passes > found.passes == 2
    assert all(np.array_equal(each, again.dropped[key]) for key, each in found.dropped.items())


def test_zeros_go_first_and_nan_stays() -> None:
    raw = torch.tensor([0.0, -0.0, torch.nan, 1, 2, 0]).numpy().view(np.uint32)
    tensors = {key: Tensor(raw, "float32", (6,), np.ones(6, np.bool_)) for key in ("a", "b")}
    tensors["c"] = Tensor(np.zeros(5, np.uint32), "float32", (5,), np.ones(5, np.bool_))
    found = carry_out(LAMP, tensors, 11, global_=True)
    assert {key: np.flatnonzero(each).tolist() for key, each in found.dropped.items()} == {
        "a": [0, 1, 5],
        "b": [0, 1, 5],
        "c": [0, 1, 2, 3, 4],
    }
    assert found.notes == ["NaN is not smaller than anything, and stays: 1 of a, and some of 1 more parameter"]
    some = carry_out(LAMP, tensors, 4, global_=True, seed=5)
    assert sum(int(each.sum()) for each in some.dropped.values()) == 4
    assert not some.dropped["a"][[2, 3, 4]].any()
    assert not any(each.any() for each in carry_out(LAMP, tensors, 0, global_=True).dropped.values())
    with pytest.raises(UsageError, match=r"^cannot prune 16 elements of the 3 selected .*: 2 are NaN.*15 at most"):
        carry_out(LAMP, tensors, 16, global_=True)
    with pytest.raises(UsageError, match=r"^LAMP scores need finite weights, and a has infinite ones$"):
        carry_out(
            LAMP,
            {"a": Tensor(np.array([0x7F80, 0], np.uint16), "bfloat16", (2,), np.ones(2, np.bool_))},
            1,
            global_=True,
        )
