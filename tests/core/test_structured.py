"""Slices and blocks: the same masks as torch's classes make where nothing ties, exact numbers, equal chances."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from method_runs import Bools, MethodRun, only
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from prunecli.core.methods import make_method, many_units, units
from prunecli.core.methods.base import Target
from prunecli.core.methods.groups import GroupsOf
from prunecli.core.methods.ranked import Ranked
from prunecli.core.methods.request import MethodRequest, method_request
from prunecli.core.methods.structured import Blocks, Ln, RandomSlices
from prunecli.core.methods.units import Measure
from prunecli.errors import UsageError

FLOATS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
]


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums are computed over runs that are shorter than these blocks."""
    monkeypatch.setattr(units, "_RUN", 16)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ln(norm: float, dim: int) -> Any:
    return Ln.of(MethodRequest("ln", dim=dim, norm=norm))


def by_torch(layer: nn.Module, before: Bools | None, norm: float, dim: int, amount: float) -> Bools:
    """The mask that torch makes, on top of another one if there is one."""
    if before is not None:
        torch_prune.custom_from_mask(layer, "weight", torch.from_numpy(before))  # type: ignore[no-untyped-call]
    torch_prune.ln_structured(layer, "weight", amount, norm, dim)  # type: ignore[no-untyped-call]
    found: Bools = layer.get_buffer("weight_mask").bool().numpy()
    return found


Maker = Callable[[], nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d]
LAYERS: list[Maker] = [
    lambda: nn.Linear(10, 7),
    lambda: nn.Conv2d(5, 6, 3),
    lambda: nn.Conv1d(8, 4, 5),
    lambda: nn.Conv3d(3, 4, 2),
]
CASES = [(number, dim) for number, make in enumerate(LAYERS) for dim in range(-1, make().weight.dim())]


@pytest.mark.parametrize(("number", "dim"), CASES)
@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_norms_drop_the_slices_that_torch_drops(number: int, dim: int, norm: float) -> None:
    torch.manual_seed(number)
    layer = LAYERS[number]()
    if norm == math.inf:  # of several slices, the largest elements must not be one and the same
        layer.weight.data = torch.randperm(layer.weight.numel()).reshape(layer.weight.shape) - 100.3
    weight = layer.weight.detach().clone()
    before = np.random.default_rng(number).random(tuple(weight.shape)) < 0.7
    before[(slice(None),) * (dim % weight.dim()) + (1,)] = False  # a whole slice is pruned already
    for amount in (0.5, 1, 0.0, 1.0):
        for mask in (None, before):
            layer = LAYERS[number]()
            layer.weight.data = weight.clone()
            expected = by_torch(layer, mask, norm, dim, amount)
            options = {} if mask is None else {"before": mask}
            assert np.array_equal(only(ln(norm, dim), weight, amount, **options), expected), (amount, mask is None)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("masked", [False, True])
def test_random_slices_are_an_exact_number_of_those_with_something_left(dim: int, masked: bool) -> None:
    tensor = some(6, 5, 7)
    before = np.ones(tuple(tensor.shape), np.bool_)
    place = dim % 3
    rest = tuple(each for each in range(3) if each != place)
    if masked:
        before = np.random.default_rng(3).random(before.shape) < 0.5
        before[(slice(None),) * place + ([0, 2],)] = False
    left = before.any(axis=rest)
    for amount in (0, 1, 0.5, 1.0):
        keep = only(RandomSlices(dim), tensor, amount, **({"before": before} if masked else {}))
        dropped = left & ~keep.any(axis=rest)
        assert dropped.sum() == (amount if isinstance(amount, int) else round(amount * left.sum()))
        expected = before.copy()
        expected[(slice(None),) * place + (dropped,)] = False
        assert np.array_equal(keep, expected)


def chi_square(found: list[bytes], expected: int) -> float:
    counts = np.unique(np.array(found), return_counts=True)[1]
    assert counts.size == expected
    mean = len(found) / expected
    return float(((counts - mean) ** 2 / mean).sum())


@pytest.mark.parametrize("method", [RandomSlices(0), ln(2, 0)], ids=["random", "ties"])
def test_all_sets_of_slices_are_equally_likely(method: Any) -> None:
    tensors = {f"w{number}": torch.ones(5, 2) for number in range(800)}
    keep = MethodRun(method, tensors, 2).keep()
    assert chi_square([each.tobytes() for each in keep.values()], 10) < 27.9  # 9 degrees of freedom, 0.1 %


