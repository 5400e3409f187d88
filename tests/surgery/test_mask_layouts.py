"""Masks as other libraries lay them out: counted through, drawn among what is left, edited in place, baked."""

from pathlib import Path

import pytest
import torch
from roles_by_hand import roles
from surgery_zoo import apply, ask, bake, count, live_mask, load, noise, save
from torch import Tensor

import prunecli
from prunecli.errors import UnsupportedError, UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.names.binary import is_binary
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.verify import verify_checkpoint

SHAPE = (6, 8)
LAYOUTS = {
    "torch": ("w_orig", "w_mask", "w"),
    "SynFlow": ("w", "w_mask", "w"),
    "ModelOpt": ("weight", "_weight_mask", "weight"),
    "DeepSpeed": ("weight", "sparse_pruning_mask", "weight"),
    "MADE": ("weight", "mask", "weight"),
    "parametrization": ("parametrizations.weight.original", "parametrizations.weight.0.mask", "weight"),
    "NNCF": ("a.0.weight", "__nncf_hooks.post_hooks.a:0:weight__0.0.binary_mask", "a.0.weight"),
}
PREFIXES = ("", "net.layers.3.")


def masked(
    layout: str, prefix: str, dtype: torch.dtype = torch.float32, mask_dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the tensors of a layer, and its mask as booleans."""
    weight, mask, _ = (prefix + name for name in LAYOUTS[layout])
    keep = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) < 0.6
    state = {weight: noise(SHAPE, dtype, 1), f"{prefix}bias": noise((6,), seed=2), mask: keep.to(mask_dtype)}
    return state, keep


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_every_layout_are_baked_and_gone(
    layout: str, prefix: str, mask_dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    state, keep = masked(layout, prefix, mask_dtype=mask_dtype)
    weight, _, name = (prefix + each for each in LAYOUTS[layout])
    target = tmp_path / f"out{suffix}"
    report = bake(save(state, tmp_path / f"in{suffix}"), target)
    loaded = load(target)
    assert set(loaded) == {name, f"{prefix}bias"}
    assert torch.equal(loaded[name].view(torch.int32), state[weight].view(torch.int32) * keep)
    assert torch.equal(loaded[f"{prefix}bias"].view(torch.int32), state[f"{prefix}bias"].view(torch.int32))
    assert [(each.name, each.state) for each in report.parameters if each.state != "dense"] == [(name, "baked")]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_every_layout_are_edited_in_place(layout: str, prefix: str, suffix: str, tmp_path: Path) -> None:
    state, keep = masked(layout, prefix)
    weight, mask, name = (prefix + each for each in LAYOUTS[layout])
    source = save(state, tmp_path / f"in{suffix}")
    for number, asked in enumerate(("*weight*", name, weight) if layout not in ("torch", "SynFlow") else ("*", name)):
        target = tmp_path / f"out{number}{suffix}"
        report = apply(source, target, ask(0.5, asked, excludes=("*bias",)))
        loaded = load(target)
        expected = live_mask(state[weight], 0.5, name, before=keep)
        assert set(loaded) == set(state)
        assert torch.equal(loaded[mask], expected.float())
        assert torch.equal(loaded[weight].view(torch.int32), state[weight].view(torch.int32))
        left = int(keep.sum())
        assert [each.pruned_now for each in report.parameters if each.name == name] == [round(left / 2)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_report_counts_through_masks_of_every_layout(layout: str, tmp_path: Path) -> None:
    state, keep = masked(layout, "a.")
    weight, _, name = (f"a.{each}" for each in LAYOUTS[layout])
    source = save(state, tmp_path / "in.safetensors")
    report = count(source)
    (row,) = (each for each in report.parameters if each.name == name)
    assert (row.state, row.zeros) == ("masked", int(((state[weight] == 0) | ~keep).sum()))
    assert {each.name for each in report.parameters} == {name, "a.bias"}
    with open_checkpoint(source) as checkpoint:
        assert not verify_checkpoint(checkpoint, report).differences


@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.float16, torch.float64, torch.uint8, torch.int64])
@pytest.mark.parametrize("place", [0, 47])
@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each != "torch"])
def test_a_mask_with_another_value_is_soft_and_no_pattern_takes_it(
    layout: str, place: int, mask_dtype: torch.dtype, tmp_path: Path
) -> None:
    state, _ = masked(layout, "a.", mask_dtype=mask_dtype)
    weight, mask, _ = (f"a.{each}" for each in LAYOUTS[layout])
    state[mask].view(-1)[place] = 2 if mask_dtype in (torch.uint8, torch.int64) else 0.5
    source, target = save(state, tmp_path / "in.pt"), tmp_path / "out.pt"
    with open_checkpoint(source) as checkpoint:
        assert {name: (str(each.role), each.mask) for name, each in parameters_of(checkpoint).items()} == {
            weight: ("parameter", None),
            "a.bias": ("parameter", None),
            mask: ("soft mask", None),
        }
    apply(source, target, ask(1.0, "*", remove=True))
    loaded = load(target)
    assert torch.equal(loaded[mask], state[mask])
    assert not loaded[weight].any()
    with pytest.raises(UsageError, match="holds no masks to bake"):
        bake(source, tmp_path / "baked.pt")


def test_minus_zero_is_a_zero_of_a_mask_and_nan_is_not(tmp_path: Path) -> None:
    weight = noise((3,))
    for value, role in ((-0.0, None), (float("nan"), "soft mask"), (-1.0, "soft mask")):
        source = save({"w": weight, "w_mask": torch.tensor([1.0, value, 0.0])}, tmp_path / "in.pt")
        with open_checkpoint(source) as checkpoint:
            found = parameters_of(checkpoint)
        assert (str(found["w_mask"].role) if "w_mask" in found else None) == role
        assert (found["w"].mask is None) == (role is not None)


def test_a_look_ends_with_the_first_other_value_and_is_made_once(tmp_path: Path) -> None:
    block = 1 << 20
    mask = torch.ones(3 * block + 5)
    mask[block + 7] = 0.5
    source = save({"w": torch.ones(3 * block + 5), "w_mask": mask}, tmp_path / "in.safetensors")
    with open_checkpoint(source) as checkpoint:
        read: list[int] = []
        kept = type(checkpoint.source).read_into

        def counting(self: object, offset: int, buffer: memoryview) -> None:
            read.append(len(buffer))
            kept(self, offset, buffer)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(type(checkpoint.source), "read_into", counting)
            assert not is_binary(checkpoint, checkpoint.tensors["w_mask"])
            assert read == [4 * block, 4 * block]
            assert not is_binary(checkpoint, checkpoint.tensors["w_mask"])
            assert len(read) == 2


@pytest.mark.parametrize("turned", [True, False])
def test_a_mask_that_is_not_row_major_is_looked_at_where_it_lies(turned: bool, tmp_path: Path) -> None:
    stored = torch.ones(4, 8)
    stored[:, 1::2] = 7
    mask = stored[:, ::2].t() if turned else stored[:, ::2]
    weight = noise(tuple(mask.shape))
    mask[1, 2] = 0
    source, target = save({"w": weight, "w_mask": mask}, tmp_path / "in.pt"), tmp_path / "out.pt"
    bake(source, target)
    assert torch.equal(load(target)["w"].view(torch.int32), weight.view(torch.int32) * (mask != 0))


def test_what_only_looks_like_a_mask_is_not_one(tmp_path: Path) -> None:
    state = {
        "a": noise((4,), seed=1),
        "a_mask": torch.ones(5),
        "b": torch.tensor(1.0),
        "b_mask": torch.tensor(1.0),
        "c": torch.ones(4, dtype=torch.int32),
        "c_mask": torch.ones(4),
        "d_orig": noise((4,), seed=5),
        "d_mask": torch.ones(4),
        "d": noise((4,), seed=7),
        "e": noise((4,), seed=8),
        "e_mask": torch.ones(1).expand(4),
        "f": noise((1,), seed=9).expand(4),
        "f_mask": torch.ones(4),
    }
    with open_checkpoint(save(state, tmp_path / "m.pt")) as checkpoint:
        found = parameters_of(checkpoint)
    assert all(each.mask is None for each in found.values())
    assert list(found) == list(state)


def test_a_parametrization_with_other_parts_keeps_its_mask(tmp_path: Path) -> None:
    state, _ = masked("parametrization", "a.")
    state["a.parametrizations.weight.1._u"] = noise((6,))
    source, target = save(state, tmp_path / "in.pt"), tmp_path / "out.pt"
    with pytest.raises(UsageError, match="holds no masks to bake"):
        bake(source, target)
    apply(source, target, ask(1.0, "*", remove=True))
    assert torch.equal(load(target)["a.parametrizations.weight.0.mask"], state["a.parametrizations.weight.0.mask"])
    assert roles({name: "f32 6x8" if tensor.dim() == 2 else "f32 6" for name, tensor in state.items()}) == {
        "a.parametrizations.weight.original": "parameter",
        "a.bias": "parameter",
        "a.parametrizations.weight.0.mask": "mask",
        "a.parametrizations.weight.1._u": "auxiliary vector",
    }


def test_a_nested_dict_cannot_give_a_parametrized_weight_its_name(tmp_path: Path) -> None:
    state, _ = masked("parametrization", "")
    weight, mask = state["parametrizations.weight.original"], state["parametrizations.weight.0.mask"]
    nested = {"bias": state["bias"], "parametrizations": {"weight": {"original": weight, "0": {"mask": mask}}}}
    with pytest.raises(UnsupportedError, match="lies in a dict of its own"):
        bake(save(nested, tmp_path / "in.pt"), tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_baked_masks_of_a_parametrization_load_into_the_plain_module(tmp_path: Path) -> None:
    class Masked(torch.nn.Module):
        mask: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", (torch.arange(48.0).reshape(SHAPE) % 3 != 0).float())

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.mask

    module = torch.nn.Linear(8, 6)
    torch.nn.utils.parametrize.register_parametrization(module, "weight", Masked())
    target = tmp_path / "out.pt"
    bake(save(module.state_dict(), tmp_path / "in.pt"), target)
    plain = torch.nn.Linear(8, 6)
    plain.load_state_dict(load(target), strict=True)
    rows = torch.randn(2, 8)
    assert torch.equal(plain(rows), module(rows))
    assert int((plain.weight == 0).sum()) == 16


def test_the_scores_that_masks_are_made_from_are_left_alone() -> None:
    assert roles({"weight": "f32 3x4", "sparse_mask_scores": "f32 3x4"}) == {
        "weight": "parameter",
        "sparse_mask_scores": "soft mask",
    }
    hooked = {"w": "f32 3x4", "__nncf_hooks.post_hooks.w__0.0.mask": "f32 3x4"}
    assert list(roles(hooked).values()) == ["parameter", "soft mask"]


class MaskedLinear(torch.nn.Linear):
    """A layer that applies its mask itself, as MADE does."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__(8, 6)
        self.register_buffer("mask", (torch.arange(48.0).reshape(SHAPE) % 3 != 0).float())

    def forward(self, rows: Tensor) -> Tensor:
        return torch.nn.functional.linear(rows, self.weight * self.mask, self.bias)


def test_the_mask_that_a_live_module_applies_itself_is_left_to_it() -> None:
    layer = MaskedLinear()
    module = torch.nn.Sequential(layer, torch.nn.Linear(6, 2))
    before = layer.mask.clone()
    with pytest.raises(UsageError, match="holds no masks to bake"):
        prunecli.bake_module(module)
    report = prunecli.prune_module(module, "*", 0.5, seed=7, remove=True)
    assert {each.name for each in report.parameters} == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert torch.equal(layer.mask, before)
    assert int((layer.weight == 0).sum()) == 24
    prunecli.prune_module(module, "0.weight", 0.5, seed=8)
    assert bool(module(torch.randn(2, 8)).isfinite().all())


def test_the_mask_that_a_pickled_module_applies_itself_is_left_to_it(tmp_path: Path) -> None:
    module = MaskedLinear()
    torch.save(module, tmp_path / "in.pt")
    with open_checkpoint(tmp_path / "in.pt", ReadOptions(foreign=True)) as checkpoint:
        found = {name: (str(each.role), each.mask) for name, each in parameters_of(checkpoint).items()}
    assert found == {"weight": ("parameter", None), "bias": ("parameter", None), "mask": ("mask", None)}


def test_no_file_makes_a_look_at_its_masks_take_long(tmp_path: Path) -> None:
    """Each byte may be looked at twice on the average; masks beyond that are not known to be masks."""
    ones = torch.ones(4096)
    state: dict[str, Tensor] = {}
    for size in range(3000, 3040):
        state |= {f"w{size}": noise((size,), seed=size), f"w{size}_mask": ones[:size]}
    large = {f"v{place}": noise((4096, 8), seed=place) for place in range(4)}
    few = save(state | large, tmp_path / "few.pt")
    with open_checkpoint(few) as checkpoint:
        assert all(each.mask is not None for name, each in parameters_of(checkpoint).items() if name.startswith("w"))
    many: dict[str, Tensor] = {}
    weight = noise((4096,))
    for size in range(3000, 3200):
        many |= {f"w{size}": weight[:size], f"w{size}_mask": ones[:size]}
    with open_checkpoint(save(many, tmp_path / "many.pt")) as checkpoint:
        found = parameters_of(checkpoint)
        masked = [name for name, each in found.items() if each.mask is not None]
        assert 1 <= len(masked) < 20
        assert sum(str(each.role) == "soft mask" for each in found.values()) == 200 - len(masked)
