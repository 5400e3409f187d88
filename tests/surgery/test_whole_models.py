"""Whole pickled modules and TorchScript programs: pruned on the file, they compute what live ones compute."""

import copy
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import ask, raw
from torch import Tensor, nn
from torch.nn.utils import prune
from whole_models import MODELS, halved, model

from prunecli import RandomUnstructured
from prunecli.errors import UnsafeError, UnsupportedError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

torch_prune: Any = prune  # untyped
FOREIGN = ReadOptions(foreign=True)
CONTAINERS = {
    "zip": lambda model, path: torch.save(model, path),
    "legacy": lambda model, path: torch.save(model, path, _use_new_zipfile_serialization=False),
    "legacy, protocol 4": lambda model, path: torch.save(
        model, path, pickle_protocol=4, _use_new_zipfile_serialization=False
    ),
    "zip, protocol 5": lambda model, path: torch.save(model, path, pickle_protocol=5),
}
every_model = pytest.mark.parametrize("name", MODELS)
every_container = pytest.mark.parametrize("container", CONTAINERS)
pytestmark = pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")


def bake(path: Path, asked: PruneRequest) -> tuple[Path, Report]:
    out = path.with_name("baked.pt")
    with open_checkpoint(path, FOREIGN) as checkpoint:
        return out, rewrite(checkpoint, plan_prune(checkpoint, asked), Destination(out, force=True))


def remove(path: Path) -> tuple[Path, Report]:
    out = path.with_name("removed.pt")
    with open_checkpoint(path, FOREIGN) as checkpoint:
        return out, rewrite(checkpoint, plan_bake(checkpoint, None), Destination(out, force=True))


def load(path: Path) -> Any:
    return torch.load(path, weights_only=False)


def prune_live(module: nn.Module, amount: float, seed: int) -> None:
    """Zero in memory what the file's prune drops: tied ones once, by the first of their names."""
    for name, parameter in named(module):
        mask = RandomUnstructured(amount, seed=seed, key=name).compute_mask(parameter, torch.ones_like(parameter))
        with torch.no_grad():
            parameter[mask == 0] = 0


def named(module: nn.Module) -> list[tuple[str, Tensor]]:
    by_id: dict[int, tuple[str, Tensor]] = {}
    for name, parameter in sorted(module.named_parameters(remove_duplicate=False)):
        by_id.setdefault(id(parameter), (name, parameter))
    return list(by_id.values())


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    assert {name: raw(tensor) for name, tensor in first.items()} == {n: raw(t) for n, t in second.items()}


