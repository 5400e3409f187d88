"""What comes out loads into modules, and masks that torch wrote are baked to what torch would bake."""

from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import apply, ask, bake, load, noise, raw, save
from torch import Tensor, nn
from torch.nn.utils import prune as untyped_prune

from prunecli.errors import UnsupportedError, UsageError

prune: Any = untyped_prune
FRACTIONS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Net(nn.Module):
    """A module of each kind that stores its parameters in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.lstm = nn.LSTM(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Map `(batch, 2, height, width)` to `(width, batch, 3)`."""
        features = self.norm(self.conv(images)).mean(dim=2).permute(2, 0, 1)
        hidden: Tensor = self.head(self.lstm(features)[0])
        return hidden


SELECTED = (("conv", "weight"), ("head", "weight"), ("head", "bias"))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval()


@pytest.mark.parametrize("mask_dtype", ["bool", "same"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_masks_load_strict_into_a_prepared_module_that_then_computes_as_the_baked_one(
    suffix: str, mask_dtype: str, tmp_path: Path
) -> None:
    names = [".".join(pair) for pair in SELECTED]
    source = save(net().state_dict(), tmp_path / f"model{suffix}")
    masked, baked = tmp_path / f"masked{suffix}", tmp_path / f"baked{suffix}"
    apply(source, masked, ask(0.5, *names, mask_dtype=mask_dtype))
    apply(source, baked, ask(0.5, *names, remove=True))
    prepared, plain = net(1), net(1)
    for module, name in SELECTED:
        prune.identity(prepared.get_submodule(module), name)
    prepared.load_state_dict(load(masked), strict=True)
    plain.load_state_dict(load(baked), strict=True)
    images = torch.randn(2, 2, 6, 6)
    assert torch.equal(prepared(images), plain(images))
    assert not torch.equal(plain(images), net()(images))
    for module, name in SELECTED:
        prune.remove(prepared.get_submodule(module), name)
    assert all(torch.equal(prepared.state_dict()[name], plain.state_dict()[name]) for name in plain.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_masks_of_torch_are_baked_as_torch_bakes_them(suffix: str, tmp_path: Path) -> None:
    model = net()
    prune.random_unstructured(model.conv, "weight", 0.3)
    prune.l1_unstructured(model.head, "weight", 0.5)
    prune.ln_structured(model.head, "weight", 1, n=2, dim=1)  # makes a PruningContainer
    prune.random_unstructured(model.lstm, "weight_hh_l0", 7)
    source = save(model.state_dict(), tmp_path / f"model{suffix}")
    bake(source, tmp_path / f"out{suffix}")
    for module, name in ((model.conv, "weight"), (model.head, "weight"), (model.lstm, "weight_hh_l0")):
        prune.remove(module, name)
    loaded = load(tmp_path / f"out{suffix}")
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())
    net(2).load_state_dict(loaded, strict=True)


def test_some_masks_are_baked_and_others_stay(tmp_path: Path) -> None:
    model = net()
    for module in (model.conv, model.head):
        prune.random_unstructured(module, "weight", 0.5)
    bake(save(model.state_dict(), tmp_path / "model.pt"), tmp_path / "out.pt", "head.*")
    prune.remove(model.head, "weight")
    loaded = load(tmp_path / "out.pt")
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("dtype", FRACTIONS)
@pytest.mark.parametrize("transposed", [False, True])
def test_graded_masks_multiply_as_in_torch(dtype: torch.dtype, transposed: bool, tmp_path: Path) -> None:
    weight, mask = noise((33, 40), dtype, 1), noise((33, 40), dtype, 2)
    mask[::3] = 0
    mask[1, :7] = -0.0
    if transposed:
        weight, mask = weight.t(), mask.t()
    source = save({"w_orig": weight, "w_mask": mask}, tmp_path / "model.pt")
    bake(source, tmp_path / "out.pt")
    baked, product = load(tmp_path / "out.pt")["w"], weight * mask
    kept = mask != 0
    assert not any(raw(baked[~kept]))
    assert torch.equal(baked[kept].isnan(), product[kept].isnan())
    number = kept & ~product.isnan()
    assert raw(baked[number]) == raw(product[number])


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int32])
def test_graded_masks_in_other_types_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    mask = torch.full((4,), 2).to(dtype)
    source = save({"w_orig": noise((4,)), "w_mask": mask}, tmp_path / "model.pt")
    with pytest.raises(UnsupportedError, match="mask of w holds more than 0 and 1"):
        bake(source, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_masked_infinity_or_nan_is_baked_to_zero(tmp_path: Path) -> None:
    weight = torch.tensor([float("inf"), float("nan"), -1.0, 2.0])
    source = save({"w_orig": weight, "w_mask": torch.tensor([0.0, 0.0, 0.0, 1.0])}, tmp_path / "model.pt")
    bake(source, tmp_path / "out.pt")
    assert raw(load(tmp_path / "out.pt")["w"]) == raw(torch.tensor([0.0, 0.0, 0.0, 2.0]))


def test_there_must_be_a_mask_to_bake(tmp_path: Path) -> None:
    source = save({"w": noise((4,)), "v_orig": noise((3,)), "v_mask": torch.ones(3)}, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="none of the selected parameters has a mask"):
        bake(source, tmp_path / "out.pt", "w")
    plain = save({"w": noise((4,)), "mask": torch.ones(4), "x_orig": noise((2,))}, tmp_path / "plain.pt")
    with pytest.raises(UsageError, match="holds no masks to bake"):
        bake(plain, tmp_path / "out.pt")


def test_names_that_masks_would_take_must_be_free(tmp_path: Path) -> None:
    source = save({"w": noise((4,)), "w_mask": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(UsageError, match="already has a tensor w_mask; use --bake"):
        apply(source, tmp_path / "out.pt", ask(0.5, "w"))
    apply(source, tmp_path / "out.pt", ask(0.5, "w", remove=True))
    assert int((load(tmp_path / "out.pt")["w"] == 0).sum()) == 2
