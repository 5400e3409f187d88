"""RandomUnstructured against torch's own where both agree, and against the promises of the design where they differ."""

import copy
import importlib
import io
import pickle
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import python
from hypothesis import given
from hypothesis import strategies as st
from ranks import TORCHRUN
from torch import Tensor, nn

from prunecli.core.block import BLOCK
from prunecli.core.random_stream import Subset, stream_key
from prunecli.errors import UsageError
from prunecli.modules.pruning_method import remove
from prunecli.modules.random_unstructured import RandomUnstructured, random_unstructured

ROOT = Path(__file__).parents[2]

torch_prune: Any = importlib.import_module("torch.nn.utils.prune")  # its functions are untyped

METHODS = pytest.mark.parametrize(
    "method", [torch_prune.RandomUnstructured, RandomUnstructured], ids=["torch", "prunecli"]
)
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.bool,
]
AMOUNTS = st.one_of(st.floats(0, 1), st.integers(0, 40))


def holder(values: Tensor) -> nn.Module:
    """A module with one parameter, `weight`, of any dtype and strides."""
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(values, requires_grad=values.dtype == torch.float32))
    return module


def mask_of(module: nn.Module, name: str = "weight") -> Tensor:
    return module.get_buffer(name + "_mask")


def pruned(mask: Tensor) -> int:
    return int((mask.to(torch.float32) == 0).sum())


def hooks_of(module: nn.Module) -> list[Any]:
    return list(module._forward_pre_hooks.values())


def state_of(module: nn.Module) -> dict[str, Any]:
    """Everything a failed apply could disturb: attributes by identity, the contents of containers in order."""

    def content(value: Any) -> object:
        if isinstance(value, dict):
            return [(key, id(item)) for key, item in value.items()]
        return [id(item) for item in value] if isinstance(value, list) else repr(value)

    return {name: (id(value), content(value)) for name, value in vars(module).items()}


# ---- the same as torch's


@METHODS
@pytest.mark.parametrize("amount", [0, 1, 14, 35, 0.0, 0.1, 0.5, 1.0])
def test_counts_names_and_hooks_are_those_of_torch(method: Any, amount: float) -> None:
    layer = nn.Linear(5, 7)
    parameter, values = layer.weight, layer.weight.detach().clone()
    hook = method.apply(layer, "weight", amount)
    assert pruned(mask_of(layer)) == (amount if isinstance(amount, int) else round(amount * 35))
    assert list(layer.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    assert [name for name, _ in layer.named_parameters()] == ["bias", "weight_orig"]
    assert hooks_of(layer) == [hook]
    assert isinstance(hook, method)
    assert torch_prune.is_pruned(layer)
    assert layer.weight_orig is parameter
    assert torch.equal(parameter, values)
    assert torch.equal(layer.weight, values * mask_of(layer))
    assert mask_of(layer).dtype == torch.float32


@METHODS
@pytest.mark.parametrize("remover", [torch_prune.remove, remove], ids=["torch", "prunecli"])
def test_removing_bakes_and_gives_the_same_parameter_back(method: Any, remover: Callable[..., Any]) -> None:
    layer = nn.Linear(5, 7)
    parameter = layer.weight
    method.apply(layer, "weight", 0.5)
    expected = layer.weight.detach().clone()
    assert remover(layer, "weight") is layer
    assert layer.weight is parameter
    assert torch.equal(layer.weight, expected)
    assert pruned(expected) == 18
    assert list(layer.state_dict()) == ["bias", "weight"]
    assert not hooks_of(layer)
    assert not torch_prune.is_pruned(layer)
    assert layer(torch.ones(2, 5)).shape == (2, 7)


@METHODS
def test_a_second_prune_counts_among_what_is_left_and_makes_a_container(method: Any) -> None:
    layer = nn.Linear(8, 8)
    first = method.apply(layer, "weight", 0.5)
    before = mask_of(layer)
    container = method.apply(layer, "weight", 0.5)
    assert pruned(mask_of(layer)) == 48
    assert bool((mask_of(layer)[before == 0] == 0).all())
    assert isinstance(container, torch_prune.PruningContainer)
    assert hooks_of(layer) == [container]
    assert container[0] is first
    assert container._tensor_name == "weight"
    assert method.apply(layer, "weight", 0.5) is container
    assert len(container) == 3
    assert pruned(mask_of(layer)) == 56
    torch_prune.remove(layer, "weight")
    assert pruned(layer.weight.detach()) == 56
    assert not hooks_of(layer)


@METHODS
@pytest.mark.parametrize("other", [torch_prune.RandomUnstructured, torch_prune.L1Unstructured])
def test_it_mixes_with_methods_of_torch_in_either_order(method: Any, other: Any) -> None:
    for first, second in ((method, other), (other, method)):
        layer = nn.Linear(8, 8)
        first.apply(layer, "weight", 0.25)
        container = second.apply(layer, "weight", 8)
        assert [type(each) for each in container] == [first, second]
        assert pruned(mask_of(layer)) == 24
        layer(torch.ones(1, 8)).sum().backward()
        remove(layer, "weight")
        assert list(layer.state_dict()) == ["bias", "weight"]


@METHODS
def test_a_structured_method_may_come_before(method: Any) -> None:
    layer = nn.Linear(8, 8)
    torch_prune.ln_structured(layer, "weight", 2, n=2, dim=0)
    method.apply(layer, "weight", 0.5)
    assert pruned(mask_of(layer)) == 16 + 24


@METHODS
def test_global_unstructured_takes_it(method: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3))
    pairs = [(model[0], "weight"), (model[1], "weight")]
    torch_prune.global_unstructured(pairs, pruning_method=method, amount=5)
    assert pruned(mask_of(model[0])) + pruned(mask_of(model[1])) == 5
    torch_prune.global_unstructured(pairs, pruning_method=method, amount=1.0)
    assert pruned(mask_of(model[0])) + pruned(mask_of(model[1])) == 14


