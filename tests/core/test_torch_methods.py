"""The drop-ins for torch's methods: the same masks where nothing ties, exact and uniform where something does.

The ideas are those of torch's own tests of its module, for every class.
"""

import copy
import importlib
import io
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

import prunecli
from prunecli import prune_module
from prunecli.errors import UsageError

torch_prune: Any = importlib.import_module("torch.nn.utils.prune")  # its functions are untyped
Apply = Callable[[Any, Any], Any]


def distinct(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Values whose magnitudes differ, with both signs."""
    generator = torch.Generator().manual_seed(len(shape))
    count = torch.Size(shape).numel()
    values = (torch.randperm(count, generator=generator) + 1).to(torch.float64) / count
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    return (values * signs).view(shape).to(dtype)


def modules(dtype: torch.dtype = torch.float32) -> list[Any]:
    """A linear layer and a convolution, equal at each call."""
    found: list[Any] = [nn.Linear(12, 10), nn.Conv2d(6, 8, 3)]
    for each in found:
        each.weight = nn.Parameter(distinct(*each.weight.shape, dtype=dtype))
    return found


SAME: dict[str, Apply] = {
    "l1": lambda lib, module: lib.l1_unstructured(module, "weight", 0.3),
    "l1, a number": lambda lib, module: lib.l1_unstructured(module, "weight", amount=7),
    "l1 by scores": lambda lib, module: lib.l1_unstructured(
        module, "weight", 0.3, importance_scores=distinct(*module.weight.shape).flip(0)
    ),
    "ln 1, first dimension": lambda lib, module: lib.ln_structured(module, "weight", 2, 1, 0),
    "ln 2, second dimension": lambda lib, module: lib.ln_structured(module, "weight", 0.5, n=2, dim=1),
    "ln inf, last dimension": lambda lib, module: lib.ln_structured(module, "weight", 1, float("inf"), -1),
    "ln by scores": lambda lib, module: lib.ln_structured(
        module, "weight", 2, 2, 0, importance_scores=distinct(*module.weight.shape).flip(0)
    ),
    "mask": lambda lib, module: lib.custom_from_mask(module, "weight", (module.weight > 0).float()),
    "identity": lambda lib, module: lib.identity(module, "weight"),
}
"""Calls, of torch's module or ours, that choose the same."""

OURS: dict[str, Apply] = SAME | {
    "random": lambda lib, module: lib.random_unstructured(module, "weight", 0.5, seed=3),
    "random slices": lambda lib, module: lib.random_structured(module, "weight", 2, dim=0, seed=3),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SAME)
def test_masks_are_those_of_torch(name: str, dtype: torch.dtype) -> None:
    for ours, theirs in zip(modules(dtype), modules(dtype), strict=True):
        SAME[name](prunecli, ours)
        SAME[name](torch_prune, theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        assert torch.equal(ours.weight_mask, theirs.weight_mask)
        assert torch.equal(ours.weight, theirs.weight)


@pytest.mark.parametrize("second", SAME)
@pytest.mark.parametrize("first", SAME)
def test_calls_after_each_other_choose_from_what_is_left_as_in_torch(first: str, second: str) -> None:
    for ours, theirs in zip(modules(), modules(), strict=True):
        for name in (first, second):
            SAME[name](prunecli, ours)
            SAME[name](torch_prune, theirs)
        assert torch.equal(ours.weight_mask, theirs.weight_mask)
        assert isinstance(next(iter(ours._forward_pre_hooks.values())), torch_prune.PruningContainer)


@pytest.mark.parametrize("name", SAME)
def test_calls_of_torch_and_ours_mix(name: str) -> None:
    for ours, theirs in zip(modules(), modules(), strict=True):
        torch_prune.l1_unstructured(ours, "weight", 5)
        SAME[name](prunecli, ours)
        torch_prune.l1_unstructured(ours, "weight", 5)
        for each in (SAME["l1, a number"], SAME[name]):
            each(torch_prune, theirs)
        assert int(ours.weight_mask.sum()) < int(ours.weight_mask.numel())
        prunecli.remove(ours, "weight")
        assert not prunecli.is_pruned(ours)


@pytest.mark.parametrize("name", OURS)
def test_a_method_keeps_torch_protocol(name: str) -> None:
    for module in modules():
        original, bias = module.weight, module.bias
        assert not prunecli.is_pruned(nn.Sequential(module))
        assert OURS[name](prunecli, module) is module
        assert prunecli.is_pruned(nn.Sequential(module))
        assert torch_prune.is_pruned(module)
        assert module.weight_orig is original
        assert module.bias is bias
        assert module.weight_mask.shape == original.shape
        assert module.weight_mask.dtype == original.dtype
        with torch.no_grad():
            module.weight_orig.add_(1)
            module(torch.ones(1, *module.weight.shape[1:]))
        assert torch.equal(module.weight, module.weight_orig * module.weight_mask)
        kept = module.weight.detach().clone()
        torch_prune.remove(module, "weight")
        assert module.weight is original
        assert torch.equal(module.weight, kept)


@pytest.mark.parametrize("name", OURS)
def test_pruned_modules_pickle_copy_and_load(name: str) -> None:
    module = modules()[0]
    with torch.no_grad():
        OURS[name](prunecli, module)
    for made in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(made.weight_mask, module.weight_mask)
        assert prunecli.is_pruned(made)
    saved = io.BytesIO()
    torch.save(module.state_dict(), saved)
    saved.seek(0)
    other: Any = prunecli.identity(nn.Linear(12, 10), "weight")
    other.load_state_dict(torch.load(saved, weights_only=True))
    assert torch.equal(other.weight_mask, module.weight_mask)
    for each in (module, other):  # what was loaded is ranked, although no forward pass has made `weight` of it
        prunecli.l1_unstructured(each, "weight", 0.5)
    assert torch.equal(other.weight_mask, module.weight_mask)


METHODS: list[Callable[[], Any]] = [
    lambda: prunecli.RandomUnstructured(4, seed=1),
    lambda: prunecli.L1Unstructured(4, seed=1),
    lambda: prunecli.RandomStructured(1, dim=0, seed=1),
    lambda: prunecli.LnStructured(1, 2, dim=0, seed=1),
    lambda: prunecli.CustomFromMask((distinct(10, 12) > 0).float()),
    lambda: prunecli.Identity(),
]


@pytest.mark.parametrize("made", METHODS)
def test_prune_returns_a_copy_and_continues_a_mask(made: Callable[[], Any]) -> None:
    values, before = distinct(10, 12), torch.ones(10, 12)
    before[3:5] = 0
    pruned = made().prune(values, default_mask=before)
    assert torch.equal(pruned, values * made().compute_mask(values, before))
    assert not pruned[3:5].any()
    again = made().prune(values, importance_scores=values.clone())
    assert torch.equal(again, made().prune(values))


@pytest.mark.parametrize("made", METHODS)
def test_what_fails_leaves_the_module_unchanged(made: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(made())
    module: Any = nn.Linear(12, 10)
    before = dict(module.state_dict())
    monkeypatch.setattr(kind, "compute_mask", lambda self, t, default_mask: torch.ones(1, 2, 3, 4, 5))
    with pytest.raises(RuntimeError):
        made()._apply_to(module, "weight")
    assert list(module.state_dict()) == list(before)
    assert not module._forward_pre_hooks
    with pytest.raises(UsageError, match="has no parameter nothing"):
        made()._apply_to(module, "nothing")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: prunecli.l1_unstructured(m, "weight", 121), "121"),
        (lambda m: prunecli.l1_unstructured(m, "weight", 1.5), "1.5"),
        (lambda m: prunecli.l1_unstructured(m, "weight", 2, torch.ones(3)), "importance_scores has the shape"),
        (lambda m: prunecli.ln_structured(m, "weight", 11, 2, 0), "11"),
        (lambda m: prunecli.ln_structured(m, "weight", 1, 2, 2), "dim"),
        (lambda m: prunecli.ln_structured(m, "weight", 1, "fro", 0), "not a norm"),
        (lambda m: prunecli.ln_structured(m, "weight", 1, 3, 0), "not a norm"),
        (lambda m: prunecli.random_structured(m, "weight", 1, -3), "dim"),
        (lambda m: prunecli.custom_from_mask(m, "weight", torch.ones(2)), "the mask has the shape"),
    ],
)
def test_what_cannot_be_done_is_refused(call: Callable[[nn.Module], object], message: str) -> None:
    module: Any = nn.Linear(12, 10)
    with pytest.raises(UsageError, match=message) as caught:
        call(module)
    assert "--" not in str(caught.value)  # no option of the command line
    assert not prunecli.is_pruned(module)


