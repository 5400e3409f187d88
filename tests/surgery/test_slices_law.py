"""The law of slices: pruned in the files of its ranks, a model is what it is pruned in one file."""

import warnings
from pathlib import Path
from typing import Any

import dcp_ranks
import pytest
import safetensors.torch
import torch
from dcp_tools import assert_equal, prune, save_from_two_ranks
from slices_by_hand import Cuts, save_slices
from surgery_zoo import BLOCK, noise
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from prunecli.errors import UnsupportedError
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.report.measure import measure

SHAPES: dict[str, tuple[tuple[int, ...], torch.dtype, Cuts]] = {
    "whole": ((5, 7), torch.float32, ((), ())),
    "scalar": ((), torch.float32, ()),
    "line": ((11,), torch.float32, ((4, 8),)),
    "rows": ((7, 5), torch.bfloat16, ((2, 4, 6), ())),
    "columns": ((5, 7), torch.float32, ((), (3,))),
    "both": ((9, 10), torch.float16, ((4, 5), (3, 9))),
    "cube": ((4, 5, 6), torch.float64, ((2,), (1, 3), (5,))),
    "more": ((2, 3), torch.float32, ((1, 2), ())),
    "empty": ((3, 0), torch.float32, ((), ())),
    "long": ((2 * BLOCK + 77,), torch.bfloat16, ((BLOCK - 5, BLOCK + 9),)),
    "wide": ((1031, 1029), torch.bfloat16, ((), (200, 201, 1000))),
}
"""Shapes, types and cuts; `more` has a rank without rows."""

CUTS = {f"{name}.weight": cuts for name, (_, _, cuts) in SHAPES.items()}


def zoo() -> dict[str, Tensor]:
    return {f"{name}.weight": noise(shape, dtype) for name, (shape, dtype, _) in SHAPES.items()}


def load_slices(path: Path, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Read a folder as torch does."""
    state = {name: torch.full_like(each, 3) for name, each in like.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(state, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return state


@pytest.mark.parametrize("more", [{}, {"zeros_are_pruned": True}, {"everywhere": True}], ids=str)
def test_a_model_in_slices_is_pruned_as_in_one_file(tmp_path: Path, more: dict[str, Any]) -> None:
    state = zoo()
    save_slices(state, tmp_path / "slices", CUTS)
    safetensors.torch.save_file(state, tmp_path / "whole.safetensors")
    mine = prune(tmp_path / "slices", tmp_path / "out", 0.37, "*", **more)
    theirs = prune(tmp_path / "whole.safetensors", tmp_path / "out.safetensors", 0.37, "*", **more)
    by_name = {each.name: each for each in theirs.parameters}
    assert {each.name: each for each in mine.parameters} == by_name
    assert mine.totals == theirs.totals
    whole = safetensors.torch.load_file(tmp_path / "out.safetensors")
    assert_equal(load_slices(tmp_path / "out", whole), whole)
    assert not torch.equal(whole["both.weight"], state["both.weight"])


def test_slices_count_as_the_whole(tmp_path: Path) -> None:
    masked = {"m.weight_orig": noise((1030, 20)), "m.weight_mask": torch.rand(1030, 20) < 0.5}
    state = zoo() | masked
    save_slices(state, tmp_path / "slices", CUTS | dict.fromkeys(masked, ((7, 9), (3,))))
    safetensors.torch.save_file(state, tmp_path / "whole.safetensors")
    for selection in (None, Selection(("*",))):
        found = []
        for name in ("slices", "whole.safetensors"):
            with open_any(tmp_path / name) as checkpoint:
                found.append(measure(checkpoint, selection))
        assert {each.name: each for each in found[0].parameters} == {each.name: each for each in found[1].parameters}
        assert found[0].totals == found[1].totals


def test_what_is_not_selected_is_byte_for_byte_what_it_was(tmp_path: Path) -> None:
    source = save_slices(
        {"a.weight": noise((4, 6)), "b.weight": noise((5,))}, tmp_path / "in", {"a.weight": ((), (2,))}
    )
    (source / "config.json").write_text("{}")
    prune(source, tmp_path / "out", 0.5, "a.weight")
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted(each.name for each in source.iterdir())
    for name in (each.name for each in source.iterdir()):
        before, after = ((folder / name).read_bytes() for folder in (source, tmp_path / "out"))
        header = 8 + int.from_bytes(before[:8], "little")
        assert before[:header] == after[:header]
        assert len(before) == len(after)
    first = "shard-00001-model-00001-of-00001.safetensors"
    old, new = (safetensors.torch.load_file(folder / first) for folder in (source, tmp_path / "out"))
    assert torch.equal(old["b.weight"], new["b.weight"])


def test_masks_have_no_place_and_cannot_be_taken_away(tmp_path: Path) -> None:
    state = {"w_orig": noise((4, 4)), "w_mask": torch.ones(4, 4), "v": noise((3, 3))}
    source = save_slices(state, tmp_path / "in", {"w_orig": ((2,), ())})
    with pytest.raises(UnsupportedError, match="takes no masks and loses none: each file says which slices"):
        prune(source, tmp_path / "out", 0.5, "w")
    assert not (tmp_path / "out").exists()


def test_what_two_ranks_saved_and_load_is_pruned_as_one_file(tmp_path: Path) -> None:
    save_from_two_ranks(tmp_path / "saved", "slices_ranks.py")
    state = dcp_ranks.whole_state()["model"]
    with open_any(tmp_path / "pruned") as checkpoint:
        parts = {name: len(tensor.parts) for name, tensor in checkpoint.tensors.items()}
    whole = ("same.weight", "plain.weight", "tiny.weight")  # what is replicated, and what one rank has nothing of
    assert parts == {name: 0 if name in whole else 2 for name in state}
    torch.save(state, tmp_path / "file.pt")
    prune(tmp_path / "file.pt", tmp_path / "file.out.pt", 0.5)
    assert_equal(torch.load(tmp_path / "loaded.pt", weights_only=True), torch.load(tmp_path / "file.out.pt"))