@METHODS
def test_pickling_saving_and_strict_loading_go_on_working(method: Any) -> None:
    layer = nn.Linear(5, 7)
    method.apply(layer, "weight", 0.5)
    method.apply(layer, "bias", 3)
    again = pickle.loads(pickle.dumps(layer))
    assert torch.equal(again.weight, layer.weight)
    assert torch.equal(again(torch.ones(1, 5)), layer(torch.ones(1, 5)))
    assert method.apply(again, "weight", 1)[0].amount == 0.5
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    for each in (torch_prune.RandomUnstructured, RandomUnstructured):
        other = nn.Linear(5, 7)
        each.apply(other, "weight", 1)
        each.apply(other, "bias", 1)
        other.load_state_dict(torch.load(file, weights_only=True), strict=True)
        file.seek(0)
        assert torch.equal(other(torch.ones(1, 5)), layer(torch.ones(1, 5)))


@METHODS
def test_a_frozen_module_is_copied_deeply(method: Any) -> None:
    layer = nn.Linear(5, 7).requires_grad_(False)
    method.apply(layer, "weight", 0.5)
    other = copy.deepcopy(layer)
    remove(other, "weight")
    assert torch.equal(other.weight, layer.weight)
    assert torch_prune.is_pruned(layer)


@METHODS
def test_gradients_reach_the_original_through_the_mask(method: Any) -> None:
    layer = nn.Linear(5, 2)
    parameter = layer.weight
    method.apply(layer, "weight", 4)
    layer(torch.ones(1, 5)).sum().backward()
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, mask_of(layer))
    assert not mask_of(layer).requires_grad


@METHODS
def test_the_flat_weights_of_a_recurrent_module_follow(method: Any) -> None:
    lstm = nn.LSTM(8, 8)
    parameters = {name: id(parameter) for name, parameter in lstm.named_parameters()}
    method.apply(lstm, "weight_ih_l0", 0.5)
    assert sum(isinstance(weight, nn.Parameter) for weight in lstm._flat_weights) == 3
    torch_prune.remove(lstm, "weight_ih_l0")
    assert {name: id(parameter) for name, parameter in lstm.named_parameters()} == parameters
    assert sum(isinstance(weight, nn.Parameter) for weight in lstm._flat_weights) == 4


