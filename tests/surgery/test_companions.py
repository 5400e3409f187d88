"""Averages and optimizer state of what is pruned: named in the report, left alone to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import ask, raw
from torch import Tensor, nn

from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    optimizer = torch.optim.AdamW([{"params": model[0].parameters()}, {"params": model[1:].parameters()}])
    model(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def pruned(content: Any, path: Path, *patterns: str, **options: Any) -> tuple[Report, Any]:
    torch.save(content, path / "m.pt")
    with open_checkpoint(path / "m.pt") as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5, *patterns, remove=True, **options))
        report = rewrite(checkpoint, plan, Destination(path / "out.pt", force=True))
    return report, torch.load(path / "out.pt", weights_only=True)


def copies(report: Report) -> dict[str, tuple[str, ...]]:
    return {each.name: each.copies for each in report.parameters if each.copies}


def bytes_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: bytes_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [bytes_of(each) for each in value]
    return raw(value) if isinstance(value, Tensor) else value


def test_optimizer_state_is_recognised_by_the_parameters_number(tmp_path: Path) -> None:
    model, optimizer = trained()
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
    report, new = pruned(content, tmp_path, "0.weight", "2.*")
    assert copies(report) == {
        "0.weight": ("optimizer.state.0.exp_avg", "optimizer.state.0.exp_avg_sq"),
        "2.weight": ("optimizer.state.4.exp_avg", "optimizer.state.4.exp_avg_sq"),
        "2.bias": ("optimizer.state.5.exp_avg", "optimizer.state.5.exp_avg_sq"),
    }
    assert bytes_of(new["optimizer"]) == bytes_of(optimizer.state_dict())
    assert set(report.carried) == {
        f"optimizer.state.{number}.{name}" for number in range(6) for name in ("step", "exp_avg", "exp_avg_sq")
    }
    reported = as_dict(report)
    assert reported["carried"] == list(report.carried)
    assert reported["parameters"][0]["copies"] == list(report.parameters[0].copies)


def test_tied_parameters_have_one_number(tmp_path: Path) -> None:
    weight = torch.ones(3, 3)
    state = {"a": weight, "b": weight, "c": torch.ones(3, 2)}
    content = {"state_dict": state, "optimizer_states": [{"state": {0: {"m": weight * 2}, 1: {"m": torch.ones(3, 2)}}}]}
    report, _ = pruned(content, tmp_path)
    assert copies(report) == {"a": ("optimizer_states.0.state.0.m",), "c": ("optimizer_states.0.state.1.m",)}


@pytest.mark.parametrize("keys", [(0, 1), (140_000_000_000, 140_000_000_080), (-1, 0), (0, 7)])
def test_numbers_that_do_not_fit_are_not_claimed(keys: tuple[int, int], tmp_path: Path) -> None:
    """Ids of objects, as before torch 1.0, numbers out of range, or shapes of other parameters."""
    shapes = [(2, 3), (4, 5)] if keys == (0, 1) else [(3, 3), (3, 2)]
    state = {key: {"momentum": torch.ones(shape)} for key, shape in zip(keys, shapes, strict=True)}
    content = {"model": {"a": torch.ones(3, 3), "c": torch.ones(3, 2)}, "optimizer": {"state": state}}
    report, _ = pruned(content, tmp_path)
    assert copies(report) == {}
    assert len(report.carried) == 2


@pytest.mark.parametrize("place", ["ema", "model_ema", "state_dict_ema", "ema_model.module", "callbacks.EMA.weights"])
def test_averages_beside_the_state_dict_are_recognised_by_name(place: str, tmp_path: Path) -> None:
    model, _ = trained()
    average: Any = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    content: dict[str, Any] = {"state_dict": model.state_dict()}
    *above, last = place.split(".")
    below = content
    for each in above:
        below = below.setdefault(each, {})
    below[last] = average
    report, new = pruned(content, tmp_path, "*.weight", min_dim=2)
    assert copies(report) == {name: (f"{place}.{name}",) for name in ("0.weight", "2.weight")}
    for each in place.split("."):
        new = new[each]
    assert bytes_of(new) == bytes_of(average)


def test_optimizer_state_by_name(tmp_path: Path) -> None:
    """As full state dicts of distributed optimizers have it."""
    state = {"layer.w": {"exp_avg": torch.ones(2, 2), "step": torch.tensor(3.0)}}
    content = {"model": {"module.layer.w": torch.ones(2, 2)}, "optim": {"state": state}}
    report, _ = pruned(content, tmp_path)
    assert copies(report) == {"module.layer.w": ("optim.state.layer.w.exp_avg",)}


def within(prefix: str) -> dict[str, Tensor]:
    return {"net.fc.weight": torch.ones(4, 4), "net.fc.bias": torch.ones(4), f"{prefix}weight": torch.ones(4, 4) * 2}


@pytest.mark.parametrize("prefix", ["model_ema.fc.", "ema.net.fc.", "net_ema.fc.", "ema_model.fc", "swa_net.fc."])
def test_patterns_leave_averages_in_the_state_dict_alone(prefix: str, tmp_path: Path) -> None:
    """Also where an average's name has lost its dots, since buffers cannot have any."""
    report, new = pruned(within(prefix), tmp_path)
    assert copies(report) == {"net.fc.weight": (f"{prefix}weight",)}
    assert torch.equal(new[f"{prefix}weight"], torch.ones(4, 4) * 2)
    assert int((new["net.fc.weight"] == 0).sum()) == 8


@pytest.mark.parametrize("pattern", ["model_ema.fc.weight", "model_ema.*", "model_ema.*.weight"])
def test_averages_are_pruned_by_whoever_names_them(pattern: str, tmp_path: Path) -> None:
    report, new = pruned(within("model_ema.fc."), tmp_path, pattern)
    assert [each.name for each in report.parameters if each.pruned_now] == ["model_ema.fc.weight"]
    assert int((new["model_ema.fc.weight"] == 0).sum()) == 8


@pytest.mark.parametrize("name", ["ema.query.weight", "schema.fc.weight", "cinema.net.fc.weight", "ema"])
def test_what_only_sounds_like_an_average_is_a_parameter(name: str, tmp_path: Path) -> None:
    report, _ = pruned({"net.fc.weight": torch.ones(4, 4), name: torch.ones(4, 4)}, tmp_path)
    assert {each.name for each in report.parameters if each.pruned_now} == {"net.fc.weight", name}
    assert copies(report) == {}


def test_averages_of_mmcv_are_buffers_at_the_top(tmp_path: Path) -> None:
    """Their names are those of the parameters, with underscores for the dots."""
    state = {"net.fc.weight": torch.ones(4, 4), "ema_net_fc_weight": torch.ones(4, 4) * 2, "ema_gate": torch.ones(4)}
    report, new = pruned(state, tmp_path)
    assert copies(report) == {"net.fc.weight": ("ema_net_fc_weight",)}
    assert torch.equal(new["ema_net_fc_weight"], torch.ones(4, 4) * 2)
    assert int((new["ema_gate"] == 0).sum()) == 2
    report, new = pruned(state, tmp_path, "ema_net*")
    assert int((new["ema_net_fc_weight"] == 0).sum()) == 8
