"""Keys sort as values do, for every type; and the kernel makes, counts and compares them as numpy does."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prunecli.core import kernel
from prunecli.core.order import Order, common_orders
from prunecli.core.raw_elements import unsigned
from prunecli.errors import UsageError

FLOATS = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "float8_e4m3fn",
    "float8_e5m2",
    "float8_e4m3fnuz",
    "float8_e5m2fnuz",
)
INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")


@pytest.fixture(params=["kernel", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)
    elif not kernel.is_compiled():
        pytest.skip("the kernel is not compiled here")
    return str(request.param)


def stored(dtype: str, count: int = 1000, *, big: bool = False, seed: int = 1) -> tuple[Any, NDArray[Any]]:
    """Elements with any bits, and some special ones; and their values in doubles (integers as they are)."""
    width = getattr(torch, dtype).itemsize
    data = np.random.default_rng(seed).integers(0, 256, (count, width), dtype=np.uint8)
    data[:64] = 0  # +0.0
    data[64:128, :-1], data[64:128, -1] = 0, 0x80  # -0.0, the smallest integer, or NaN
    data[128:160], data[160:200, -1] = 255, 0x3C  # NaN or -1
    tensor = torch.from_numpy(data.reshape(-1).copy()).view(getattr(torch, dtype))
    values = tensor.double().numpy() if dtype in FLOATS else tensor.numpy()
    raw = data[:, ::-1].reshape(-1).copy() if big else data.reshape(-1)
    return unsigned(raw, width, big_endian=big), values


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
def test_keys_are_in_the_order_of_values(dtype: str, signed: bool, big: bool, way: str) -> None:
    raw, values = stored(dtype, big=big)
    order = Order.of("w", dtype, signed=signed)
    keys = order.keys(raw)
    assert keys.dtype.isnative
    assert int(keys.max()) < 1 << order.bits
    if not signed:
        values = np.abs(values).view(keys.dtype) if dtype in INTEGERS and dtype[0] == "i" else np.abs(values)
    nan = np.isnan(values) if dtype in FLOATS else np.zeros(values.size, np.bool_)
    assert all(int(key) == order.nan for key in keys[nan])
    assert dtype in INTEGERS or int(keys[~nan].max()) < (order.nan or 0)
    places = np.argsort(values[~nan], kind="stable")
    sorted_keys, sorted_values = keys[~nan][places], values[~nan][places]
    assert np.array_equal(sorted_keys[1:] > sorted_keys[:-1], sorted_values[1:] > sorted_values[:-1])
    assert (sorted_keys[1:] >= sorted_keys[:-1]).all()
    assert np.array_equal(order.values(keys)[~nan], values[~nan].astype(np.float64))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [*FLOATS, "int16", "uint64"])
def test_histograms_and_comparisons_are_those_of_the_keys(dtype: str, signed: bool, way: str) -> None:
    raw, _ = stored(dtype, 33_001, seed=2)
    order, rng = Order.of("w", dtype, signed=signed), np.random.default_rng(3)
    keys = order.keys(raw).astype(object) if order.bits == 64 else order.keys(raw).astype(np.int64)
    for candidates in (np.ones(raw.size, np.bool_), rng.random(raw.size) < 0.7):
        left = keys[candidates]
        counts = order.histogram(raw, candidates)
        assert counts.size == 1 << (order.bits - order.shift) <= 1 << 16
        assert counts.tolist() == np.bincount((left >> order.shift).astype(np.int64), minlength=counts.size).tolist()
        sums = order.sums(raw, candidates, 16)
        assert (sums is None) == (way == "numpy" or not order.shift)
        if sums is not None:
            upper = (left >> order.shift).astype(np.int64)
            lower = (left >> order.shift - 16 & 0xFFFF).astype(np.float64)
            assert np.array_equal(sums, [np.bincount(upper, lower**power, counts.size) for power in range(3)])
        for threshold in {0, int(keys[0]), int(keys[77]), *(int(keys[at]) for at in rng.integers(0, raw.size, 3))}:
            below = int(np.count_nonzero(left < threshold))
            assert order.count(raw, candidates, threshold) == (below, int(np.count_nonzero(left == threshold)))
            span = min(0xFFF, (1 << order.bits) - 1 - threshold)
            inside = ((left[(left >= threshold) & (left <= threshold + span)] - threshold) >> 4).astype(np.int64)
            expected = np.bincount(inside, minlength=(span >> 4) + 1)
            found, within = order.histogram_within(raw, candidates, threshold, span, 4)
            assert (found, within.tolist()) == (below, expected.tolist())
            out = np.empty(raw.size, np.bool_)
            places = order.write_below(raw, threshold, out, candidates)
            assert np.array_equal(out, keys < threshold)
            assert np.array_equal(places, np.flatnonzero((keys == threshold) & candidates))
            out[:] = True
            assert order.write_below(raw, threshold, out).size == 0
            assert np.array_equal(out, keys < threshold)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("types", [FLOATS, FLOATS[1:], ("float16", "bfloat16"), ("float32", "float32")])
def test_orders_of_several_types_have_keys_that_compare(types: tuple[str, ...], signed: bool, way: str) -> None:
    orders = common_orders({f"{place}.{dtype}": dtype for place, dtype in enumerate(types)}, signed=signed)
    assert len({order.bits for order in orders.values()}) == 1
    raws = [stored(dtype, 700, seed=4) for dtype in types]
    keys = np.concatenate([order.keys(raw) for order, (raw, _) in zip(orders.values(), raws, strict=True)])
    values = np.concatenate([values if signed else np.abs(values) for _, values in raws])
    nan = np.isnan(values)
    assert (keys[nan] == next(iter(orders.values())).nan).all()
    places = np.argsort(values[~nan], kind="stable")
    sorted_keys, sorted_values = keys[~nan][places], values[~nan][places]
    assert np.array_equal(sorted_keys[1:] > sorted_keys[:-1], sorted_values[1:] > sorted_values[:-1])
    assert (sorted_keys[1:] >= sorted_keys[:-1]).all()
    for order, (raw, _) in zip(orders.values(), raws, strict=True):
        own, out, threshold = order.keys(raw), np.empty(raw.size, np.bool_), int(order.keys(raw)[300])
        places = order.write_below(raw, threshold, out, np.ones(raw.size, np.bool_))
        assert np.array_equal(out, own < threshold)
        assert np.array_equal(places, np.flatnonzero(own == threshold))


def test_types_without_a_common_order_are_refused() -> None:
    for dtype in ("complex64", "bool", "float4_e2m1fn_x2"):
        with pytest.raises(UsageError, match=f"^only real numbers have an order, and w is {dtype}; exclude it$"):
            Order.of("w", dtype)
    with pytest.raises(UsageError, match=r"^integers are ordered among themselves only: b is int8, others are"):
        common_orders({"a": "float32", "b": "int8"})
    with pytest.raises(UsageError, match=r"integers"):
        common_orders({"a": "int32", "b": "int8"})