@METHODS
def test_the_method_remove_leaves_the_hook_to_the_function(method: Any) -> None:
    layer = nn.Linear(5, 7)
    hook = method.apply(layer, "weight", 0.5)
    hook.remove(layer)
    assert list(layer.state_dict()) == ["bias", "weight"]
    assert hooks_of(layer) == [hook]


@METHODS
def test_scores_of_another_shape_are_an_assertion_error(method: Any) -> None:
    scores = torch.ones(2, 2)
    with pytest.raises(AssertionError, match="importance_scores"):
        method(0.5).prune(torch.ones(2, 3), importance_scores=scores)


@METHODS
def test_torchs_seed_rules_where_no_other_is_given(method: Any) -> None:
    masks = []
    for torch_seed in (3, 3, 4):
        torch.manual_seed(torch_seed)
        masks.append(method(0.5).prune(torch.ones(64)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


# ---- exact, uniform and the same for every dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_real_dtype_is_pruned_exactly_and_alike(dtype: torch.dtype) -> None:
    module = holder(torch.ones(30, 50).to(dtype))
    random_unstructured(module, "weight", 0.3, seed=5)
    assert mask_of(module).dtype == dtype
    assert mask_of(module).shape == (30, 50)
    expected = RandomUnstructured(0.3, seed=5, key="weight").compute_mask(torch.ones(1500), torch.ones(1500))
    assert torch.equal(mask_of(module).to(torch.float32).flatten(), expected)
    assert pruned(expected) == 450
    random_unstructured(module, "weight", 50, seed=5)
    hooks_of(module)[0](module, ())
    assert remove(module, "weight").get_parameter("weight").dtype == dtype
    assert pruned(module.get_parameter("weight")) == 500


def test_a_coarse_dtype_is_pruned_evenly_where_torch_prunes_the_front() -> None:
    values = torch.ones(1 << 22, dtype=torch.bfloat16)
    mask = RandomUnstructured(0.001, seed=1).compute_mask(values, values)
    quarters = [pruned(quarter) for quarter in mask.view(4, -1)]
    assert sum(quarters) == 4194
    assert all(900 < quarter < 1200 for quarter in quarters)  # 1048.5 +- 5 standard deviations


@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64, torch.complex128])
@pytest.mark.parametrize("prior", [False, True])
def test_a_complex_element_is_kept_or_zeroed_whole(dtype: torch.dtype, prior: bool) -> None:
    module, real = holder((torch.randn(30, 20) + 1j * torch.randn(30, 20)).to(dtype)), holder(torch.randn(30, 20))
    values = module.get_parameter("weight").detach().clone()
    for each in (module, real):
        for seed in range(2 if prior else 1):
            random_unstructured(each, "weight", 0.5, seed=seed)
    mask = mask_of(module)
    assert mask.dtype == dtype
    assert torch.equal(mask.to(torch.complex64), mask_of(real).to(torch.complex64))
    assert torch.equal(
        torch.view_as_real(vars(module)["weight"].detach())[mask_of(real) == 0].abs().float(),
        torch.zeros(450 if prior else 300, 2),
    )
    remove(module, "weight")
    left = torch.view_as_real(module.get_parameter("weight").detach())
    assert torch.equal(left[mask_of(real) == 1], torch.view_as_real(values)[mask_of(real) == 1])


@pytest.mark.parametrize("dtype", [torch.float8_e8m0fnu])
def test_a_dtype_that_has_no_pruned_element_is_refused(dtype: torch.dtype) -> None:
    values = torch.ones(4).to(dtype)
    with pytest.raises(TypeError, match=re.escape(str(dtype))):
        RandomUnstructured(2).prune(values)
    module = holder(values)
    before = state_of(module)
    with pytest.raises(TypeError, match=re.escape(str(dtype))):
        random_unstructured(module, "weight", 2)
    assert state_of(module) == before


