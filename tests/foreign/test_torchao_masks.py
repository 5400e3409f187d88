"""Weights that torchao quantised, in live modules and pickled: left as they are, and their masks are never dropped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library
from torch import nn

from prunecli import bake_module, prune_module
from prunecli.errors import UnsupportedError
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_bake

pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

torchao: Any = library("torchao")
quantization: Any = library("torchao.quantization")


def model() -> nn.Module:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32)).eval()
    quantization.quantize_(net[0], quantization.Int8WeightOnlyConfig())
    return net


def stored(net: nn.Module) -> list[bytes]:
    """Return what the quantised weight consists of, and the bias before it."""
    weight: Any = net.get_submodule("0")._parameters["weight" if "weight" in net[0]._parameters else "weight_orig"]  # type: ignore[index]
    names, _ = weight.__tensor_flatten__()
    inner = [getattr(weight, name) for name in names] + [net.get_parameter("0.bias").detach()]
    return [each.contiguous().view(torch.uint8).numpy().tobytes() for each in inner]


def test_a_quantised_weight_is_left_as_it_is() -> None:
    net = model()
    before, inputs = stored(net), torch.randn(2, 64)
    hidden = net.get_submodule("0")(inputs)
    prune_module(net, "*.weight", 0.5, seed=7)
    bake_module(net)
    assert stored(net) == before
    assert torch.equal(net.get_submodule("0")(inputs), hidden)
    assert int((net.get_parameter("1.weight") == 0).sum()) == 1024


def test_its_mask_is_never_dropped(tmp_path: Path) -> None:
    net = model()
    layer = net.get_submodule("0")
    layer.register_parameter("weight_orig", layer._parameters.pop("weight"))
    layer.register_buffer("weight_mask", torch.zeros(64, 64))
    prune_module(net, "1.weight", 0.5, seed=7)
    before = stored(net)
    with pytest.raises(UnsupportedError, match=r"the mask of 0\.weight cannot be baked: it is a Int8Tensor"):
        bake_module(net)
    assert stored(net) == before
    assert int((net.get_buffer("1.weight_mask") == 0).sum()) == 1024
    torch.save(net.state_dict(), tmp_path / "in.pt")
    message = r"the mask of 0\.weight cannot be baked: it is the tensor subclass"
    with (
        open_any(tmp_path / "in.pt", ReadOptions(foreign=True)) as opened,
        pytest.raises(UnsupportedError, match=message),
    ):
        plan_bake(opened, None)
