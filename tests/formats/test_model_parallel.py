"""Files of one rank among several: recognised by the files beside them, or by DTensors in them."""

from pathlib import Path

import pytest
import torch
from folder_zoo import save_shard
from slices_by_hand import save_slices

from prunecli.formats.base import ReadOptions
from prunecli.formats.folders.model_parallel import slices_note
from prunecli.formats.opening import open_any
from prunecli.terms import render


def note(path: Path) -> str:
    with open_any(path, ReadOptions(foreign=True)) as opened:
        return render(slices_note(path, opened))


def make(folder: Path, *names: str) -> Path:
    """Write files of one tensor; return the first."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_shard({"w": torch.ones(3, 4)}, folder / name)
    return folder / names[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("consolidated.00.pth", "consolidated.01.pth"),
        ("consolidated.00.safetensors", "consolidated.01.safetensors"),
        ("mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"),
        ("mp_rank_00_000/model_optim_rng.pt", "mp_rank_01_000/model_optim_rng.pt"),
        ("tp_rank_00_pp_rank_000/model_weights.ckpt", "tp_rank_01_pp_rank_000/model_weights.ckpt"),
        ("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"),
        ("model-rank-0-part-0.safetensors", "model-rank-1-part-0.safetensors"),
        ("rank0.safetensors", "rank1.safetensors"),
        ("reshard-model_part-0.pt", "reshard-model_part-1.pt"),
        ("model_world_size_2_rank_0.pt", "model_world_size_2_rank_1.pt"),
    ],
)
def test_a_file_with_those_of_other_ranks_beside_it_holds_slices(tmp_path: Path, first: str, second: str) -> None:
    path = make(tmp_path, first, second)
    assert note(path) == (
        f"{path.name} holds slices of tensors: it is one of 2 ranks, and one seed gives each slice the same mask; "
        "merge or convert them into one checkpoint first, or give each file a --seed of its own"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("consolidated.00.pth",),
        ("consolidated.00.pth", "params.json.pth"),
        ("mp_rank_00/model_optim_rng.pt",),
        ("mp_rank_00_000/model_optim_rng.pt", "mp_rank_00_001/model_optim_rng.pt"),  # stages: other layers
        ("model-rank-0-part-0.safetensors", "model-rank-0-part-1.safetensors"),
        ("a-model_part-0.pt", "b-model_part-1.pt"),
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"),
        ("my_rank0.safetensors", "my_rank1.safetensors"),
        ("epoch.00.pt", "epoch.01.pt"),
    ],
)
def test_a_file_alone_and_files_that_are_no_ranks_hold_whole_tensors(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert note(make(tmp_path, *names)) == ""


def test_a_single_file_of_a_folder_of_slices_is_noted(tmp_path: Path) -> None:
    folder = save_slices({"w": torch.ones(4, 4)}, tmp_path / "s", {"w": ((2,), ())})
    file = folder / "shard-00001-model-00001-of-00001.safetensors"
    assert "name their folder, which is pruned as whole tensors" in note(file)
    assert note(folder) == ""


def test_dtensors_are_slices_whatever_the_file_is_called(tmp_path: Path) -> None:
    class DTensor(torch.Tensor):
        pass

    state = {"w": torch.ones(3, 4).as_subclass(DTensor), "b": torch.ones(3)}
    globals()["DTensor"], DTensor.__qualname__ = DTensor, "DTensor"
    torch.save(state, tmp_path / "x.pt")
    assert note(tmp_path / "x.pt").startswith("there are DTensors in it, each a slice that one rank held")
