"""Masks from files: every kind of source gives the same flags, and values other than 0 and 1 are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from surgery_zoo import apply, ask, load, noise, save
from torch import Tensor

from prunecli.errors import DamagedError, UnsupportedError, UsageError
from prunecli.formats.base import AS_FOUND, ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.masks import source as masks
from prunecli.surgery.masks.source import masks_of
from prunecli.surgery.names.select import Selection

SHAPE = (5, 7, 3)
KEEP = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3)) < 0.6
FILE = {masks.MASKS: "1", masks.KEPT: "true"}


def flags(path: Path, step: int = 40, reading: ReadOptions = AS_FOUND, **options: Any) -> dict[str, Tensor]:
    """Return all masks of a source, read in steps of one workspace."""
    found, workspace = {}, Workspace()
    with open_any(path, reading) as opened:
        for name, each in masks_of(opened, **options).masks.items():
            whole = np.empty(each.elements, dtype=np.bool_)
            for start in range(0, whole.size, step):
                each.read(start, whole[start : start + step], workspace)
            each.release()
            found[name] = torch.from_numpy(whole.reshape(each.shape))
    return found


def bits_file(path: Path, packed: Tensor, shapes: Any, **metadata: str) -> Path:
    entries = {**FILE, masks.ENCODING: "bits", masks.SHAPES: json.dumps(shapes), **metadata}
    safetensors.torch.save_file({"w": packed}, path, metadata=entries)
    return path


def packed(keep: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(keep.numpy(), bitorder="little"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.bfloat16, torch.float16],
)
def test_a_dictionary_of_masks_of_any_type(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    state = {"a.weight": KEEP.to(dtype), "b.weight": (~KEEP).to(dtype)}
    found = flags(save(state, tmp_path / f"m{suffix}"))
    assert list(found) == list(state)
    assert torch.equal(found["a.weight"], KEEP)
    assert torch.equal(found["b.weight"], ~KEEP)


def test_a_dictionary_of_which_all_names_end_in_mask_names_the_parameters(tmp_path: Path) -> None:
    assert list(flags(save({"a.weight_mask": KEEP, "b_mask": KEEP}, tmp_path / "m.pt"))) == ["a.weight", "b"]


def test_transposed_masks_are_read_in_row_major_order(tmp_path: Path) -> None:
    assert torch.equal(flags(save({"w": KEEP.float().permute(2, 0, 1)}, tmp_path / "m.pt"))["w"], KEEP.permute(2, 0, 1))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_gives_its_masks_and_its_zeros(suffix: str, tmp_path: Path) -> None:
    weight = noise((30, 40))
    weight[0] = 0.0
    weight[1] = -0.0
    source, pruned = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    apply(save({"module.fc.weight": weight, "module.fc.bias": noise((4,))}, source), pruned, ask(0.5, "*weight"))
    keep = load(pruned)["module.fc.weight_mask"]
    found = flags(pruned, step=7)
    assert list(found) == ["module.fc.weight"]
    assert torch.equal(found["module.fc.weight"], keep)
    zeros = flags(pruned, selection=Selection(("*.weight",)), from_zeros=True)
    assert torch.equal(zeros["module.fc.weight"], keep & (weight != 0))
    assert flags(pruned, from_zeros=True).keys() == {"module.fc.weight", "module.fc.bias"}
    with open_any(pruned) as opened:
        assert masks_of(opened).keys == {"module.fc.weight": "fc.weight"}


@pytest.mark.parametrize("step", [8, 13, 104, 105])
def test_bits_are_little_and_rows_are_not_padded(step: int, tmp_path: Path) -> None:
    path = bits_file(tmp_path / "m.safetensors", packed(KEEP.flatten()), {"w": SHAPE})
    assert torch.equal(flags(path, step)["w"], KEEP)


def test_a_mask_file_is_masks_even_from_zeros_and_under_the_name_of_a_mask(tmp_path: Path) -> None:
    tensors = {"fc.mask": KEEP, "fc.weight": KEEP.clone()}
    safetensors.torch.save_file(tensors, tmp_path / "m.safetensors", metadata=FILE)
    found = flags(tmp_path / "m.safetensors", from_zeros=True)
    assert found.keys() == tensors.keys()
    assert torch.equal(found["fc.mask"], KEEP)
    assert list(flags(tmp_path / "m.safetensors", selection=Selection(("*.weight",)))) == ["fc.weight"]
    with pytest.raises(UsageError, match="matches nothing"):
        flags(tmp_path / "m.safetensors", selection=Selection(("nowhere",)))


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"w": torch.tensor([[1, 0], [0, 2]], dtype=torch.uint8)}, r"\[1, 1\]"),
        ({"w": torch.tensor([1.0, 0.0, -1.0])}, r"\[2\]"),
        ({"w": torch.tensor([[True, False], [False, True]]).view(torch.uint8), "v": torch.full((3,), 7)}, r"\[0\]"),
        ({"w_orig": torch.zeros(3), "w_mask": torch.tensor([0.0, 0.5, 1.0])}, r"\[1\]"),
    ],
)
def test_other_values_are_refused_with_their_place(state: dict[str, Tensor], place: str, tmp_path: Path) -> None:
    state = {"first": torch.ones(2), **state} if "w_orig" not in state else state
    with pytest.raises(DamagedError, match=f"has a value other than 0 and 1, at {place}"):
        flags(save(state, tmp_path / "m.pt"))


def test_booleans_that_are_neither_0_nor_1_are_refused(tmp_path: Path) -> None:
    path = save({"w": torch.ones(16, dtype=torch.bool)}, tmp_path / "m.safetensors")
    data = path.read_bytes()
    path.write_bytes(data[:-3] + b"\x02" + data[-2:])
    with pytest.raises(DamagedError, match=r"at \[13\]"):
        flags(path)


def test_a_checkpoint_without_masks_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no masks \(w has other values than 0 and 1\); make a mask"):
        flags(save({"w": noise((4, 4))}, tmp_path / "m.pt"))
    with pytest.raises(UsageError, match="has no masks"):
        flags(save({"w": torch.zeros(0)}, tmp_path / "m.pt"))


@pytest.mark.parametrize(
    ("bits", "shapes", "metadata", "error"),
    [
        (packed(KEEP.flatten()), {}, {}, "has no shape of w"),
        (packed(KEEP.flatten()), {"w": SHAPE, "v": [1]}, {}, "has v, of which there are no bits"),
        (packed(KEEP.flatten()), {"w": [5, -7, 3]}, {}, "has no shape of w"),
        (packed(KEEP.flatten()), {"w": [5, True]}, {}, "has no shape of w"),
        (packed(KEEP.flatten()), {"w": [2**62, 2**62]}, {}, "need uint8"),
        (packed(KEEP.flatten()), {"w": [96]}, {}, "need uint8"),
        (packed(KEEP.flatten()).bool(), {"w": SHAPE}, {}, "need uint8"),
        (torch.full((14,), 255, dtype=torch.uint8), {"w": SHAPE}, {}, "behind its last element"),
        (packed(KEEP.flatten()), {"w": SHAPE}, {masks.SHAPES: "["}, "is not JSON"),
        (packed(KEEP.flatten()), {"w": SHAPE}, {masks.KEPT: "false"}, "a mask file has true"),
        (packed(KEEP.flatten()), {"w": SHAPE}, {masks.ENCODING: "runs"}, "bool or bits"),
    ],
)
def test_contradicting_metadata_are_refused(
    bits: Tensor, shapes: Any, metadata: dict[str, str], error: str, tmp_path: Path
) -> None:
    with pytest.raises(DamagedError, match=error):
        flags(bits_file(tmp_path / "m.safetensors", bits, shapes, **metadata))


def test_a_later_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="is a mask file of version 2; this prunecli reads 1"):
        flags(bits_file(tmp_path / "m.safetensors", packed(KEEP), {"w": SHAPE}, **{masks.MASKS: "2"}))


def test_a_dictionary_below_a_key(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"masks": {"w": KEEP.int()}, "state_dict": {"w": noise(SHAPE)}}, path)
    assert torch.equal(flags(path, reading=ReadOptions("masks"))["w"], KEEP)
