"""Whole modules that `prune_module` pruned, and `torch.save` pickled: baked on the file, they need no prunecli."""

import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from forked import python
from ranks import TORCHRUN
from surgery_zoo import raw
from torch import nn

from prunecli import bake_module, prune_module
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.modules.hooks import ProductRefresh
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination


def model(pruned: str = "*weight*") -> nn.Module:
    """A module that reads the weights of another one without calling it: attention, those of its output projection."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), nn.Linear(8, 3))
    with torch.no_grad():
        prune_module(net, pruned, 0.5, seed=7, min_dim=2)
    return net.eval()


def baked(source: Path, target: Path, *patterns: str) -> None:
    with open_any(source, ReadOptions(foreign=True)) as opened:
        selection = Selection(patterns) if patterns else None
        rewrite(opened, plan_bake(opened, selection), Destination(target))


def pickles(path: Path, zipped: bool) -> bytes:
    if not zipped:
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


LOAD = """
import sys, torch
for name in [name for name in sys.modules if name.partition(".")[0] == "prunecli"]:
    sys.modules[name] = None  # importing it fails
print(sorted(torch.load(sys.argv[1], weights_only=False).state_dict()))
"""


@pytest.mark.parametrize("home", ["prunecli.modules.hooks", "prunecli.core.hooks"], ids=["today", "before the move"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_baked_module_loads_without_prunecli(
    zipped: bool, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, net = tmp_path / "in.pt", tmp_path / "out.pt", model()
    monkeypatch.setattr(ProductRefresh, "__module__", home)
    torch.save(net, source, _use_new_zipfile_serialization=zipped)
    assert b"ProductRefresh" in pickles(source, zipped)
    assert home.encode() in pickles(source, zipped)
    baked(source, target)
    assert b"prunecli" not in pickles(target, zipped)
    done = subprocess.run([*python(*TORCHRUN), "-c", LOAD, str(target)], capture_output=True, text=True, check=True)
    bake_module(net)
    assert done.stdout.strip() == str(sorted(net.state_dict()))
    loaded = torch.load(target, weights_only=False).eval()
    assert {name: raw(each) for name, each in loaded.state_dict().items()} == {
        name: raw(each) for name, each in net.state_dict().items()
    }
    assert not any(module._forward_pre_hooks for module in loaded.modules())
    inputs = torch.randn(2, 5, 8)
    assert torch.equal(loaded(inputs), net(inputs))


def test_a_hook_stays_as_long_as_it_refreshes_something(tmp_path: Path) -> None:
    source, target = tmp_path / "in.pt", tmp_path / "out.pt"
    torch.save(model(), source)
    baked(source, target, "1.weight", "0.linear1.weight", "0.self_attn.in_proj_weight")
    attention = torch.load(target, weights_only=False).get_submodule("0.self_attn")
    assert [type(hook) for hook in attention._forward_pre_hooks.values()] == [ProductRefresh]
    names = {name for name, _ in attention.named_parameters()}
    assert names == {"in_proj_weight", "in_proj_bias", "out_proj.bias", "out_proj.weight_orig"}
    baked(target, tmp_path / "last.pt", "*out_proj.weight")
    assert not torch.load(tmp_path / "last.pt", weights_only=False).get_submodule("0.self_attn")._forward_pre_hooks
