"""`--rescale`: what is kept is divided by its share, rounded once, and counted and summed like any other result."""

import json
from pathlib import Path
from typing import Any

import dcp_tools
import numpy as np
import pytest
import torch
from dcp_tools import assert_equal
from surgery_zoo import bits, noise, save
from torch import Tensor

from prunecli import files
from prunecli.core.rescale import rescale
from prunecli.errors import UsageError

TYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]
SHAPE = (70, 1000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def expected(weight: Tensor, kept: Tensor, left: int | None = None) -> Tensor:
    """Return the products in double precision, rounded by torch, which keeps infinities and NaNs."""
    parts = torch.view_as_real(weight) if weight.is_complex() else weight
    factor = (kept.numel() if left is None else left) / int(kept.sum())
    wide = (parts.double() * factor).to(parts.dtype)
    made = torch.where(parts.isfinite(), wide, parts)
    return (torch.view_as_complex(made) if weight.is_complex() else made).where(kept, torch.zeros_like(weight))


def small(dtype: torch.dtype, *, special: bool = False) -> Tensor:
    tensor = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).to(dtype)
    if special:
        tensor.view(-1)[:3] = torch.tensor([float("inf"), float("-inf"), float("nan")]).to(dtype)
    return tensor


def mask_of(source: str, **options: Any) -> Tensor:
    files.apply(source, params="w", seed=5, **options, output="masked", force=True)
    kept: Tensor = torch.load("masked")["w_mask"]
    return kept


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_result_is_that_of_double_precision_rounded_once(dtype: torch.dtype) -> None:
    weight = small(dtype, special=not dtype.is_complex)
    save({"w": weight}, Path("m.pt"))
    kept = mask_of("m.pt", amount=0.37)
    files.apply("m.pt", params="w", seed=5, amount=0.37, bake=True, rescale=True, output="out", report="r.json")
    assert torch.equal(bits(torch.load("out")["w"]), bits(expected(weight, kept)))
    report = json.loads(Path("r.json").read_text())
    assert (report["schema"], report["rescale"]) == ("prunecli.report/2", True)
    files.verify("out", "r.json")  # with the checksums of the new values
    files.apply("m.pt", from_report="r.json", output="again")
    assert Path("again").read_bytes() == Path("out").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_product_of_torch_differs_by_no_more_than_a_rounding(dtype: torch.dtype) -> None:
    weight = small(dtype)
    save({"w": weight}, Path("m.pt"))
    files.apply("m.pt", params="w", seed=5, amount=0.9, bake=True, rescale=True, output="out")
    found = torch.load("out")["w"]
    plain = weight * 10.0
    assert int((found != 0).sum()) == 7000
    assert torch.equal(found[found != 0], plain[found != 0])  # 10 is exact, and so is the product before the rounding


def test_rounds_masks_strides_parts_and_ties() -> None:
    weight = small(torch.float32)
    save({"w": weight}, Path("m.pt"))
    first = mask_of("m.pt", amount=0.5)
    Path("masked").rename("first")
    files.apply("first", params="w", seed=6, amount=0.5, output="second")
    files.apply("first", params="w", seed=6, amount=0.5, bake=True, rescale=True, output="baked")
    kept, found = torch.load("second")["w_mask"], torch.load("baked")["w"]
    assert torch.equal(
        bits(found), bits(expected(weight, kept, int(first.sum())))
    )  # of what was unpruned, half is kept
    torch.save({"a": weight.t(), "b": weight}, "tied.pt")
    torch.save({"a": weight.t()}, "turned.pt")
    files.apply("turned.pt", params="a", seed=5, amount=0.5, output="masks")
    files.apply("turned.pt", params="a", seed=5, amount=0.5, bake=True, rescale=True, output="turned")
    kept = torch.load("masks")["a_mask"]
    assert torch.equal(torch.load("turned")["a"], expected(weight.t(), kept))
    torch.save({"a": weight, "b": weight}, "tied.pt")
    files.apply("tied.pt", params="*", seed=5, amount=0.5, bake=True, rescale=True, output="both")
    one = torch.load("both")
    assert torch.equal(one["a"], one["b"])
    assert torch.equal(one["a"][one["a"] != 0], (weight * 2)[one["a"] != 0])  # once, not twice