def strided() -> list[Tensor]:
    images = torch.randn(4, 6, 3, 5)
    return [
        torch.randn(20, 18).t(),
        images.contiguous(memory_format=torch.channels_last),
        torch.randn(36, 20)[::2],
        torch.randn(3, 1, 120).expand(3, 1, 120).permute(2, 0, 1),
    ]


@pytest.mark.parametrize("values", strided(), ids=["transposed", "channels_last", "stepped", "permuted"])
def test_elements_count_in_logical_order_and_strides_survive(values: Tensor) -> None:
    module = holder(values)
    random_unstructured(module, "weight", 100, seed=2)
    chosen = Subset(stream_key(2, "weight", 360), 360, 100).span(0, 360)
    assert torch.equal(mask_of(module) == 0, torch.from_numpy(chosen).view(values.shape))
    assert mask_of(module).is_contiguous()
    hooks_of(module)[0](module, ())
    product: Any = module.weight
    assert product.stride() == (values * 1).stride()
    expected = product.detach().clone()
    remove(module, "weight")
    assert torch.equal(module.get_parameter("weight"), expected)
    assert pruned(expected) == 100


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (1, 1, 1)], ids=str)
def test_the_smallest_tensors(shape: tuple[int, ...]) -> None:
    values = torch.ones(shape)
    assert pruned(RandomUnstructured(1.0).compute_mask(values, values)) == values.numel()
    assert pruned(RandomUnstructured(0).compute_mask(values, values)) == 0


# ---- the stream


def test_the_mask_depends_on_seed_and_key_alone() -> None:
    def draw(seed: int, key: str | None) -> Tensor:
        return mask_of(random_unstructured(nn.Linear(32, 32), "weight", 0.5, seed=seed, key=key))

    torch.manual_seed(1)
    mask = draw(7, "layer1.weight")
    torch.manual_seed(2)
    assert torch.equal(draw(7, "layer1.weight"), mask)
    assert torch.equal(draw(7, None), draw(7, "weight"))
    assert not torch.equal(draw(7, "layer2.weight"), mask)
    assert not torch.equal(draw(8, "layer1.weight"), mask)


def test_the_mask_is_the_subset_that_the_rewriter_of_files_draws() -> None:
    count = BLOCK + 1000
    mask = RandomUnstructured(0.3, seed=7, key="a.b").compute_mask(torch.ones(count), torch.ones(count))
    subset = Subset(stream_key(7, "a.b", count), count, round(0.3 * count))
    assert np.array_equal(mask.numpy() == 0, subset.span(0, count))


def test_a_given_seed_leaves_torchs_generator_alone_and_a_drawn_one_is_kept() -> None:
    state = torch.get_rng_state()
    RandomUnstructured(0.5, seed=1).prune(torch.ones(10))
    assert torch.equal(torch.get_rng_state(), state)
    method = RandomUnstructured(0.5)
    assert 0 <= method.seed < 1 << 53
    again = RandomUnstructured(0.5, seed=method.seed)
    assert torch.equal(again.prune(torch.ones(999)), method.prune(torch.ones(999)))


def test_pruning_again_with_one_seed_is_another_draw() -> None:
    layer = random_unstructured(nn.Linear(100, 100), "weight", 0.5, seed=7)
    first = mask_of(layer)
    random_unstructured(layer, "weight", 0.5, seed=7)
    left = mask_of(layer)[first != 0]
    same = RandomUnstructured(0.5, seed=7, key="weight").compute_mask(torch.ones(10000), torch.ones(10000))
    agreeing = int((left == same[:5000]).sum())
    assert 2200 < agreeing < 2800  # 2500 +- 8 standard deviations; a repeated draw would agree on all 5000


# ---- earlier masks