def test_only_slices_at_the_border_are_left_to_chance() -> None:
    tensors = {f"w{number}": torch.tensor([[2.0], [1], [-2], [3], [2]]) for number in range(300)}
    keep = np.stack([each[:, 0] for each in MethodRun(ln(1, 0), tensors, 2).keep().values()])
    assert not keep[:, 1].any()
    assert keep[:, 3].all()
    assert chi_square([each.tobytes() for each in keep], 3) < 13.8


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_norms_are_those_of_every_float_type(dtype: torch.dtype, norm: float) -> None:
    scale = 2.0 ** torch.arange(-4, 5) if norm == math.inf else torch.arange(1, 10)
    tensor = (some(9, 40).clamp(-1, 1) * scale[:, None]).to(dtype)
    tensor[0], tensor[1, ::2] = 0.0, -0.0
    values = tensor.double().abs()
    norms = (values.amax(1) if norm == math.inf else (values**norm).sum(1)).numpy()
    assert np.unique(norms).size == 9
    for count in range(10):
        keep = only(ln(norm, 0), tensor, count)
        assert keep.any(axis=1).tolist() == (norms.argsort().argsort() >= count).tolist()


def test_a_slice_with_nan_is_not_smaller_than_anything() -> None:
    tensor = some(4, 6)
    tensor[2, 3] = math.nan
    assert only(ln(1, 0), tensor, 3).any(axis=1).tolist() == [False, False, True, False]
    with pytest.raises(
        UsageError, match=r"^cannot prune 4 slices along dimension 0 of w: 1 of 4 contain NaN, which is"
    ):
        only(ln(1, 0), tensor, 4)
    left = np.ones((4, 6), np.bool_)
    left[2, 3] = False  # and a NaN that is pruned does not count
    assert not only(ln(1, 0), tensor, 4, before=left).any()
    run = MethodRun(ln(1, 0), {"a": tensor, "b": tensor * 2, "c": some(4, 6)}, 1)
    run.keep()
    notes = run.notes
    assert notes == ["slices that contain NaN are kept: 1 of a, and some of 1 more parameter"]


