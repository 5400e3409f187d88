"""Whatever fails, wherever it does: the module is what it was, object by object and bit by bit."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

import pytest
import torch
from live_zoo import Tied, make
from surgery_zoo import raw
from torch import Tensor, nn
from torch.nn.utils import prune as untyped_prune
from torch.nn.utils.prune import BasePruningMethod

import prunecli.modules.hooks
import prunecli.modules.layout
import prunecli.modules.passes
import prunecli.modules.sites
from prunecli import bake_module, prune_module
from prunecli.errors import PrunecliError, UnsupportedError, UsageError

prune: Any = untyped_prune


def picture(thing: object) -> object:
    """Describe an object down to identities, order and bits, as far as pruning could reach."""
    if isinstance(thing, Tensor):
        grad = None if thing.is_leaf is False or thing.grad is None else (id(thing.grad), raw(thing.grad))
        return (id(thing), thing.requires_grad, raw(thing), grad)
    if isinstance(thing, dict):
        return (id(thing), type(thing), [(key, picture(value)) for key, value in thing.items()])
    if isinstance(thing, list | tuple):
        return (id(thing), type(thing), [picture(each) for each in thing])
    if isinstance(thing, set):
        return (id(thing), sorted(thing))
    if isinstance(thing, nn.Module | BasePruningMethod):
        return (id(thing), type(thing), picture(vars(thing)))
    return id(thing)


class FailureError(PrunecliError):
    """What the tests raise."""


def prepared(name: str) -> nn.Module:
    """Make a model that has gradients, and masks on some parameters: of torch's methods and containers, and ours."""
    model = make(name)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    names = [key for key, each in model.named_parameters() if each.dim() == 2][:2]
    for round_number, key in enumerate((names[0], names[0], names[1])):
        path, _, leaf = key.rpartition(".")
        if round_number < 2:
            prune.random_unstructured(model.get_submodule(path), leaf, 0.25)
        else:
            prune_module(model, key, 0.25, seed=1)
    return model


def rounds(model: nn.Module) -> None:
    prune_module(model, "*weight*", 0.5, seed=7)


def removal(model: nn.Module) -> None:
    prune_module(model, "*weight*", 0.5, seed=7, remove=True)


def on_zeros(model: nn.Module) -> None:
    prune_module(model, "*weight*", 0.5, seed=7, zeros_are_pruned=True)


def baking(model: nn.Module) -> None:
    bake_module(model)


WORK: dict[str, Callable[[nn.Module], None]] = {
    "rounds": rounds,
    "removal": removal,
    "on zeros": on_zeros,
    "baking": baking,
}

_CODES = {
    prunecli.modules.sites.mask_site,
    prunecli.modules.sites.bake_site,
    prunecli.modules.hooks.unmask,
    prunecli.modules.hooks.keep_fresh,
    prunecli.modules.hooks.put_first,
    prunecli.modules.hooks.stop_refreshing,
    prunecli.modules.hooks.attach,
    prunecli.modules.layout.ModuleMemory.write,
    prunecli.modules.layout.ModuleMemory._put,
}