@given(
    bits=st.lists(st.sampled_from([0.0, -0.0, 1.0, 0.5, float("nan")]), min_size=1, max_size=60),
    amount=AMOUNTS,
    seed=st.integers(0, 2**70),
)
def test_a_prior_mask_is_respected_to_the_bit(bits: list[float], amount: float, seed: int) -> None:
    before = torch.tensor(bits)
    untouched = before.clone()
    candidates = int((before != 0).sum())
    method = RandomUnstructured(amount, seed=seed)
    if amount > candidates and isinstance(amount, int):
        with pytest.raises(UsageError, match=f"prune {amount} elements .* {candidates} are left"):
            method.compute_mask(torch.ones(len(bits)), before)
        return
    mask = method.compute_mask(torch.ones(len(bits)), before)
    asked = amount if isinstance(amount, int) else round(amount * candidates)
    assert int((mask == 0).sum()) == len(bits) - candidates + asked
    kept = mask != 0
    assert torch.equal(mask[kept].view(torch.int32), before[kept].view(torch.int32))
    assert not bool(torch.signbit(mask[~kept]).any())
    assert torch.equal(before.view(torch.int32), untouched.view(torch.int32))


@pytest.mark.parametrize("count", [1000, 2 * BLOCK + 12345])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.97])
def test_a_container_gives_the_same_as_a_direct_call(count: int, share: float) -> None:
    values = torch.ones(count)
    before = RandomUnstructured(share, seed=1).compute_mask(values, values)
    method = RandomUnstructured(0.4, seed=2, key="k")
    method._tensor_name = "weight"
    direct = method.compute_mask(values, before)
    container = torch_prune.PruningContainer(method)
    assert torch.equal(container.compute_mask(values, before), direct)
    left = count - round(share * count)
    assert pruned(direct) == count - left + round(0.4 * left)


def test_a_live_module_pruned_twice_equals_two_masks_in_a_row() -> None:
    layer = nn.Linear(1500, 1000)
    random_unstructured(layer, "weight", 0.5, seed=1)
    random_unstructured(layer, "weight", 0.5, seed=1)
    values = torch.ones(1000, 1500)
    first = RandomUnstructured(0.5, seed=1, key="weight").compute_mask(values, values)
    second = RandomUnstructured(0.5, seed=1, key="weight").compute_mask(values, first)
    assert torch.equal(mask_of(layer), second)
    assert pruned(second) == 1_125_000


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_mask_keeps_its_own_dtype_and_strides_do_not_matter(dtype: torch.dtype) -> None:
    before = torch.tensor([[1, 0, 1], [1, 1, 0]]).to(dtype)
    masks = [
        RandomUnstructured(2, seed=3).compute_mask(torch.ones(2, 3), given)
        for given in (before, before.t().contiguous().t())
    ]
    for mask in masks:
        assert mask.dtype == dtype
        assert mask.is_contiguous()
        assert pruned(mask) == 4
        assert bool((mask.to(torch.float32) <= before.to(torch.float32)).all())
    assert torch.equal(masks[0].to(torch.float32), masks[1].to(torch.float32))


def test_the_values_of_a_strided_mask_stay_in_their_places() -> None:
    before = torch.arange(600.0).view(20, 30).t().requires_grad_()
    mask = RandomUnstructured(0.5, seed=3).compute_mask(torch.ones(30, 20), before)
    assert not mask.requires_grad
    assert torch.equal(mask[mask != 0], before[mask != 0])
    assert pruned(mask) == 1 + round(0.5 * 599)


def test_a_mask_of_another_dtype_takes_on_that_of_the_parameter() -> None:
    layer = random_unstructured(nn.Linear(5, 7), "weight", 10)
    layer.register_buffer("weight_mask", mask_of(layer).to(torch.bool))
    random_unstructured(layer, "weight", 5)
    assert mask_of(layer).dtype == torch.float32
    assert pruned(mask_of(layer)) == 15


def test_prune_picks_among_what_is_unpruned() -> None:
    before = torch.zeros(10, 10)
    before[3] = 1
    for seed in range(20):
        result = RandomUnstructured(9, seed=seed).prune(torch.full((10, 10), 2.0), before)
        assert int((result != 0).sum()) == 1
        assert float(result[3].sum()) == 2.0


