"""Optimizer state zeroed with the weights: exactly where the mask drops, only where the file proves whose it is."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dcp_tools import load as load_folder
from dcp_tools import save as save_folder
from surgery_zoo import ask
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.undoing import undoing
from prunecli.surgery.plan.with_state import with_state
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.terms import render

MOMENTS = ("exp_avg", "exp_avg_sq")


class Net(nn.Module):
    """Layers with weights of different shapes, and a norm with two of the same."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.second(self.norm(self.first(x)))
        return result


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(8, 5)).square().sum().backward()
    optimizer.step()


def trained(named: bool = False, **options: Any) -> tuple[Net, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net()
    parameters: Any = model.named_parameters() if named else model.parameters()
    optimizer = torch.optim.Adam(parameters, **options)
    for _ in range(3):
        step(model, optimizer)
    return model, optimizer


def apply(source: Path, out: Path, *patterns: str, key: str | None = None, **options: Any) -> Report:
    with open_any(source, ReadOptions(key)) as checkpoint:
        prune = replace(ask(0.5, *(patterns or ("*.weight",)), remove=True), with_state=True)
        prune = replace(prune, **options)
        return rewrite(checkpoint, with_state(checkpoint, plan_prune(checkpoint, prune)), Destination(out))


def assert_zeroed(before: Mapping[str, Any], after: Mapping[str, Any], keep: Mapping[Any, Tensor | None]) -> None:
    """The state by parameters: zero exactly where not kept, everything else to the bit."""
    assert list(before) == list(after)
    assert set(before) == set(keep)
    for each, mask in keep.items():
        assert list(before[each]) == list(after[each])
        for name, value in before[each].items():
            if mask is None or name not in MOMENTS:
                assert torch.equal(after[each][name], value)
            else:
                assert int((value == 0).sum()) == 0
                assert torch.equal(after[each][name], value * mask)


@pytest.mark.parametrize("named", [False, True], ids=["by order", "by name"])
@pytest.mark.parametrize("remove", [True, False], ids=["baked", "masks"])
def test_moments_are_zero_exactly_where_the_mask_drops(named: bool, remove: bool, tmp_path: Path) -> None:
    model, optimizer = trained(named)
    content: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
    torch.save(content, tmp_path / "m.pt")
    report = apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.*", "second.weight", remove=remove)
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    masks = {
        name: out["model"][name] != 0 if remove else out["model"][f"{name}_mask"]
        for name in ("first.weight", "first.bias", "second.weight")
    }
    names = [name for name, _ in model.named_parameters()]
    keep = {number: masks.get(name) for number, name in enumerate(names)}
    assert_zeroed(content["optimizer"]["state"], out["optimizer"]["state"], keep)
    assert out["optimizer"]["param_groups"] == content["optimizer"]["param_groups"]
    reported = {each.name: each.zeroed for each in report.parameters if each.zeroed}
    assert reported["first.weight"] == ("optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq")
    assert set(reported) == set(masks)
    assert as_dict(report)["with_state"] is True


def test_training_goes_on_and_pruned_elements_move_by_their_own_gradients_only(tmp_path: Path) -> None:
    model, optimizer = trained()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    model.load_state_dict(out["model"])
    optimizer.load_state_dict(out["optimizer"])
    dropped = model.first.weight == 0
    optimizer.zero_grad()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # without gradients, moments alone would move them
    assert int(dropped.sum()) == 10
    assert torch.equal(model.first.weight == 0, dropped)
    step(model, optimizer)


def test_groups_of_decay_and_no_decay(tmp_path: Path) -> None:
    """As the trainers of transformers make them: the optimizer's order is not that of the model."""
    torch.manual_seed(0)
    model = Net()
    matrices = [each for each in model.parameters() if each.dim() > 1]
    vectors = [each for each in model.parameters() if each.dim() == 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.Adam(groups)
    step(model, optimizer)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight", "second.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    keep = dict.fromkeys(range(6)) | {0: out["model"]["first.weight"] != 0, 1: out["model"]["second.weight"] != 0}
    assert_zeroed(content["optimizer"]["state"], out["optimizer"]["state"], keep)


@pytest.mark.parametrize("before", [True, False], ids=["pruned before the optimizer", "pruned after"])
def test_masks_of_torch_that_changed_the_order_of_parameters(before: bool, tmp_path: Path) -> None:
    """`weight_orig` stands behind the bias in the file; in the optimizer, as the module was when that was made."""
    torch.manual_seed(0)
    model = Net()
    optimizer = None if before else torch.optim.Adam(model.parameters())
    torch_prune.random_unstructured(model.first, "weight", 0.2)  # type: ignore[no-untyped-call]
    optimizer = optimizer or torch.optim.Adam(model.parameters())
    state = optimizer.state
    for parameter in model.parameters():
        moments = {name: torch.rand_like(parameter) + 1 for name in MOMENTS}
        state[parameter] = {"step": torch.tensor(1.0), **moments}
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    assert list(content["model"])[:2] == ["first.bias", "first.weight_orig"]
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    numbers = [number for number, each in content["optimizer"]["state"].items() if each["exp_avg"].shape == (4, 5)]
    keep = dict.fromkeys(range(6)) | {numbers[0]: out["model"]["first.weight"] != 0}
    assert numbers == [1 if before else 0]
    assert_zeroed(content["optimizer"]["state"], out["optimizer"]["state"], keep)


def test_a_masked_weight_of_its_biass_shape_is_nobodys(tmp_path: Path) -> None:
    model, optimizer = trained()
    torch_prune.random_unstructured(model.norm, "weight", 0.2)  # type: ignore[no-untyped-call]
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match=r"not proven to be of norm\.weight.*leave a choice"):
        apply(tmp_path / "m.pt", tmp_path / "out.pt", "norm.weight")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "second.weight")


