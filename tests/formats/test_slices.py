"""Folders of slices: what is one, and what is refused because the files contradict each other."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from slices_by_hand import Slice, save_rank, save_slices

from prunecli.errors import DamagedError, PrunecliError, UnsupportedError, UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.folders.sharded import ShardedFolder
from prunecli.formats.folders.slices import SlicesFolder
from prunecli.formats.opening import open_any

NAME = "shard-{:05d}-model-00001-of-00001.safetensors"


def ranks(path: Path, *held: dict[str, Slice], info: Any = None) -> Path:
    path.mkdir()
    for rank, slices in enumerate(held, 1):
        save_rank(path / NAME.format(rank), slices, info)
    return path


def test_a_folder_of_slices_is_seen_as_its_whole_tensors(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(4, 6), "b.bias": torch.ones(5), "none": torch.ones(0, 3)}
    source = save_slices(state, tmp_path / "in", {"a.weight": ((1,), (2,))})
    (source / "config.json").write_text("{}")
    with open_any(source) as folder:
        assert isinstance(folder, SlicesFolder)
        assert {name: (each.shape, len(each.parts)) for name, each in folder.tensors.items()} == {
            "a.weight": ((4, 6), 4),
            "b.bias": ((5,), 0),
            "none": ((0, 3), 0),
        }
        assert folder.format == "folder of safetensors slices"
        assert [each.name for each in folder.passthrough] == ["config.json"]


def test_a_file_that_does_not_say_where_its_slices_lie_has_whole_tensors(tmp_path: Path) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))}, {"a": ((3,), torch.ones(2))})
    save_rank(source / "zz.safetensors", {"b": ((0,), torch.ones(7))}, "")
    with open_any(source) as folder:
        assert {name: each.shape for name, each in folder.tensors.items()} == {"a": (5,), "b": (7,)}


def test_files_of_whole_tensors_without_an_index_are_no_slices(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    safetensors.torch.save_file({"a": torch.ones(3)}, source / NAME.format(1))
    with pytest.raises(PrunecliError, match="index"):
        open_any(source).__enter__()
    (source / NAME.format(1)).rename(source / "model.safetensors")
    with open_any(source) as folder:
        assert isinstance(folder, ShardedFolder)


def test_an_index_decides(tmp_path: Path) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))})
    (source / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"a": "{NAME.format(1)}"}}}}')
    with open_any(source) as folder:
        assert isinstance(folder, ShardedFolder)


def test_slices_beside_a_file_of_whole_tensors_are_two_checkpoints(tmp_path: Path) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))})
    save_rank(source / "model.safetensors", {"a": ((0,), torch.ones(3))}, "")
    with pytest.raises(UnsupportedError, match=r"several checkpoints \(model.safetensors, and slices such as shard-"):
        open_any(source).__enter__()


def test_the_same_weights_in_one_piece_below_are_noted(tmp_path: Path) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))})
    (source / "consolidated").mkdir()
    safetensors.torch.save_file({"a": torch.ones(3)}, source / "consolidated" / "model-00001-of-00001.safetensors")
    with open_any(source) as folder:
        assert isinstance(folder, SlicesFolder)
        assert folder.other_weight_files == ["consolidated/model-00001-of-00001.safetensors"]


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ([((0,), torch.ones(3)), ((4,), torch.ones(2))], "overlap, or leave gaps"),
        ([((0,), torch.ones(3)), ((2,), torch.ones(2))], "overlap, or leave gaps"),
        ([((0,), torch.ones(3)), ((0,), torch.ones(3))], "overlap, or leave gaps"),
        ([((3,), torch.ones(3))], "overlap, or leave gaps; a file may be missing"),
        ([((0,), torch.ones(3)), ((3, 0), torch.ones(3, 1))], "different numbers of dimensions"),
        ([((0,), torch.ones(3)), ((3,), torch.ones(3).half())], "are float32 and float16"),
    ],
)
def test_slices_that_contradict_each_other_are_refused(tmp_path: Path, slices: list[Slice], said: str) -> None:
    source = ranks(tmp_path / "in", *({"a": each} for each in slices))
    with pytest.raises(DamagedError, match=said):
        open_any(source).__enter__()


@pytest.mark.parametrize(
    "info",
    [
        "{",
        "[]",
        {},
        {"a": None},
        {"a": {}},
        {"a": {"saved_offsets": [0, 0]}},
        {"a": {"saved_offsets": [-1]}},
        {"a": {"saved_offsets": [0.0]}},
        {"a": {"saved_offsets": [True]}},
        {"a": {"saved_offsets": [2**62]}},
        '{"a": {"saved_offsets": [0]}, "a": {"saved_offsets": [0]}}',
        "[" * 5000,
    ],
)
def test_a_file_that_does_not_say_it_rightly_is_refused(tmp_path: Path, info: Any) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))}, info=info)
    with pytest.raises(DamagedError, match="DCP_SHARDING_INFO in its metadata"):
        open_any(source).__enter__()


def test_a_whole_far_larger_than_its_slices_is_refused_at_once(tmp_path: Path) -> None:
    held = {"a": ((2**61, 2**61), torch.ones(1, 1)), "b": ((0,), torch.ones(1))}
    with pytest.raises(DamagedError, match="leave gaps"):
        open_any(ranks(tmp_path / "in", held)).__enter__()


def test_a_key_leads_nowhere(tmp_path: Path) -> None:
    source = ranks(tmp_path / "in", {"a": ((0,), torch.ones(3))})
    with pytest.raises(UsageError, match="--key model"):
        open_any(source, ReadOptions("model")).__enter__()