def test_prune_keeps_the_dtype_and_does_not_look_at_scores() -> None:
    values = torch.arange(1, 101, dtype=torch.bfloat16)
    method = RandomUnstructured(0.5, seed=1)
    result = method.prune(values, torch.ones(100), importance_scores=-values.float())
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, method.prune(values))


# ---- errors


@pytest.mark.parametrize("amount", [-1, 1.1, -0.1, float("nan"), float("inf")])
def test_an_amount_out_of_range_is_refused_at_once(amount: float) -> None:
    with pytest.raises(ValueError, match="amount"):
        RandomUnstructured(amount)


@pytest.mark.parametrize("amount", [True, "0.5", None, 1j])
def test_an_amount_of_another_type_is_refused_at_once(amount: Any) -> None:
    with pytest.raises(TypeError, match="amount"):
        RandomUnstructured(amount)


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.0, TypeError), (True, TypeError), ("1", TypeError)])
def test_a_bad_seed_is_refused_at_once(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed"):
        RandomUnstructured(0.5, seed=seed)


def test_numpy_amounts_and_seeds_are_taken() -> None:
    method = RandomUnstructured(np.float64(0.5), seed=np.int64(3))  # type: ignore[arg-type]
    assert (type(method.amount), type(method.seed)) == (float, int)


def test_what_was_not_applied_says_so() -> None:
    layer = nn.Linear(2, 3)
    methods: list[Any] = [RandomUnstructured(1), RandomUnstructured.apply(nn.Linear(2, 3), "weight", 1)]
    for method in methods:
        with pytest.raises(ValueError, match="Linear has to be pruned"):
            method.apply_mask(layer)
        with pytest.raises(ValueError, match="Linear has to be pruned"):
            method.remove(layer)
    with pytest.raises(ValueError, match="weight of Linear has to be pruned"):
        remove(layer, "weight")
    random_unstructured(layer, "weight", 1)
    with pytest.raises(ValueError, match="bias of Linear has to be pruned"):
        remove(layer, "bias")


@pytest.mark.parametrize("before", [0, 21])
def test_too_large_an_amount_names_parameter_asked_and_left(before: int) -> None:
    layer = random_unstructured(nn.Linear(5, 7), "weight", before)
    with pytest.raises(UsageError, match=rf"prune 99 elements of weight: {35 - before} are left"):
        random_unstructured(layer, "weight", 99)
    with pytest.raises(UsageError, match=r"prune 99 elements of head\.bias: 7 are left"):
        random_unstructured(layer, "bias", 99, key="head.bias")
    random_unstructured(layer, "weight", 35 - before)
    assert pruned(mask_of(layer)) == 35


@pytest.mark.parametrize("name", ["wieght", "", "0.weight", "weight_orig"])
def test_a_name_that_is_no_parameter_is_answered_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"Linear has no parameter .*weight, bias"):
        random_unstructured(nn.Linear(2, 3), name, 1)


def test_an_absent_bias_is_no_parameter() -> None:
    with pytest.raises(ValueError, match="no parameter bias"):
        random_unstructured(nn.Linear(2, 3, bias=False), "bias", 1)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"default_mask has the shape \(6,\).*\(2, 3\)"):
        RandomUnstructured(1).prune(torch.ones(2, 3), torch.ones(6))


# ---- nothing changes on failure


