"""The law of the live path: a module in memory comes out as its state dict does by way of a file, bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from live_zoo import ZOO, content, make, on_file, same_outcome
from surgery_zoo import bake, load, save
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import prune as untyped_prune

from prunecli import bake_module, prune_module
from prunecli.errors import UsageError
from prunecli.surgery.report.codec import render_json

prune: Any = untyped_prune

OPTIONS: dict[str, dict[str, Any]] = {
    "masks": {},
    "remove": {"remove": True},
    "everywhere": {"everywhere": True},
    "zeros": {"zeros_are_pruned": True},
    "zeros removed": {"zeros_are_pruned": True, "remove": True},
    "matrices": {"min_dim": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ZOO)
def test_a_module_comes_out_as_its_file_does(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = make(name)
    expected = on_file(model.state_dict(), tmp_path, 0.5, "*", **options)
    report = prune_module(model, "*", 0.5, seed=7, **options)
    assert report.totals.pruned_now > 0
    same_outcome(model, report, expected)


SECOND_ROUNDS = [
    (name, last, [(0.5, 0.5), (4, 2), (0.0, 1.0)][(row + column) % 3])
    for row, name in enumerate(["mlp", "lstm", "encoder", "tied", "shared", "wrapped", "bfloat16"])
    for column, last in enumerate([{}, {"remove": True}, {"everywhere": True}, {"zeros_are_pruned": True}])
]
"""Every model with every option, and each of both with each pair of amounts."""


@pytest.mark.parametrize(("name", "last", "amounts"), SECOND_ROUNDS)
def test_a_second_round_comes_out_as_that_of_the_file(
    name: str, last: dict[str, Any], amounts: tuple[float, float], tmp_path: Path
) -> None:
    model = make(name)
    first, _ = on_file(model.state_dict(), tmp_path, amounts[0], "*")
    expected = on_file(first, tmp_path, amounts[1], "*", min_dim=2, **last)
    prune_module(model, "*", amounts[0], seed=7)
    report = prune_module(model, "*", amounts[1], seed=7, min_dim=2, **last)
    same_outcome(model, report, expected)


@pytest.mark.parametrize("name", ZOO)
def test_masks_are_baked_as_remove_bakes_those_of_the_file(name: str, tmp_path: Path) -> None:
    model, other = make(name), make(name)
    ids = {key: id(parameter) for key, parameter in model.named_parameters()}
    source = tmp_path / "masked.pt"
    expected_file = on_file(model.state_dict(), tmp_path, 0.5, "*")[0]
    report = bake(save(expected_file, source), tmp_path / "baked.pt")
    expected = load(tmp_path / "baked.pt"), report
    prune_module(model, "*", 0.5, seed=7)
    same_outcome(model, bake_module(model), expected)
    assert {key: id(parameter) for key, parameter in model.named_parameters()} == ids
    assert not any(each._forward_pre_hooks for each in model.modules() if not hasattr(each, "parametrizations"))
    prune_module(other, "*", 0.5, seed=7, remove=True)
    assert content(other.state_dict()) == content(model.state_dict())


def test_some_masks_are_baked_and_others_stay(tmp_path: Path) -> None:
    model = make("encoder")
    prune_module(model, "*weight", 0.5, seed=7)
    masked = save(model.state_dict(), tmp_path / "masked.pt")
    report = bake(masked, tmp_path / "baked.pt", "layers.0.*")
    same_outcome(model, bake_module(model, "layers.0.*"), (load(tmp_path / "baked.pt"), report))
    with pytest.raises(UsageError, match=r"none of the selected parameters has a mask; named_parameters\(\)"):
        bake_module(model, "layers.0.*")
    left = bake_module(model, "*", exclude="layers.1.linear2.*").parameters
    assert [each.name for each in left if each.state == "masked"] == ["layers.1.linear2.weight"]


def test_masks_that_torch_made_are_baked_with_whatever_they_hold(tmp_path: Path) -> None:
    model = make("lstm")
    prune.l1_unstructured(model, "weight_hh_l0", 0.5)
    prune.random_structured(model, "weight_ih_l1", 2, dim=0)
    prune.random_unstructured(model, "weight_ih_l1", 0.25)  # makes a PruningContainer
    prune.custom_from_mask(model, "bias_hh_l0", torch.linspace(0, 2, 24))
    with torch.no_grad():
        model.get_parameter("weight_hh_l0_orig").mul_(-1).view(-1)[:40] = float("inf")
    report = bake(save(model.state_dict(), tmp_path / "model.pt"), tmp_path / "baked.pt")
    same_outcome(model, bake_module(model), (load(tmp_path / "baked.pt"), report))
    assert not model._forward_pre_hooks
    assert not model.get_parameter("weight_hh_l0").isnan().any()


def test_a_round_on_masks_that_torch_made(tmp_path: Path) -> None:
    model = make("mlp")
    prune.l1_unstructured(model.get_submodule("0"), "weight", 0.5)
    prune.custom_from_mask(model.get_submodule("3"), "weight", torch.linspace(0, 2, 36).view(4, 9))
    expected = on_file(model.state_dict(), tmp_path, 0.5, "*weight", "re:.*bias", excludes=("2.*",))
    report = prune_module(model, ["*weight", "re:.*bias"], 0.5, seed=7, exclude=["2.*"])
    same_outcome(model, report, expected)


def checkpointed() -> nn.Module:
    """Wrap a layer as for activation checkpointing; FSDP does the same with another name."""
    model = make("mlp")
    model.set_submodule("0", checkpoint_wrapper(model.get_submodule("0")))
    return model


@pytest.mark.parametrize("pattern", ["0.weight", "module.0.weight", "_orig_mod.0.weight", "0.weight_orig"])
def test_one_mask_whatever_a_model_is_wrapped_in(pattern: str) -> None:
    models = [make("mlp"), make("wrapped"), make("compiled"), checkpointed()]
    if pattern.endswith("_orig"):
        for model in models:
            prune_module(model, "0.weight", 0.0, seed=1)
    reports = [prune_module(model, pattern, 0.5, seed=7) for model in models]
    rows = [next(each for each in report.parameters if each.pruned_now) for report in reports]
    assert {(row.key, row.mask_sha256, row.pruned_now) for row in rows} == {("0.weight", rows[0].mask_sha256, 27)}
    assert [row.name for row in rows] == [
        "0.weight",
        "module.0.weight",
        "_orig_mod.0.weight",
        "0._checkpoint_wrapped_module.weight",
    ]
    dense = [
        model.get_parameter(f"{row.name}_orig") * model.get_buffer(f"{row.name}_mask")
        for model, row in zip(models, rows, strict=True)
    ]
    assert all(torch.equal(each, dense[0]) for each in dense)


def test_untied_a_masked_one_leaves_its_partner_dense(tmp_path: Path) -> None:
    model = make("tied")
    expected = on_file(model.state_dict(), tmp_path, 0.5, "head.weight", untie=True)
    same_outcome(model, prune_module(model, "head.weight", 0.5, seed=7, untie=True), expected)
    assert model.get_parameter("head.weight_orig") is model.get_parameter("embed.weight")
    second = on_file(model.state_dict(), tmp_path, 0.5, "head.weight", untie=True)
    same_outcome(model, prune_module(model, "head.weight", 0.5, seed=7, untie=True), second)


def test_without_a_seed_torch_draws_it_and_the_report_records_it() -> None:
    torch.manual_seed(5)
    first, second, third = make("mlp"), make("mlp"), make("mlp")
    states = []
    for model in (first, second):
        torch.manual_seed(5)
        states.append((prune_module(model, "*", 0.5).seed, content(model.state_dict())))
    assert states[0] == states[1]
    prune_module(third, "*", 0.5, seed=states[0][0])
    assert content(third.state_dict()) == states[0][1]
    assert prune_module(make("mlp"), "*", 0.5).seed != states[0][0]


def test_a_report_renders_as_that_of_a_file_does() -> None:
    model = make("tied")
    shown = json.loads(render_json(prune_module(model, "*", 0.5, seed=7)))
    size = sum(each.nbytes for each in model.parameters())
    assert shown["source"] == {"path": None, "format": "module", "bytes": size}
    assert (shown["command"], shown["output"], shown["seed"]) == ("apply", None, 7)
    assert [group["amount"] for group in shown["groups"]] == [0.5]