def test_equal_elements_are_chosen_uniformly_and_counted_exactly() -> None:
    values = torch.tensor([1.0, -1.0, 1.0, 2.0, 0.5, -1.0], dtype=torch.bfloat16)
    found: Counter[tuple[int, ...]] = Counter()
    for seed in range(3000):
        mask = prunecli.L1Unstructured(3, seed=seed).compute_mask(values, torch.ones(6))
        assert int(mask.sum()) == 3
        assert mask[3] == 1
        assert mask[4] == 0
        found[tuple(mask.int().tolist())] += 1
    assert len(found) == 6  # two of the four elements of magnitude one
    assert chisquare(list(found.values())).pvalue > 0.001


def test_slices_are_drawn_uniformly() -> None:
    found = Counter(
        tuple(
            prunecli.RandomStructured(2, 0, seed=seed).compute_mask(torch.ones(4, 3), torch.ones(4, 3))[:, 0].tolist()
        )
        for seed in range(3000)
    )
    assert len(found) == 6
    assert chisquare(list(found.values())).pvalue > 0.001


def test_a_fraction_of_slices_counts_those_that_have_something_left() -> None:
    before = torch.ones(8, 3)
    before[:4] = 0
    mask = prunecli.LnStructured(0.5, 2, 0).compute_mask(distinct(8, 3), before)
    assert int(mask.any(1).sum()) == 2


