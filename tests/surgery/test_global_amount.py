"""`--global`: one amount over all that is selected, split the same way wherever and in whatever order it lies."""

from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import BLOCK, apply, ask, live_mask, load, noise, save
from torch import Tensor

from prunecli.errors import UsageError


def layers() -> dict[str, Tensor]:
    sizes = {"c": (40, 50), "a": (7,), "b.x": (BLOCK + 9,), "empty": (0, 4)}
    return {name: noise(shape, torch.bfloat16, seed) for seed, (name, shape) in enumerate(sizes.items())}


def dropped(source: Path, amount: float | int, **options: Any) -> dict[str, Tensor]:
    target = source.with_name(f"out{source.suffix}")
    apply(source, target, ask(amount, everywhere=True, **options))
    masks = {name.removesuffix("_mask"): ~mask for name, mask in load(target).items() if name.endswith("_mask")}
    target.unlink()
    return masks


@pytest.mark.parametrize("amount", [0, 1, 1000, 0.001, 0.5, 1.0])
def test_the_total_is_exact_and_each_share_is_drawn_as_its_own_amount(amount: float | int, tmp_path: Path) -> None:
    masks = dropped(save(layers(), tmp_path / "model.pt"), amount)
    elements = sum(tensor.numel() for tensor in layers().values())
    asked = round(amount * elements) if isinstance(amount, float) else amount
    assert sum(int(mask.sum()) for mask in masks.values()) == asked
    for name, tensor in layers().items():
        assert torch.equal(masks[name], ~live_mask(tensor, int(masks[name].sum()), name))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_split_does_not_depend_on_order_format_or_prefix(suffix: str, prefix: str, tmp_path: Path) -> None:
    reference = dropped(save(layers(), tmp_path / "model.pt"), 0.3)
    turned = {f"{prefix}{name}": tensor for name, tensor in reversed(layers().items())}
    masks = dropped(save(turned, tmp_path / f"other{suffix}"), 0.3)
    assert {name.removeprefix("module."): mask.sum() for name, mask in masks.items()} == {
        name: mask.sum() for name, mask in reference.items()
    }
    assert all(torch.equal(masks[f"{prefix}{name}"], mask) for name, mask in reference.items())


def test_seeds_split_differently(tmp_path: Path) -> None:
    source = save(layers(), tmp_path / "model.pt")
    assert len({int(dropped(source, 0.5, seed=seed)["c"].sum()) for seed in range(8)}) > 1


def test_a_second_round_counts_what_is_left_in_all_of_them(tmp_path: Path) -> None:
    source, first, second = (tmp_path / f"{name}.pt" for name in ("model", "first", "second"))
    save({name: layers()[name] for name in ("a", "c")}, source)
    apply(source, first, ask(0.5, everywhere=True))
    left = sum(int(load(first)[f"{name}_mask"].sum()) for name in ("a", "c"))
    assert left == 2007 - round(2007 / 2)
    words = f"{left + 1:,} elements of the 2 selected parameters together: {left:,} are left"
    with pytest.raises(UsageError, match=words):
        apply(first, second, ask(left + 1, everywhere=True))
    apply(first, second, ask(left, everywhere=True))
    assert not any(load(second)[f"{name}_mask"].any() for name in ("a", "c"))
