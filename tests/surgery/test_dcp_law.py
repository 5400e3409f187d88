"""The law of distributed checkpoints: pruned in chunks, a model is what it is pruned in one file."""

import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import dcp_ranks
import pytest
import torch
from dcp_tools import Cuts, assert_equal, load, prune, save, save_from_two_ranks
from surgery_zoo import BLOCK, noise
from torch import Tensor

from prunecli.errors import UnsupportedError, UsageError
from prunecli.formats.folders.dcp.metadata import StoredTensor, read_metadata
from prunecli.formats.io.source import open_source
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.report.measure import measure

COLUMN_MAJOR = "column-major"

SHAPES: dict[str, tuple[tuple[int, ...], torch.dtype, Cuts]] = {
    "whole": ((5, 7), torch.float32, ((), ())),
    "scalar": ((), torch.float32, ()),
    "line": ((11,), torch.float32, ((4, 8),)),
    "rows": ((7, 5), torch.bfloat16, ((2, 4, 6), ())),
    "columns": ((5, 7), torch.float32, ((), (3,))),
    "both": ((9, 10), torch.float16, ((4, 5), (3, 9))),
    "cube": ((4, 5, 6), torch.float64, ((2,), (1, 3), (5,))),
    "slabs": ((3, 4, 2, 5), torch.float8_e4m3fn, ((1,), (), (1,), ())),
    "empty": ((3, 0), torch.float32, ((), ())),
    "long": ((2 * BLOCK + 77,), torch.bfloat16, ((BLOCK - 5, BLOCK + 9),)),
    "tall": ((1031, 1029), torch.bfloat16, ((500,), ())),
    "wide": ((1031, 1029), torch.bfloat16, ((), (200, 201, 1000))),
    "tiles": ((1100, 1000), torch.float32, ((1, 550), (300,))),
    "broad": ((2, BLOCK), torch.float8_e5m2, ((), (9999,))),
}


def zoo() -> dict[str, Tensor]:
    tensors = {f"{name}.weight": noise(shape, dtype) for name, (shape, dtype, _) in SHAPES.items()}
    return tensors | {"turned.weight": noise((6, 5)).T}


def cut() -> dict[str, Cuts]:
    return {f"model.{name}.weight": cuts for name, (_, _, cuts) in SHAPES.items() if any(cuts)}


def both(
    tmp_path: Path, state: dict[str, Any], cuts: dict[str, Cuts] | None, *patterns: str, how: str = "", **options: Any
) -> tuple[Any, Any]:
    """Prune a state dict as a folder and as a file; return what torch loads of each."""
    change = {"change": _column_major} if how == COLUMN_MAJOR else {}
    save(state, tmp_path / "folder", cuts, files=2, **change)
    torch.save(state, tmp_path / "file.pt")
    mine = prune(tmp_path / "folder", tmp_path / "folder.out", 0.37, *patterns, **options)
    theirs = prune(tmp_path / "file.pt", tmp_path / "file.out.pt", 0.37, *patterns, **options)
    if how == COLUMN_MAJOR:  # of what is not put together from runs, there is no checksum
        known = [
            replace(each, crc32=own.crc32 and each.crc32)
            for each, own in zip(theirs.parameters, mine.parameters, strict=True)
        ]
        assert mine.parameters == known
    else:
        assert mine.parameters == theirs.parameters
    assert mine.totals == theirs.totals
    assert list(mine.carried) == list(theirs.carried)
    return load(tmp_path / "folder.out"), torch.load(tmp_path / "file.out.pt", weights_only=True)


def _column_major(chunk: Tensor) -> Tensor:
    return chunk.T.contiguous().T if chunk.dim() == 2 else chunk.contiguous()


@pytest.mark.parametrize(
    ("how", "more"),
    [
        ("row-major", {}),
        ("row-major", {"everywhere": True}),
        (COLUMN_MAJOR, {}),
        (COLUMN_MAJOR, {"zeros_are_pruned": True}),
    ],
    ids=str,
)
def test_a_model_in_chunks_is_pruned_as_in_one_file(tmp_path: Path, how: str, more: dict[str, Any]) -> None:
    assert_equal(*both(tmp_path, {"model": zoo()}, cut(), how=how, **more))