@every_container
@every_model
def test_a_pickled_module_is_named_as_by_itself(tmp_path: Path, name: str, container: str) -> None:
    live, _ = model(name)
    CONTAINERS[container](live, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt", FOREIGN) as checkpoint:
        buffers = {name for name, info in checkpoint.tensors.items() if info.buffer}
        assert set(checkpoint.tensors) == set(live.state_dict())
        parameters = [each for each in checkpoint.tensors if each not in buffers]
    assert set(parameters) == {each for each, _ in live.named_parameters(remove_duplicate=False)}
    with pytest.raises(UnsafeError, match=f"whole_models.{type(live).__name__}"), open_checkpoint(tmp_path / "m.pt"):
        pass


@every_container
@every_model
def test_a_pickled_module_runs_and_computes_what_the_live_one_does(tmp_path: Path, name: str, container: str) -> None:
    live, sample = model(name)
    dense = live(sample)
    CONTAINERS[container](live, tmp_path / "m.pt")
    out, report = bake(tmp_path / "m.pt", ask(0.5, seed=3, remove=True))
    prune_live(live, 0.5, 3)
    pruned = load(out)
    assert_equal_states(pruned, live)
    assert torch.equal(pruned(sample), live(sample))
    assert not torch.equal(pruned(sample), dense)
    assert report.totals.pruned_now == sum(round(parameter.numel() / 2) for _, parameter in named(live))


@every_model
def test_nothing_but_the_dropped_elements_differs(tmp_path: Path, name: str) -> None:
    live, _ = model(name)
    CONTAINERS["legacy"](live, tmp_path / "m.pt")
    out, report = bake(tmp_path / "m.pt", ask(1.0, remove=True))
    old, new = (tmp_path / "m.pt").read_bytes(), out.read_bytes()
    assert len(old) == len(new)
    nonzero = sum(len(raw(each)) - raw(each).count(0) for _, each in named(live))
    assert sum(a != b for a, b in zip(old, new, strict=True)) == nonzero
    assert report.totals.sparsity == 1.0


@every_model
def test_masks_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    CONTAINERS["zip"](model(name)[0], tmp_path / "m.pt")
    refused = pytest.raises(UnsupportedError, match=r"applies masks by hooks.*use --bake")
    with open_checkpoint(tmp_path / "m.pt", FOREIGN) as checkpoint, refused:
        plan_prune(checkpoint, ask(0.5))


def pruned_by_torch(live: nn.Module) -> nn.Module:
    """Prune every parameter by torch's hooks, the weights of matrices twice, so that containers are there."""
    generator = torch.Generator().manual_seed(1)
    sites = [(module, name) for module in live.modules() for name, _ in list(module.named_parameters(recurse=False))]
    for module, name in sites:
        shape = getattr(module, name).shape
        torch_prune.custom_from_mask(module, name, torch.rand(shape, generator=generator) < 0.7)
        if len(shape) > 1:
            torch_prune.custom_from_mask(module, name, torch.rand(shape, generator=generator) < 0.7)
    return live


@every_container
@pytest.mark.parametrize("name", ["recurrent", "shared"])
def test_what_torch_pruned_is_baked_as_torch_does(tmp_path: Path, name: str, container: str) -> None:
    """Hooks, originals and masks gone, the parameters back in their places, also among an LSTM's flat weights."""
    live, sample = model(name)
    live = pruned_by_torch(live)
    CONTAINERS[container](live, tmp_path / "m.pt")
    before = live(sample)
    out, report = remove(tmp_path / "m.pt")
    baked = load(out)
    for module in live.modules():
        for each in [own.removesuffix("_orig") for own, _ in module.named_parameters(recurse=False)]:
            torch_prune.remove(module, each)
    assert not torch_prune.is_pruned(baked)
    assert set(baked.state_dict()) == set(live.state_dict())
    assert all(torch.equal(tensor, live.state_dict()[key]) for key, tensor in baked.state_dict().items())
    assert torch.equal(baked(sample), before)
    assert {each.state for each in report.parameters} == {"baked"}
    for module in baked.modules():
        assert not module._forward_pre_hooks
        assert not [own for own in vars(module) if own in module._parameters]
        if isinstance(module, nn.LSTM):
            own = [id(parameter) for parameter in module.parameters()]
            assert [id(each) for each in module._flat_weights] == own


def test_a_baked_module_trains_on(tmp_path: Path) -> None:
    live, sample = model("recurrent")
    CONTAINERS["zip"](pruned_by_torch(live), tmp_path / "m.pt")
    baked = load(remove(tmp_path / "m.pt")[0]).train()
    before = copy.deepcopy(baked.state_dict())
    optimizer = torch.optim.SGD(baked.parameters(), 0.5)
    baked(sample).sum().backward()
    optimizer.step()
    moved = {name for name, _ in baked.named_parameters() if not torch.equal(before[name], baked.state_dict()[name])}
    assert {"lstm.weight_ih_l0", "lstm.weight_hh_l1", "head.norm.bias", "head.out.bias"} <= moved


def test_the_hooks_of_others_stay(tmp_path: Path) -> None:
    live = nn.Sequential(nn.Linear(3, 2))
    live[0].register_forward_pre_hook(halved)
    torch_prune.random_unstructured(live[0], "weight", 0.5)
    torch_prune.random_unstructured(live[0], "bias", 1)
    torch.save(live, tmp_path / "m.pt")
    out = tmp_path / "one.pt"
    with open_checkpoint(tmp_path / "m.pt", FOREIGN) as checkpoint:
        plan = plan_bake(checkpoint, Selection(("0.weight",)))
        rewrite(checkpoint, plan, Destination(out))
    baked = load(out)
    first, second = baked[0]._forward_pre_hooks.values()
    assert first is halved
    assert second._tensor_name == "bias"
    assert set(baked.state_dict()) == {"0.weight", "0.bias_orig", "0.bias_mask"}
    torch_prune.remove(baked[0], "bias")
    assert baked(torch.ones(1, 3)).shape == (1, 2)


def compiled(live: nn.Module, sample: Tensor, how: str) -> Any:
    if how == "scripted":
        return torch.jit.script(live)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, that a branch is fixed
        return torch.jit.trace(live, sample)  # type: ignore[no-untyped-call]


@every_model
@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_a_program_runs_and_computes_what_the_live_model_does(tmp_path: Path, name: str, how: str) -> None:
    live, sample = model(name)
    program = compiled(live, sample, how)
    torch.jit.save(program, tmp_path / "m.pt")
    dense = program(sample)
    out, report = bake(tmp_path / "m.pt", ask(0.5, seed=3, remove=True))
    pruned = torch.jit.load(out)  # type: ignore[no-untyped-call]
    prune_live(live, 0.5, 3)
    mine, theirs = pruned.state_dict(), live.state_dict()
    assert {key: raw(mine[key]) for key in theirs} == {key: raw(tensor) for key, tensor in theirs.items()}
    assert torch.allclose(pruned(sample), live(sample), atol=1e-6)
    assert not torch.allclose(pruned(sample), dense)
    assert report.source.format == "TorchScript"
    with zipfile.ZipFile(tmp_path / "m.pt") as old, zipfile.ZipFile(out) as new:
        assert all(old.read(each) == new.read(each) for each in old.namelist() if "/data/" not in each)


def test_masks_have_no_place_in_a_program(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(model("recurrent")[0]), tmp_path / "m.pt")
    refused = pytest.raises(UnsupportedError, match=r"the code of a TorchScript program names the tensors.*--bake")
    with open_checkpoint(tmp_path / "m.pt") as checkpoint, refused:
        plan_prune(checkpoint, ask(0.5))


def test_a_module_inside_a_checkpoint_is_found(tmp_path: Path) -> None:
    """Of a dict with the model as it lived, an optimizer, and a copy of the best."""
    live, sample = model("attentive")
    best = io.BytesIO()
    torch.save(live.state_dict(), best)
    optimizer = torch.optim.Adam(live.parameters())
    content = {"epoch": 3, "model": live, "optimizer": optimizer, "best_bytes": best.getvalue()}
    torch.save(content, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt", FOREIGN) as checkpoint:
        assert checkpoint.wrapper == "model"
        assert not checkpoint.carried
    out, _ = bake(tmp_path / "m.pt", ask(0.5, "*.weight", seed=3, min_dim=2, remove=True))
    again = load(out)
    assert again["best_bytes"] == best.getvalue()
    parameters = list(again["model"].parameters())
    assert all(any(each is own for own in parameters) for each in again["optimizer"].param_groups[0]["params"])
    assert float((again["model"].decoder.weight == 0).float().mean()) == pytest.approx(0.5)
    assert again["model"](sample).shape == (4, 3, 11)