def test_nan_is_kept() -> None:
    values = torch.tensor([float("nan"), 1.0, float("inf"), -0.0])
    assert prunecli.L1Unstructured(3).compute_mask(values, torch.ones(4)).tolist() == [1, 0, 0, 0]
    with pytest.raises(UsageError, match="NaN"):
        prunecli.L1Unstructured(4).compute_mask(values, torch.ones(4))


def network() -> Any:
    found: Any = nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4))
    values = distinct(160)
    found[0].weight, found[2].weight = nn.Parameter(values[:120].view(10, 12)), nn.Parameter(values[120:].view(4, 10))
    return found


def pairs(module: Any) -> list[tuple[nn.Module, str]]:
    return [(module[0], "weight"), (module[2], "weight")]


@pytest.mark.parametrize("amount", [0.3, 70])
def test_a_global_amount_is_that_of_torch(amount: float) -> None:
    ours, theirs = network(), network()
    for round_ in range(2):
        amount = amount if round_ == 0 else 20
        prunecli.global_unstructured(pairs(ours), prunecli.L1Unstructured, amount=amount)
        torch_prune.global_unstructured(pairs(theirs), torch_prune.L1Unstructured, amount=amount)
        for one, other in zip((ours[0], ours[2]), (theirs[0], theirs[2]), strict=True):
            assert torch.equal(one.weight_mask, other.weight_mask)
            assert torch.equal(one.weight, other.weight)


def test_global_scores_replace_the_values() -> None:
    ours, theirs = network(), network()
    for lib, module in ((prunecli, ours), (torch_prune, theirs)):
        scores = {pairs(module)[0]: distinct(10, 12).flip(1)}
        lib.global_unstructured(pairs(module), lib.L1Unstructured, scores, amount=0.4)
    assert torch.equal(ours[0].weight_mask, theirs[0].weight_mask)
    assert torch.equal(ours[2].weight_mask, theirs[2].weight_mask)


@pytest.mark.parametrize(("kind", "method"), [(prunecli.L1Unstructured, "l1"), (prunecli.RandomUnstructured, "random")])
def test_with_names_as_keys_global_masks_are_those_of_the_command_line(kind: Any, method: str) -> None:
    one, other = network().bfloat16(), network().bfloat16()
    for module in (one, other):
        for each in (module[0], module[2]):
            each.weight = nn.Parameter((distinct(*each.weight.shape) * 4).round().bfloat16())  # many ties
    prunecli.global_unstructured(pairs(one), kind, amount=0.45, seed=9, keys=["0.weight", "2.weight"])
    prune_module(other, "*.weight", 0.45, seed=9, everywhere=True, method=method)
    assert torch.equal(one[0].weight_mask, other[0].weight_mask)
    assert torch.equal(one[2].weight_mask, other[2].weight_mask)


@pytest.mark.parametrize(
    ("call", "settings"),
    [
        (lambda m: prunecli.l1_unstructured(m, "weight", 0.4, seed=5, key="0.weight"), {"method": "l1"}),
        (
            lambda m: prunecli.ln_structured(m, "weight", 3, 2, 0, seed=5, key="0.weight"),
            {"method": "ln", "norm": 2, "dim": 0},
        ),
        (
            lambda m: prunecli.random_structured(m, "weight", 3, 1, seed=5, key="0.weight"),
            {"method": "random-structured", "dim": 1},
        ),
    ],
)
def test_classes_choose_what_the_command_line_does(call: Callable[[nn.Module], object], settings: Any) -> None:
    values = (distinct(10, 12) * 3).round()
    one: Any = nn.Sequential(nn.Linear(12, 10))
    other: Any = nn.Sequential(nn.Linear(12, 10))
    one[0].weight, other[0].weight = nn.Parameter(values), nn.Parameter(values.clone())
    call(one[0])
    prune_module(other, "0.weight", 3 if "dim" in settings else 0.4, seed=5, **settings)
    assert torch.equal(one[0].weight_mask, other[0].weight_mask)