@contextmanager
def interrupted(after: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Raise at one of the lines that change a module, as a signal would; tell how many there were until then."""
    codes: set[CodeType] = {function.__code__ for function in _CODES}
    seen = [0]

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code not in codes:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == after:
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(("name", "error"), [("lstm", KeyboardInterrupt), ("encoder", FailureError)])
@pytest.mark.parametrize("work", WORK)
def test_interrupted_at_any_line_it_is_what_it_was(
    name: str, work: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prunecli.modules.passes, "default_jobs", lambda: 1)  # lines of other threads are not traced
    model = prepared(name)
    with interrupted(0, error) as seen:
        WORK[work](model)
    assert seen[0] > 20
    model = prepared(name)
    before = picture(model)
    for after in {*range(1, seen[0] + 1, 1 + seen[0] // 25), seen[0]}:
        with interrupted(after, error), pytest.raises(error):
            WORK[work](model)
        assert picture(model) == before
    WORK[work](model)
    assert picture(model) != before


@pytest.mark.parametrize("work", ["removal", "baking"])
def test_a_write_that_fails_in_a_thread_is_taken_back(work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared("encoder")
    before = picture(model)
    write, calls = prunecli.modules.layout.ModuleMemory.write, [0]

    def failing(self: Any, offset: int, data: Any) -> None:
        write(self, offset, data)
        calls[0] += 1
        if calls[0] == 2:
            raise MemoryError

    monkeypatch.setattr(prunecli.modules.passes, "default_jobs", lambda: 3)
    monkeypatch.setattr(prunecli.modules.layout.ModuleMemory, "write", failing)
    with pytest.raises(MemoryError):
        WORK[work](model)
    assert calls[0] >= 2
    assert picture(model) == before


def small() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))
    model.register_parameter("spread", nn.Parameter(torch.randn(1, 3).expand(4, 3)))
    model.register_parameter("power", nn.Parameter(torch.ones(2).to(torch.float8_e8m0fnu), requires_grad=False))
    model.register_buffer("table", torch.randn(3, 3))
    return model


REFUSALS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "third too small": (
        "re:.*(weight|bias)",
        {"amount": 5},
        r"cannot prune 5 elements of 2\.bias: 4 are left unpruned",
    ),
    "fraction": ("*", {"amount": 1.5}, r"amount 1\.5 is not a fraction"),
    "unknown": ("2.weigth", {}, r"params 2\.weigth matches nothing; did you mean 2\.weight"),
    "exclude": ("*", {"exclude": "nothing"}, "exclude nothing matches nothing"),
    "nothing": ((), {}, "nothing is selected; give params='\\*.weight', min_dim=2"),
    "all excluded": ("0.weight", {"exclude": "0.*"}, "with the excludes selects nothing"),
    "no zero": ("power", {}, "power cannot be pruned: it is float8_e8m0fnu"),
    "expanded": ("spread", {}, "spread cannot be pruned: it is expanded"),
    "buffer": ("table", {}, r"table is a buffer, .*bake=True"),
    "seed": ("*", {"seed": -1}, "a seed is a whole number"),
    "untie and remove": ("*", {"untie": True, "remove": True}, r"leave untie=True or bake=True out"),
}


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_what_where_and_the_way_out(case: str, remove: bool) -> None:
    patterns, options, message = REFUSALS[case]
    if remove and case == "buffer":
        return
    model = small()
    before = picture(model)
    with pytest.raises(UsageError, match=message) as caught:
        prune_module(model, patterns, **({"amount": 0.5, "remove": remove} | options))
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)
    assert picture(model) == before


def test_a_buffer_named_exactly_is_baked() -> None:
    model = small()
    report = prune_module(model, "table", 4, seed=7, remove=True)
    assert [each.name for each in report.parameters if each.pruned_now] == ["table"]
    assert int((model.get_buffer("table") == 0).sum()) == 4


@pytest.mark.parametrize("amount", [True, 0.5j, [None], [0.5, True]])
def test_an_amount_is_a_number(amount: Any) -> None:
    with pytest.raises(TypeError, match="amount is an int"):
        prune_module(small(), "*", amount)


def test_no_amount_is_missing() -> None:
    with pytest.raises(UsageError, match="the amount is missing"):
        prune_module(small(), "*", [])


@pytest.mark.parametrize("remove", [False, True])
def test_a_tie_needs_a_decision(remove: bool) -> None:
    model = Tied()
    before = picture(model)
    with pytest.raises(UsageError, match=r"head\.weight is tied to embed\.weight .*select both, or .*untie=True"):
        prune_module(model, ["body.weight", "head.weight"], 0.5, remove=remove)
    assert picture(model) == before
    prune_module(model, "head.weight", 0.5, untie=True)
    before = picture(model)
    with pytest.raises(UsageError, match=r"head\.weight is tied to embed\.weight .* clone\(\)"):
        bake_module(model)
    assert picture(model) == before


def test_a_shared_module_cannot_be_masked_under_one_of_its_names() -> None:
    model = make("shared")
    before = picture(model)
    with pytest.raises(UsageError, match=r"again\.weight and first\.weight are one parameter .*select both"):
        prune_module(model, "again.weight", 0.5, untie=True)
    assert picture(model) == before
    assert prune_module(model, ["again.weight", "first.weight"], 0.5, seed=7).totals.pruned_now == 12


def test_memory_that_a_passing_buffer_holds_is_not_pruned_unseen() -> None:
    model = nn.Linear(4, 3)
    model.register_buffer("cache", model.weight.detach(), persistent=False)
    with pytest.raises(UsageError, match="weight is tied to cache"):
        prune_module(model, "weight", 0.5, remove=True)
    assert prune_module(model, "weight", 0.5, seed=7, untie=True).carried == ["cache"]


def test_two_arrays_in_one_memory_are_tied() -> None:
    model = nn.Module()
    array = torch.randn(12).numpy()
    model.register_parameter("short", nn.Parameter(torch.from_numpy(array[:6])))
    model.register_parameter("long", nn.Parameter(torch.from_numpy(array)))
    with pytest.raises(UsageError, match="short and long overlap in memory without being equal"):
        prune_module(model, "short", 0.5, remove=True)
    model.register_parameter("beside", nn.Parameter(torch.ones(4)))
    with torch.no_grad():
        model.get_parameter("long")[8:] = 0
    report = prune_module(model, "beside", 0.5, remove=True)
    assert [each.zeros for each in report.parameters] == [0, 4, 2]


@pytest.mark.parametrize("name", ["weight_mask", "weight_orig"])
def test_names_that_masks_would_take_must_be_free(name: str) -> None:
    passing, persistent, plain = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)
    passing.register_buffer(name, torch.ones(2), persistent=False)
    persistent.register_buffer(name, torch.ones(2))
    setattr(plain, name, "text")
    for model, match in ((passing, "an attribute"), (persistent, "a tensor"), (plain, "an attribute")):
        with pytest.raises(UsageError, match=f"already has {match} {name}; use bake=True"):
            prune_module(model, "weight", 0.5)
        prune_module(model, "weight", 0.5, remove=True)
        assert int((model.weight == 0).sum()) == 6
    assert getattr(plain, name) == "text"


@pytest.mark.parametrize("remove", [False, True])
def test_tensors_without_values_are_refused(remove: bool) -> None:
    with pytest.raises(UnsupportedError, match=r"0\.weight is on the meta device and has no values; load them first"):
        prune_module(nn.Sequential(nn.Linear(3, 2, device="meta")), "*", 0.5, remove=remove)
    with pytest.raises(UnsupportedError, match=r"0\.weight has no shape yet; run the module once"):
        prune_module(nn.Sequential(nn.LazyLinear(3)), "*", 0.5, remove=remove)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.")
def test_a_program_is_refused() -> None:
    model = nn.Sequential(torch.jit.script(nn.Linear(3, 2)))
    with pytest.raises(UnsupportedError, match="the module Sequential holds TorchScript, which cannot be changed"):
        prune_module(model, "*", 0.5, remove=True)


def test_sparse_tensors_are_carried_along_and_not_pruned() -> None:
    model = nn.Linear(4, 3)
    model.register_parameter("graph", nn.Parameter(torch.eye(3).to_sparse()))
    report = prune_module(model, "*", 0.5, seed=7, remove=True)
    assert {each.name: each.zeros for each in report.parameters} == {"weight": 6, "bias": 2}
    with pytest.raises(UsageError, match="graph cannot be pruned: it is a sparse_coo of float32"):
        prune_module(model, "graph", 0.5)


def test_baking_needs_a_mask() -> None:
    with pytest.raises(UsageError, match="the module Linear holds no masks to bake"):
        bake_module(nn.Linear(4, 3))
    with pytest.raises(UsageError, match="exclude takes from what params selects"):
        bake_module(nn.Linear(4, 3), exclude="weight")


def test_masks_without_a_hook_are_baked_and_not_pruned_further() -> None:
    model = nn.Module()
    model.register_parameter("w_orig", nn.Parameter(torch.tensor([1.0, -2.0, 3.0, float("inf")])))
    model.register_buffer("w_mask", torch.tensor([1.0, 0.0, 1.0, 0.0]))
    before = picture(model)
    with pytest.raises(UsageError, match="w has a mask and no hook that applies it; bake it first, with bake_module"):
        prune_module(model, "w", 0.5)
    assert picture(model) == before
    bake_module(model)
    assert {name: each.tolist() for name, each in model.named_parameters()} == {"w": [1.0, 0.0, 3.0, 0.0]}
    assert not model.state_dict().keys() - {"w"}