def test_a_baked_weight_behind_its_bias_is_nobodys(tmp_path: Path) -> None:
    model, optimizer = trained()
    torch_prune.random_unstructured(model.norm, "weight", 0.2)  # type: ignore[no-untyped-call]
    torch_prune.remove(model.norm, "weight")  # type: ignore[no-untyped-call]
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match="leave a choice"):
        apply(tmp_path / "m.pt", tmp_path / "out.pt", "norm.weight")


def frozen(model: Net, *names: str) -> dict[str, Any]:
    """A file of a model and an optimizer that has some of its parameters only."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.Adam([parameters[name] for name in names])
    step(model, optimizer)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def test_frozen_parameters(tmp_path: Path) -> None:
    """Neighbours may say which of two vectors it is: only one way through the model keeps the order."""
    content = frozen(Net(), "norm.weight", "norm.bias", "second.weight", "second.bias")
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "second.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    keep = dict.fromkeys(range(4)) | {2: out["model"]["second.weight"] != 0}
    assert_zeroed(content["optimizer"]["state"], out["optimizer"]["state"], keep)
    with pytest.raises(UsageError, match=r"not proven to be of norm\.bias"):  # first.bias has that shape, too
        apply(tmp_path / "m.pt", tmp_path / "other.pt", "norm.bias")
    torch.save(frozen(Net(), "first.weight", "first.bias", "norm.weight", "norm.bias"), tmp_path / "all.pt")
    apply(tmp_path / "all.pt", tmp_path / "other.pt", "norm.bias")


def test_parameters_without_state_are_passed_over(tmp_path: Path) -> None:
    model, optimizer = trained()
    content: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    del content["optimizer"]["state"][2]  # norm.weight never had a gradient
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "norm.bias", "first.bias")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    zero = [number for number, each in out["optimizer"]["state"].items() if (each["exp_avg"] == 0).any()]
    assert zero == [1, 3]


def test_another_network_of_the_same_shape_leaves_a_choice(tmp_path: Path) -> None:
    model, optimizer = trained()
    content = {"model": model.state_dict(), "critic": Net().state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(UsageError, match="leave a choice"):
        apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")
    model, optimizer = trained(named=True)
    torch.save(content | {"optimizer": optimizer.state_dict()}, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")


def test_each_network_has_the_optimizer_beside_it(tmp_path: Path) -> None:
    content: dict[str, Any] = {}
    for side in "GD":
        model, optimizer = trained()
        content[side] = {"model": model.state_dict(), "solver": optimizer.state_dict()}
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "D.model.first.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    for side in "GD":
        mask = out["D"]["model"]["first.weight"] != 0 if side == "D" else None
        keep = dict.fromkeys(range(6)) | {0: mask}
        assert_zeroed(content[side]["solver"]["state"], out[side]["solver"]["state"], keep)


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "holds no optimizer state; leave --with-state out"),
    "flat": ({"fp32_flat_groups": [torch.ones(9)]}, "fp32_flat_groups.0 is not kept parameter by parameter"),
    "without groups": ({"state": {0: {"m": torch.ones(4, 5)}}}, "not kept parameter by parameter"),
    "of another model": (
        {"state": {0: {"m": torch.ones(7)}}, "param_groups": [{"params": [0]}]},
        r"1 parameters of the shape \[7\], and the model 0",
    ),
    "in whole numbers": (
        {
            "state": {0: {"m": torch.ones(4, 5, dtype=torch.uint8)}},
            "param_groups": [{"params": [0], "param_names": ["first.weight"]}],
        },
        "as uint8, where no byte is known to mean zero",
    ),
    "of unknown names": (
        {"state": {"else\x1b": {"m": torch.ones(4, 5)}}, "param_groups": [{"params": ["else\x1b"]}]},
        r"a parameter else\\x1b that the state dict does not have",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_proven_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    state, message = REFUSED[name]
    torch.save({"model": Net().state_dict(), "optimizer": state}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match=message):
        apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")
    assert not (tmp_path / "out.pt").exists()


def test_moments_that_share_memory_are_refused(tmp_path: Path) -> None:
    shared = torch.ones(4, 5)
    state = {
        "state": {0: {"m": shared, "v": shared}},
        "param_groups": [{"params": [0], "param_names": ["first.weight"]}],
    }
    torch.save({"model": Net().state_dict(), "optimizer": state}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match=r"optimizer.state.0.m and optimizer.state.0.v share memory"):
        apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")


def test_masters_are_baked_and_kept_under_masks(tmp_path: Path) -> None:
    model = Net().bfloat16()
    groups = [[each.float() for each in model.state_dict().values()]]
    content = {"model": model.state_dict(), "optimizer": {"fp32_from_fp16_params": groups}}
    torch.save(content, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "first.weight")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    masters = out["optimizer"]["fp32_from_fp16_params"][0]
    assert torch.equal(masters[0] != 0, out["model"]["first.weight"] != 0)
    assert all(torch.equal(one, other) for one, other in zip(masters[1:], groups[0][1:], strict=True))
    with pytest.raises(UsageError, match="no optimizer state of the selected"):
        apply(tmp_path / "m.pt", tmp_path / "masks.pt", "first.weight", remove=False)


@pytest.mark.parametrize("layout", ["columns", "channels_last"])
def test_moments_in_another_order_of_memory(layout: str, tmp_path: Path) -> None:
    weight = torch.rand(4, 3, 2, 2) + 1
    moment = torch.rand(4, 3, 2, 2) + 1
    moment = moment.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else moment.mT
    state = {"state": {0: {"exp_avg": moment}}, "param_groups": [{"params": [0]}]}
    torch.save({"model": {"w": weight}, "optimizer": state}, tmp_path / "m.pt")
    apply(tmp_path / "m.pt", tmp_path / "out.pt", "w")
    out = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(out["optimizer"]["state"][0]["exp_avg"], moment * (out["model"]["w"] != 0))


def test_distributed_folders_by_name_and_in_parts(tmp_path: Path) -> None:
    moments = {name: torch.rand(4, 5) + 1 for name in MOMENTS}
    state = {
        "model": {"w": torch.rand(4, 5) + 1, "v": torch.rand(4, 5) + 1},
        "optim": {"state": {"w": moments}, "param_groups": [{"params": ["w"], "lr": 0.1}]},
    }
    source = save_folder(state, tmp_path / "in", {"optim.state.w.exp_avg": ((2,), (3,))}, files=3)
    apply(source, tmp_path / "out", "w")
    out = load_folder(tmp_path / "out")
    for name in MOMENTS:
        assert torch.equal(out["optim"]["state"]["w"][name], moments[name] * (out["model"]["w"] != 0))
    assert torch.equal(out["model"]["v"], state["model"]["v"])  # type: ignore[index]


def test_a_folder_with_one_file_of_everything(tmp_path: Path) -> None:
    model, optimizer = trained()
    (tmp_path / "in").mkdir()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "in" / "pytorch_model.bin")
    apply(tmp_path / "in", tmp_path / "out", "first.weight")
    out = torch.load(tmp_path / "out" / "pytorch_model.bin", weights_only=True)
    keep = dict.fromkeys(range(6)) | {0: out["model"]["first.weight"] != 0}
    assert_zeroed(content["optimizer"]["state"], out["optimizer"]["state"], keep)


def said(content: dict[str, Any], path: Path, *beside: str, **options: Any) -> str | None:
    torch.save(content, path / "m.pt")
    with open_any(path / "m.pt") as checkpoint:
        plan = plan_prune(checkpoint, replace(ask(0.5, "first.weight", remove=True), **options))
        text = undoing(checkpoint, with_state(checkpoint, plan) if options.get("with_state") else plan, beside)
        return text and render(text)


def test_what_undoes_a_prune_is_said(tmp_path: Path) -> None:
    model, optimizer = trained()
    content: dict[str, Any] = {"model": model.state_dict()}
    assert said(content, tmp_path) is None
    content["optimizer"] = optimizer.state_dict()
    can = "not pruned: further training can move pruned elements"
    moments = "12 tensors of optimizer state (optimizer.state.0.exp_avg, ...)"
    assert said(content, tmp_path) == f"{moments} are {can}; --with-state zeroes their moments"
    assert said(content, tmp_path, with_state=True) is None
    assert said(content, tmp_path, remove=False) == f"left as they were: {moments}"
    beside = said({"model": model.state_dict()}, tmp_path, "optimizer.pt")
    assert beside == f"optimizer state in optimizer.pt beside it is {can}"
    content["ema"] = {name: each.clone() for name, each in model.state_dict().items()}
    content["optimizer"] = {"single_partition_of_fp32_groups": [torch.ones(9)]}
    masters = "1 fp32 master weight (optimizer.single_partition_of_fp32_groups.0)"
    assert said(content, tmp_path) == f"{masters}, 1 average (ema.first.weight) are {can}"
    content = {"model": model.state_dict(), "teacher": {name: each + 1 for name, each in model.state_dict().items()}}
    assert said(content, tmp_path) == f"1 tensor of the same name (teacher.first.weight) is {can}"