def test_other_methods_go_to_torch_and_wrong_parameters_are_refused() -> None:
    module = network()
    prunecli.global_unstructured(pairs(module), torch_prune.L1Unstructured, amount=10)
    assert int((module[0].weight_mask == 0).sum() + (module[2].weight_mask == 0).sum()) == 10
    with pytest.raises(TypeError):
        prunecli.global_unstructured(pairs(module), prunecli.LnStructured, amount=1, n=2, dim=0)
    with pytest.raises(TypeError, match="pairs"):
        prunecli.global_unstructured([module], prunecli.L1Unstructured, amount=1)
    with pytest.raises(UsageError, match="occurs twice"):
        prunecli.global_unstructured(pairs(module) * 2, prunecli.L1Unstructured, amount=1)
    with pytest.raises(UsageError, match="1 different keys"):
        prunecli.global_unstructured(pairs(module), prunecli.L1Unstructured, amount=1, keys=["a", "a"])
    before = [each.clone() for each in module.state_dict().values()]
    with pytest.raises(UsageError, match="151"):
        prunecli.global_unstructured(pairs(module), prunecli.L1Unstructured, amount=151)
    assert all(map(torch.equal, before, module.state_dict().values()))


@pytest.mark.parametrize("made", METHODS[:4])
def test_nothing_is_chosen_on_the_meta_device(made: Callable[[], Any]) -> None:
    with torch.device("meta"):
        module: Any = nn.Linear(12, 10)
    assert made()._apply_to(module, "weight") is next(iter(module._forward_pre_hooks.values()))
    assert module.weight_mask.device.type == "meta"
    assert module.weight_mask.shape == (10, 12)


@pytest.mark.parametrize("shape", [(1 << 20, 3), (1100, 1000)])
def test_tensors_of_several_blocks_with_a_mask(shape: tuple[int, int]) -> None:
    values = (torch.arange(shape[0] * shape[1]) % 4096).to(torch.bfloat16).view(shape)
    before = torch.ones(shape)
    before[::2] = 0
    mask = prunecli.L1Unstructured(0.5, seed=2).compute_mask(values, before)
    assert int(mask.sum()) == round(int(before.sum()) * 0.5)
    assert not torch.gt(mask, before).any()
    pruned, kept = torch.gt(before, mask), mask.bool()
    assert values[pruned].max() <= values[kept].min()


FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]


@pytest.mark.parametrize("of_mask", [*FLOAT8[:2], torch.float32, torch.bool, torch.uint16], ids=str)
@pytest.mark.parametrize("dtype", [*FLOAT8, torch.bfloat16, torch.uint16], ids=str)
def test_masks_and_weights_of_any_types_are_multiplied_in_that_of_the_weight(
    dtype: torch.dtype, of_mask: torch.dtype
) -> None:
    for shape in ((), (1, 1), (3, 4)):  # torch does not multiply single numbers of 8 bits
        values = torch.arange(-4.0, 8.0)[: torch.Size(shape).numel()].view(shape).abs().to(dtype)
        ones = torch.ones(shape).to(of_mask)
        layer: Any = nn.Module()
        layer.weight = nn.Parameter(values, requires_grad=False)
        prunecli.identity(layer, "weight")
        layer.weight_mask = ones
        for act in (
            lambda module, _: prunecli.random_unstructured(module, "weight", 0.5),
            lambda module, ones: prunecli.custom_from_mask(module, "weight", ones),
            lambda module, _: prunecli.global_unstructured([(module, "weight")], prunecli.L1Unstructured, amount=0.5),
            lambda module, _: prune_module(module, "weight", 0.5),
            lambda module, _: next(iter(module._forward_pre_hooks.values()))(module, ()),
            lambda module, ones: prunecli.RandomUnstructured(0.5).prune(module.weight, ones),
        ):
            act(pruned := copy.deepcopy(layer), ones)
            expected = (values.float() * pruned.weight_mask.float()).to(dtype)
            assert pruned.weight.dtype == dtype
            assert torch.equal(pruned.weight.float(), expected.float())
            prunecli.remove(pruned, "weight")
            assert torch.equal(pruned.weight.float(), expected.float())