def test_a_second_round_on_zeros_is_the_same_too(tmp_path: Path) -> None:
    state = {"model": {"w": noise((1100, 1000), torch.bfloat16)}}
    save(state, tmp_path / "a", {"model.w": ((300,), (500,))})
    torch.save(state, tmp_path / "a.pt")
    for suffix in ("", ".pt"):
        prune(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", 0.5)
        prune(tmp_path / f"b{suffix}", tmp_path / f"c{suffix}", 0.5, zeros_are_pruned=True)
    assert_equal(load(tmp_path / "c"), torch.load(tmp_path / "c.pt", weights_only=True))


def test_everything_else_in_the_folder_is_byte_for_byte_what_it_was(tmp_path: Path) -> None:
    state = {"model": zoo(), "note": "ä", "optimizer": {"state": {"w": torch.ones(3)}}}
    source = save(state, tmp_path / "in", cut(), files=3)
    (source / "config.json").write_text("{}")
    prune(source, tmp_path / "out", 0.5, "both.weight", "columns.weight")
    names = sorted(path.name for path in source.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    changed = {f"model.{name}.weight" for name in ("both", "columns")}
    with open_source(source / ".metadata") as file:
        entries = read_metadata(file).entries
    runs = [(each.item, entry.name) for entry in entries if isinstance(entry, StoredTensor) for each in entry.chunks]
    for name in names:
        before, after = ((folder / name).read_bytes() for folder in (source, tmp_path / "out"))
        assert len(before) == len(after)
        for item, tensor in runs:
            if item.file == name:
                cut_out = slice(item.offset, item.offset + item.length)
                assert zipfile.ZipFile(BytesIO(after[cut_out])).testzip() is None
                if tensor in changed:
                    before = before[: item.offset] + after[cut_out] + before[item.offset + item.length :]
        assert before == after
    assert not torch.equal(load(source)["model"]["both.weight"], load(tmp_path / "out")["model"]["both.weight"])


def test_a_folder_counts_as_its_tensors_in_one_file(tmp_path: Path) -> None:
    masked = {"m.weight_orig": noise((1030, 1020)), "m.weight_mask": torch.rand(1030, 1020) < 0.5}
    masked_cut = {f"model.{name}": ((7, 9), (300,)) for name in masked}
    state = {"model": zoo() | masked}
    save(state, tmp_path / "folder", cut() | masked_cut, files=2)
    torch.save(state, tmp_path / "file.pt")
    for selection in (None, Selection(("*",))):
        reports = []
        for name in ("folder", "file.pt"):
            with open_any(tmp_path / name) as checkpoint:
                reports.append(measure(checkpoint, selection))
        assert reports[0].parameters == reports[1].parameters
        assert reports[0].totals == reports[1].totals


def test_optimizer_state_and_averages_are_carried_and_named_as_copies(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 6)).sum().backward()
    optimizer.step()
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "ema": {name: each + 1 for name, each in model.state_dict().items()},
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
    }
    mine, theirs = both(tmp_path, state, None)
    assert_equal(mine["model"], theirs["model"])
    assert_equal(mine["ema"], state["ema"])
    assert_equal(mine["optimizer"]["state"], state["optimizer"]["state"])


def test_names_flattened_before_they_were_saved_keep_optimizer_state_out(tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(4, 4), "optimizer.state.fc.weight.exp_avg": torch.ones(4, 4)}
    with open_any(save(state, tmp_path / "in")) as checkpoint:
        assert list(checkpoint.tensors) == ["fc.weight"]
        assert [each.name for each in checkpoint.carried] == ["optimizer.state.fc.weight.exp_avg"]


def test_a_key_takes_another_state_dict(tmp_path: Path) -> None:
    state: dict[str, Any] = {"model": {"w": torch.ones(4, 4)}, "ema": {"w": torch.ones(4, 4)}}
    mine, theirs = both(tmp_path, state, {"ema.w": ((1,), (2,))}, key="ema")
    assert_equal(mine, theirs)
    assert_equal(mine["model"], state["model"])
    with pytest.raises(UsageError, match="--key nowhere"):
        prune(tmp_path / "folder", tmp_path / "x", 0.5, key="nowhere")


def test_lists_keep_their_places(tmp_path: Path) -> None:
    assert_equal(
        *both(tmp_path, {"model": {"layers": [torch.ones(3, 3), {"w": torch.ones(4)}], "b": torch.ones(5)}}, None)
    )


def test_ties_are_two_tensors_each_with_a_mask_of_its_own(tmp_path: Path) -> None:
    shared = noise((8, 8))
    source = save({"a.weight": shared, "b.weight": shared}, tmp_path / "in")
    report = prune(source, tmp_path / "out", 0.5)
    assert [each.tied_to for each in report.parameters] == [(), ()]
    loaded = load(tmp_path / "out")
    assert not torch.equal(loaded["a.weight"] == 0, loaded["b.weight"] == 0)


def test_masks_have_no_place_and_cannot_be_taken_away(tmp_path: Path) -> None:
    state = {"w_orig": noise((4, 4)), "w_mask": torch.ones(4, 4), "v": noise((3, 3))}
    source = save(state, tmp_path / "in", {"w_orig": ((2,), (2,))})
    with pytest.raises(UnsupportedError, match="takes no masks"):
        prune(source, tmp_path / "out", 0.5, "w")
    assert not (tmp_path / "out").exists()
    with open_any(source) as checkpoint:
        counted = measure(checkpoint, None)
    assert [(each.name, each.state) for each in counted.parameters] == [("w", "masked"), ("v", "dense")]


def test_what_two_ranks_saved_and_load_is_pruned_as_one_file(tmp_path: Path) -> None:
    save_from_two_ranks(tmp_path / "saved")
    state = dcp_ranks.whole_state()
    with open_any(tmp_path / "pruned") as checkpoint:
        parts = {name: len(tensor.parts) for name, tensor in checkpoint.tensors.items()}
    whole = ("same.weight", "plain.weight", "tiny.weight")  # what is replicated, and what one rank has nothing of
    assert parts == {name: 0 if name in whole else 2 for name in state["model"]}
    torch.save(state, tmp_path / "file.pt")
    prune(tmp_path / "file.pt", tmp_path / "file.out.pt", 0.5)
    theirs = torch.load(tmp_path / "file.out.pt", weights_only=True)
    assert_equal(load(tmp_path / "pruned"), theirs)
    assert_equal(torch.load(tmp_path / "loaded.pt", weights_only=True), theirs["model"])