def test_shards_recipes_and_units_write_the_same(tmp_path: Path) -> None:
    weight = small(torch.bfloat16)
    save({"w": weight}, Path("m.safetensors"))
    files.apply("m.safetensors", params="w", seed=5, amount=0.5, bake=True, rescale=True, output="one.safetensors")
    Path("r.toml").write_text("seed = 5\nbake = true\nrescale = true\n[[group]]\nparams = 'w'\namount = 0.5\n")
    files.apply("m.safetensors", recipe="r.toml", output="two.safetensors", resume=True, jobs=2)
    assert Path("one.safetensors").read_bytes() == Path("two.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_every_pattern_stays_or_is_rounded_to_nearest(kind: str) -> None:
    """All 16-bit patterns, and as many of the others, against torch's conversions from double precision."""
    dtype = getattr(torch, kind)
    raw = np.random.default_rng(1).integers(0, 1 << 16, (1 << 16, dtype.itemsize // 2), np.uint16)
    if dtype.itemsize == 2:
        raw = np.arange(1 << 16, dtype=np.uint16)[:, np.newaxis]
    values = torch.from_numpy(raw.view(np.int16).copy()).view(dtype).reshape(-1)
    for factor in (1.0000001, 4 / 3, 10.0, 70000 / 69999, 1e5):
        for count in (1 << 16, 1000):
            part = values[:count]
            found = raw.copy().view(f"u{dtype.itemsize}").reshape(-1)[:count].copy()
            wide = (part.double() * factor).to(dtype)
            made = torch.where(part.isfinite(), wide, part)
            assert rescale(found, factor, kind) == bool((made.isfinite() == part.isfinite()).all())
            assert np.array_equal(found, bits(made).numpy().view(found.dtype)), factor


def test_a_bfloat16_is_not_rounded_to_float32_first() -> None:
    found = np.array([0x3F80], np.uint16)
    assert rescale(found, 1 + 2.0**-8 + 2.0**-40, "bfloat16")  # float32 would make it a tie, and then even
    assert found.tolist() == [0x3F81]


@pytest.mark.parametrize(
    ("tensor", "options", "words"),
    [
        (noise((5, 4)).to(torch.int8), {"amount": 0.5}, "w is int8"),
        (noise((5, 4)).to(torch.float8_e5m2), {"amount": 0.5}, "values of float64, float32, float16, bfloat16, and w"),
        (torch.ones(4, 4), {"amount": 1.0}, "nothing is kept of w"),
        (torch.full((4, 4), 3e38), {"amount": 0.9}, "is then too large for float32"),
        (torch.full((300, 300), 60000.0).half(), {"amount": 0.9}, "multiplies w by 10"),
        (torch.ones(4, 4), {"amount": 0.5, "bake": False}, "add bake=True"),
        (torch.ones(4, 4), {"amount": 0.5, "with_state": True}, "leave with_state=True out"),
    ],
)
def test_what_cannot_be_rescaled(tensor: Tensor, options: dict[str, Any], words: str) -> None:
    save({"w": tensor}, Path("m.pt"))
    with pytest.raises(UsageError) as caught:
        files.apply("m.pt", **{"params": "w", "seed": 1, "bake": True, "rescale": True, "output": "never", **options})
    assert words in str(caught.value)
    assert sorted(path.name for path in Path().iterdir()) == ["m.pt"]


def test_dropped_elements_that_would_be_too_large_do_not_matter() -> None:
    weight = torch.ones(1000)
    save({"w": weight}, Path("m.pt"))
    kept = mask_of("m.pt", amount=0.5)
    save({"w": torch.where(kept, weight, 3e38)}, Path("m.pt"))
    files.apply("m.pt", params="w", seed=5, amount=0.5, bake=True, rescale=True, output="out")
    assert torch.equal(torch.load("out")["w"], kept * 2.0)


def test_distributed_checkpoints_and_their_slices_are_what_a_file_is() -> None:
    state = {"w": torch.randn(5, 40, 60), "plain": torch.randn(90, 30)}
    dcp_tools.save(state, Path("folder"), {"w": ((2,), (7, 30), (11,)), "plain": ((40,), (7,))}, files=2)
    torch.save(state, "m.pt")
    for source in ("folder", "m.pt"):
        files.apply(
            source, params="*", seed=5, amount=0.4, per_slice=True, bake=True, rescale=True, output=f"o.{source}"
        )
    assert_equal(dcp_tools.load(Path("o.folder")), torch.load("o.m.pt"))