METHODS = {
    "norm 1": (ln(1, 1), 3),
    "norm 2": (ln(2, 0), 0.4),
    "last": (ln(2, -1), 0.4),
    "blocks": (Blocks((3, 4), Measure(Ranked())), 0.4),
    "scores": (Blocks((7, 2), Measure(Ranked(scores=True, signed=True))), 0.4),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("masked", [False, True])
def test_the_order_of_blocks_and_machines_does_not_matter(name: str, masked: bool) -> None:
    """Many norms are equal but for the order of their sums: a sum in another order would choose others."""
    method, amount = METHODS[name]
    row = some(40, seed=5)
    tensor = torch.stack([row[torch.randperm(40, generator=torch.Generator().manual_seed(seed))] for seed in range(40)])
    options: dict[str, Any] = {"scores": tensor.double() - 0.5} if name == "scores" else {}
    if masked:
        options["before"] = np.random.default_rng(1).random((40, 40)) < 0.9
    first = only(method, tensor, amount, **options)
    for order in range(1, 6):
        assert np.array_equal(only(method, tensor, amount, order=order, **options), first)


def test_sums_are_the_same_to_the_bit_in_any_order() -> None:
    tensors = {"w": some(23, 37)}
    method = ln(2, 1)
    seen = set()
    for order in range(8):
        run = MethodRun(method, tensors, 3)
        scan: Any = method.scans(run.group, [])["w"]
        blocks = list(run.blocks(run.targets["w"]))
        for number in np.random.default_rng(order).permutation(len(blocks)):
            scan.add(scan.look(blocks[number]))
        seen.add(scan.found()[0].tobytes())
    assert len(seen) == 1
    expected = (tensors["w"].double() ** 2).sum(0).numpy()
    assert np.allclose(np.frombuffer(seen.pop()), expected, rtol=1e-15)


def block_oracle(values: Any, left: Bools, size: tuple[int, int], amount: float) -> Bools:
    """What is kept, block by block."""
    keep, found = left.copy(), []
    for row, column in itertools.product(range(0, left.shape[0], size[0]), range(0, left.shape[1], size[1])):
        place = slice(row, row + size[0]), slice(column, column + size[1])
        if left[place].any():
            found.append((values[place][left[place]].sum(), place))
    found.sort(key=lambda each: each[0])
    for _, place in found[: round(amount * len(found)) if isinstance(amount, float) else amount]:
        keep[place] = False
    return keep


@pytest.mark.parametrize("size", [(1, 4), (3, 4), (16, 16), (2, 100), (100, 1), (1, 1), (5, 7)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_blocks_with_the_smallest_sums_are_dropped(size: tuple[int, int], masked: bool) -> None:
    tensor, scores = some(21, 30), some(21, 30, seed=9).half()
    left = np.random.default_rng(4).random((21, 30)) < (0.3 if masked else 2)
    options = {"before": left} if masked else {}
    for amount in (0.5, 1):
        keep = only(Blocks(size, Measure(Ranked())), tensor, amount, **options)
        assert np.array_equal(keep, block_oracle(tensor.abs().double().numpy(), left, size, amount))
        for signed in (False, True):
            method = Blocks(size, Measure(Ranked(scores=True, signed=signed)))
            values = (scores if signed else scores.abs()).double().numpy()
            keep = only(method, tensor, amount, scores=scores, **options)
            assert np.array_equal(keep, block_oracle(values, left, size, amount))


def test_random_blocks_are_an_exact_number_of_blocks() -> None:
    tensor, size = some(10, 14), (4, 4)
    keep = only(Blocks(size, None), tensor, 5)
    blocks = [keep[row : row + 4, column : column + 4] for row in (0, 4, 8) for column in (0, 4, 8, 12)]
    assert sum(not each.any() for each in blocks) == 5
    assert sum(bool(each.all()) for each in blocks) == 7
    tensors = {f"w{number}": torch.ones(3, 4) for number in range(800)}
    masks = MethodRun(Blocks((2, 2), None), tensors, 2).keep()
    assert chi_square([each.tobytes() for each in masks.values()], 6) < 20.5


def test_many_targets_are_measured_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_MOST_UNITS", 10)
    tensors = {f"w{number}": some(6, 5, seed=number) for number in range(7)}
    keep = MethodRun(ln(1, 0), tensors, 3).keep()
    for key, tensor in tensors.items():
        assert np.array_equal(keep[key], only(ln(1, 0), tensor, 3))
    passes: list[Any] = []
    run = MethodRun(ln(1, 0), tensors, 3)
    while scans := run.method.scans(run.group, passes):
        passes.append(scans)
    assert [len(scans) for scans in passes] == [2, 2, 2, 1]


MANY: dict[str, tuple[Any, bool]] = {
    "random": (Blocks((1, 4), None), False),
    "l1": (Blocks((3, 4), Measure(Ranked())), False),
    "scores": (Blocks((2, 3), Measure(Ranked(scores=True, signed=True))), True),
    "slices": (ln(2, 0), False),
    "random slices": (RandomSlices(0), False),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", MANY)
def test_of_many_units_the_same_are_dropped_without_keeping_their_sums(
    name: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums are those of the tree over all runs to the bit: many of them differ but for the order of additions."""
    method, scored = MANY[name]
    row = some(19, seed=5)
    rows = [row[torch.randperm(19, generator=torch.Generator().manual_seed(seed))] for seed in range(14)]
    options: dict[str, Any] = {"before": np.random.default_rng(1).random((14, 19)) < 0.6} if masked else {}
    for order, (amount, few, ties) in enumerate(((0.5, 2, False), (3, 1 << 18, False), (0.5, 0, True), (1.0, 2, True))):
        tensor = torch.stack(rows).round() if ties else torch.stack(rows)
        own = options | ({"scores": tensor.double() - 0.5} if scored else {})
        expected = only(method, tensor, amount, **own)
        with monkeypatch.context() as patch:
            for module in (units, many_units):
                patch.setattr(module, "BLOCK", 64)
            patch.setattr(units, "_MOST_UNITS", 1)
            patch.setattr(many_units, "_FEW", few)
            assert np.array_equal(only(method, tensor, amount, order=order, **own), expected)


@pytest.mark.parametrize(("values", "amount", "words"), [(1.0, 99, "7 are left"), (math.nan, 7, "1 of 7 contain NaN")])
def test_of_many_units_too_many_are_refused(
    values: float, amount: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_MOST_UNITS", 1)
    tensor = torch.ones(7, 4)
    tensor[2, 1] = values
    with pytest.raises(UsageError, match=rf"cannot prune {amount} slices along dimension 0 of w: {words}"):
        only(ln(1, 0), tensor, amount)
    run = MethodRun(ln(1, 0), {"w": tensor}, 2)
    run.keep()
    assert len(run.notes) == math.isnan(values)


def test_random_slices_need_no_values_and_take_every_type() -> None:
    for dtype in (torch.complex64, torch.bool, torch.int64):
        assert only(RandomSlices(1), torch.ones(4, 6, dtype=dtype), 2).any(axis=0).sum() == 4


def test_sums_beyond_the_largest_number_are_equal() -> None:
    tensor = torch.tensor([[1e200, 1.0], [1.0, 1.0], [1.0, -1e300], [math.inf, 1.0]], dtype=torch.float64)
    keep = [only(ln(2, 0), tensor, 2, seed=seed)[:, 0].tolist() for seed in range(30)]
    assert all(not each[1] and sum(each) == 2 for each in keep)
    assert len({tuple(each) for each in keep}) == 3
    scores = torch.tensor([[math.inf, -math.inf], [1.0, 1.0]])
    method = Blocks((1, 2), Measure(Ranked(scores=True, signed=True)))
    assert only(method, torch.ones(2, 2), 1, scores=scores).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_a_tensor_without_elements_has_nothing_to_prune(shape: tuple[int, int]) -> None:
    for method in (RandomSlices(0), RandomSlices(1), ln(2, 0), Blocks((2, 2), None), GroupsOf(2, 4, 1)):
        assert only(method, torch.ones(shape), 0.5).shape == shape
        assert only(method, torch.ones(shape), 0.5, before=np.ones(shape, np.bool_)).shape == shape


def refused(method: Any, *shape: int, amount: float = 1, dtype: torch.dtype = torch.float32) -> str:
    with pytest.raises(UsageError) as error:
        only(method, torch.ones(shape, dtype=dtype), amount)
    return str(error.value)


def test_what_cannot_be_done_is_refused_with_the_numbers() -> None:
    assert refused(ln(1, 0), 4, 6, amount=5) == "cannot prune 5 slices along dimension 0 of w: 4 are left unpruned"
    assert refused(RandomSlices(2), 4, 6) == "--dim 2: w has the shape [4, 6]"
    assert refused(RandomSlices(-3), 4, 6) == "--dim -3: w has the shape [4, 6]"
    assert refused(RandomSlices(0), 4) == "w has one dimension, and slices need at least two; exclude it"
    assert refused(Blocks((2, 2), None), 4, 6, amount=7) == "cannot prune 7 blocks of 2x2 of w: 6 are left unpruned"
    expected = "--block 2x2: w is [4, 6, 3], and only matrices have blocks; exclude it"
    assert refused(Blocks((2, 2), None), 4, 6, 3) == expected
    expected = "only real numbers have an order, and w is complex64; exclude it"
    assert refused(ln(1, 0), 4, 6, dtype=torch.complex64) == expected


@pytest.mark.parametrize("norm", ["fro", "nuc", 0, -math.inf, 3, "0"])
def test_norms_that_torch_has_and_we_do_not_are_refused(norm: object) -> None:
    with pytest.raises(UsageError, match=r"^--norm \S+ is not a norm that is computed here; known are 1, 2, inf$"):
        method_request("ln", dim=0, norm=norm)


def test_requests_make_the_methods_and_patterns() -> None:
    assert make_method(method_request("ln", dim=1, norm="inf")) == ln(math.inf, 1)
    assert make_method(method_request("random-structured", dim=-1)) == RandomSlices(-1)
    assert make_method(method_request(block="4x2")) == Blocks((4, 2), None)
    assert make_method(method_request(n_of_m="2:4", dim=0)) == GroupsOf(2, 4, 0)
    scores = method_request(block="4x2", scores="s.pt", abs_scores=True)
    assert Blocks.of(scores) == Blocks((4, 2), Measure(Ranked(scores=True)))
    assert GroupsOf.of(method_request(n_of_m="2:4", scores="s.pt")) == GroupsOf(2, 4, None, Ranked(True, True))
    for wrong in ({"n_of_m": "2:4", "block": "4x4"}, {"block": "4x4", "dim": 1}, {"n_of_m": "2:4", "norm": 1}):
        with pytest.raises(UsageError, match=r"^--(n-of-m|block) does not take --"):
            make_method(method_request(**wrong))
    with pytest.raises(UsageError, match="--method random does not take --scores"):
        make_method(method_request("random", n_of_m="2:4", scores="s.pt"))


def test_settings_that_are_needed_are_asked_for() -> None:
    with pytest.raises(UsageError, match=r"^--method ln needs --dim: 0 for the outputs"):
        Ln.of(method_request("ln", norm=1))
    with pytest.raises(UsageError, match=r"^--method random-structured needs --dim"):
        RandomSlices.of(method_request("random-structured"))
    with pytest.raises(UsageError, match=r"^--method ln needs --norm: 1, 2 or inf$"):
        Ln.of(method_request("ln", dim=1))
    with pytest.raises(UsageError, match=r"random-structured does not take --norm"):
        RandomSlices.of(method_request("random-structured", dim=1, norm=1))


def test_a_record_of_other_units_is_refused() -> None:
    method, target = RandomSlices(0), Target("w", "w", (20, 2), "float32", 40)
    assert method.replay(target, 7, 16, {"units": "ff0000"}).pruned == 16
    for units_ in ("ff00", "xx0000", None):
        with pytest.raises((ValueError, TypeError)):
            method.replay(target, 7, 4, {"units": units_})
    with pytest.raises(KeyError):
        method.replay(target, 7, 4, {})


def test_a_plan_states_what_the_units_are() -> None:
    target = Target("w", "w", (20, 30), "float32", 600)
    assert RandomSlices(-1).detail(target) == "slices along dimension 1"
    assert Blocks((8, 100), None).detail(target) == "blocks of 8x30"