class Stubborn(nn.Linear):
    """Fails when a tensor is put in the place of its parameter."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
            raise RuntimeError("no")
        super().__setattr__(name, value)


def occupied() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight_mask = "taken"  # type: ignore[assignment]
    return layer


def with_hooks(module: nn.Module, prior: Any | None) -> nn.Module:
    module.register_forward_pre_hook(lambda *_: None)
    if prior is not None:
        prior.apply(module, "weight", 10)
        module.register_forward_pre_hook(lambda *_: None)
    return module


def fail_to_apply(module: nn.Module, **options: Any) -> None:
    before = state_of(module)
    with pytest.raises((ValueError, TypeError, RuntimeError, KeyError)):
        RandomUnstructured.apply(module, "weight", **options)
    assert state_of(module) == before


@pytest.mark.parametrize("prior", [None, RandomUnstructured, torch_prune.L1Unstructured])
@pytest.mark.parametrize(
    "options",
    [
        {"amount": 99},
        {"amount": 1.5},
        {"amount": True},
        {"amount": 1, "seed": -1},
        {"amount": 1, "importance_scores": torch.ones(3)},
        {"amount": 1, "importance_scores": torch.ones(4, 4).to(torch.float8_e8m0fnu)},
    ],
    ids=str,
)
def test_a_failed_apply_leaves_the_module_as_it_was(prior: Any, options: dict[str, Any]) -> None:
    module = with_hooks(nn.Linear(4, 4), prior)
    fail_to_apply(module, **options)
    random_unstructured(module, "weight", 2)
    module(torch.ones(1, 4))
    remove(module, "weight")
    assert pruned(module.get_parameter("weight")) == (2 if prior is None else 12)
    assert len(hooks_of(module)) == (1 if prior is None else 2)


@pytest.mark.parametrize("module", [Stubborn(4, 4), occupied()], ids=["setattr fails", "name is taken"])
def test_a_failure_halfway_is_rolled_back(module: nn.Module) -> None:
    handle = module.register_forward_pre_hook(lambda *_: None)
    fail_to_apply(module, amount=3)
    handle.remove()
    assert not hooks_of(module)
    assert module(torch.ones(1, 4)).shape == (1, 4)


def test_a_failure_halfway_keeps_the_container_and_the_flat_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    lstm = nn.LSTM(4, 4)
    random_unstructured(lstm, "weight_ih_l0", 8)
    container: Any = RandomUnstructured.apply(lstm, "weight_ih_l0", 8)
    flat = [id(weight) for weight in lstm._flat_weights]

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "register_forward_pre_hook", interrupted)
        before = state_of(lstm)
        with pytest.raises(KeyboardInterrupt):
            random_unstructured(lstm, "weight_ih_l0", 8)
        assert state_of(lstm) == before
    assert [id(weight) for weight in lstm._flat_weights] == flat
    assert len(container) == 2
    remove(lstm, "weight_ih_l0")
    assert pruned(lstm.get_parameter("weight_ih_l0")) == 16


def test_a_failing_mask_leaves_the_module_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> Tensor:
        raise RuntimeError("HA!")

    monkeypatch.setattr(RandomUnstructured, "compute_mask", failing)
    fail_to_apply(nn.Linear(4, 4), amount=3)


def test_two_hooks_on_one_parameter_are_refused() -> None:
    layer = random_unstructured(nn.Linear(4, 4), "weight", 1)
    layer.register_forward_pre_hook(hooks_of(layer)[0])
    fail_to_apply(layer, amount=1)


# ---- memory

PEAK = """
import os, torch
from prunecli.modules.random_unstructured import RandomUnstructured

def status(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

def measured(again):
    values = torch.ones(count)
    before = values.clone()
    if again:
        before.view(-1, 2)[:, 0] = 0
    RandomUnstructured(0.5, seed=1).compute_mask(values[:10], before[:10])
    start = status("VmRSS")
    mask = RandomUnstructured(0.5, seed=1).compute_mask(values, before)
    return (status("VmHWM") - start - mask.nbytes) / count

count = 1 << 23
if not (child := os.fork()):  # a peak of its own
    print(measured(True), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(measured(False))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of its memory from /proc")
def test_a_mask_takes_at_most_three_bytes_an_element_beside_itself() -> None:
    run = subprocess.run([*python(*TORCHRUN), "-c", PEAK], cwd=ROOT, capture_output=True, text=True, check=True)
    again, first = map(float, run.stdout.split())
    assert 0 < again <= 3
    assert 0 < first <= 3
