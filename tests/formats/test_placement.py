"""The index decides which tensor of which shard is the checkpoint's; what else is there is carried along, and noted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import INDEX, files_of, index_of, load_shard, make_folder, save_shard, shard, write_index
from torch import Tensor

from prunecli.errors import DamagedError, PrunecliError, UnsupportedError
from prunecli.formats.folders.base import Folder
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

ONE, TWO = shard(1, 2), shard(2, 2)


def values(seed: int) -> Tensor:
    """Make a matrix without zeros."""
    return torch.rand((6, 4), generator=torch.Generator().manual_seed(seed)) + 1


def zeros(tensor: Tensor) -> int:
    return int((tensor == 0).sum())


@pytest.fixture(params=[".safetensors", ".bin"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def folder_of(path: Path, suffix: str, more: Any = None, **second: Tensor) -> Path:
    """Two shards, of which the second may hold more than the index says, and the index more than the shards hold."""
    make_folder(path, [{"a.weight": values(1)}, {"b.weight": values(2)}], suffix)
    index = index_of(path)
    save_shard({"b.weight": values(2), **second}, path / shard(2, 2, suffix))
    write_index(path, suffix, {**index, "weight_map": {**index["weight_map"], **(more or {})}})
    return path


def pruned(path: Path, out: Path, *patterns: str, remove: bool = True) -> tuple[Report, list[str]]:
    prune = PruneRequest((PruneGroup(Selection(patterns or ("*",)), 0.5),), 7, remove=remove)
    with open_any(path) as opened:
        assert isinstance(opened, Folder)
        return rewrite(opened, plan_prune(opened, prune), Destination(out)), list(opened.notes)


def notes_of(path: Path) -> list[str]:
    with open_any(path) as opened:
        return list(opened.notes)


def test_agreement_needs_no_note(tmp_path: Path, suffix: str) -> None:
    assert notes_of(folder_of(tmp_path / "m", suffix)) == []


@pytest.mark.parametrize("remove", [True, False])
def test_a_surplus_name_in_the_index_stays_there(tmp_path: Path, suffix: str, remove: bool) -> None:
    second = shard(2, 2, suffix)
    path = folder_of(tmp_path / "m", suffix, {"lost.weight": second})
    report, notes = pruned(path, tmp_path / "out", remove=remove)
    assert [each.name for each in report.parameters] == ["a.weight", "b.weight"]
    assert report.totals.pruned_now == 24
    says = f"1 tensor that is not where it says: lost.weight is not in {second}; such names stay in the index"
    assert notes == [f"the index names {says}"]
    index = index_of(tmp_path / "out")
    assert index["weight_map"]["lost.weight"] == second
    if remove:
        assert (tmp_path / "out" / INDEX[suffix]).read_bytes() == (path / INDEX[suffix]).read_bytes()
    else:
        assert sorted(index["weight_map"]) == [
            "a.weight_mask",
            "a.weight_orig",
            "b.weight_mask",
            "b.weight_orig",
            "lost.weight",
        ]
        assert index["metadata"]["total_size"] == 2 * 24 * 4 + 2 * 24


@pytest.mark.parametrize("pattern", ["lost.weight", "lost.*", "module.lost.weight", "re:lost.*"])
def test_a_selected_tensor_that_is_nowhere_is_refused(tmp_path: Path, suffix: str, pattern: str) -> None:
    path = folder_of(tmp_path / "m", suffix, {"lost.weight": shard(2, 2, suffix)})
    with pytest.raises(DamagedError, match=r"lost.weight is selected and nowhere: the index puts it into .*2-of-0"):
        pruned(path, tmp_path / "out", "a.weight", pattern)
    with open_any(path) as opened, pytest.raises(DamagedError, match="is selected and nowhere"):
        measure(opened, Selection((pattern,)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("remove", [True, False])
def test_a_surplus_tensor_is_carried_along_untouched(tmp_path: Path, suffix: str, remove: bool) -> None:
    second = shard(2, 2, suffix)
    extra = values(3)
    path = folder_of(tmp_path / "m", suffix, **{"extra.weight": extra})
    report, notes = pruned(path, tmp_path / "out", remove=remove)
    assert [each.name for each in report.parameters] == ["a.weight", "b.weight"]
    assert notes == [
        f"carried along as they are: 1 tensor that the index does not name, from extra.weight in {second} on"
    ]
    found = load_shard(tmp_path / "out" / second)
    assert torch.equal(found["extra.weight"], extra)
    assert zeros(found["b.weight"] if remove else ~found["b.weight_mask"]) == 12
    assert "extra.weight" not in index_of(tmp_path / "out")["weight_map"]


@pytest.mark.parametrize("remove", [True, False])
def test_a_stale_copy_in_another_shard_is_carried_along_untouched(tmp_path: Path, suffix: str, remove: bool) -> None:
    first, second = shard(1, 2, suffix), shard(2, 2, suffix)
    stale = values(3)
    path = folder_of(tmp_path / "m", suffix, **{"a.weight": stale})
    report, notes = pruned(path, tmp_path / "out", remove=remove)
    assert report.totals.pruned_now == 24
    assert len(notes) == 1
    assert notes[0].startswith(
        "carried along as they are: stale copies of 1 tensor, in shards where the index does not put them, from "
        f"a.weight in {second} on"
    )
    assert torch.equal(load_shard(tmp_path / "out" / second)["a.weight"], stale)
    found, end = load_shard(tmp_path / "out" / first), "" if remove else "_orig"
    kept = found[f"a.weight{end}"] != 0 if remove else found["a.weight_mask"] != 0
    assert int(kept.sum()) == 12
    assert torch.equal(found[f"a.weight{end}"][kept], values(1)[kept])
    assert index_of(tmp_path / "out")["weight_map"][f"a.weight{end}"] == first


def test_a_stale_copy_alone_leaves_its_shard_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = folder_of(tmp_path / "m", suffix, **{"a.weight": values(3)})
    pruned(path, tmp_path / "out", "a.weight", remove=False)
    before, after = files_of(path), files_of(tmp_path / "out")
    assert after[shard(2, 2, suffix)] == before[shard(2, 2, suffix)]
    assert after[shard(1, 2, suffix)] != before[shard(1, 2, suffix)]


def test_a_tensor_in_another_shard_is_read_where_it_is(tmp_path: Path, suffix: str) -> None:
    """As the libraries do, which read whole shards; with masks, the index says where it is."""
    first, second = shard(1, 2, suffix), shard(2, 2, suffix)
    path = folder_of(tmp_path / "m", suffix, {"a.weight": second, "b.weight": first})
    report, notes = pruned(path, tmp_path / "out", remove=False)
    assert report.totals.pruned_now == 24
    assert notes == [f"the index names another shard than the one that holds 2 tensors: a.weight was read from {first}"]
    assert index_of(tmp_path / "out")["weight_map"] == {
        "a.weight_orig": first,
        "a.weight_mask": first,
        "b.weight_orig": second,
        "b.weight_mask": second,
    }
    assert notes_of(tmp_path / "out") == []


def test_masks_that_are_baked_later_leave_the_surplus_alone(tmp_path: Path, suffix: str) -> None:
    path = folder_of(tmp_path / "m", suffix, {"lost": shard(1, 2, suffix)}, **{"a.weight": values(3), "c": values(4)})
    pruned(path, tmp_path / "masked", remove=False)
    with open_any(tmp_path / "masked") as opened:
        rewrite(opened, plan_bake(opened, None), Destination(tmp_path / "baked"))
    pruned(path, tmp_path / "direct")
    assert files_of(tmp_path / "baked") == files_of(tmp_path / "direct")


def test_a_new_name_that_a_surplus_tensor_has_is_refused(tmp_path: Path, suffix: str) -> None:
    path = folder_of(tmp_path / "m", suffix, **{"b.weight_mask": values(3)})
    with pytest.raises(UnsupportedError, match=r"already holds a tensor b.weight_mask, which the index does not put"):
        pruned(path, tmp_path / "out", remove=False)
    pruned(path, tmp_path / "out")
    assert torch.equal(load_shard(tmp_path / "out" / shard(2, 2, suffix))["b.weight_mask"], values(3))


def test_a_new_name_takes_the_place_of_a_surplus_name(tmp_path: Path, suffix: str) -> None:
    path = folder_of(tmp_path / "m", suffix, {"b.weight_mask": shard(1, 2, suffix)})
    pruned(path, tmp_path / "out", remove=False)
    assert index_of(tmp_path / "out")["weight_map"]["b.weight_mask"] == shard(2, 2, suffix)
    assert notes_of(tmp_path / "out") == []


@pytest.mark.parametrize(("there", "lost"), [("c_orig", "c_mask"), ("c_mask", "c_orig")])
def test_half_of_a_pruned_parameter_is_damage(tmp_path: Path, suffix: str, there: str, lost: str) -> None:
    second = shard(2, 2, suffix)
    path = folder_of(tmp_path / "m", suffix, {"c_orig": second, "c_mask": second}, **{there: values(3)})
    with pytest.raises(DamagedError, match=f"lacks {lost}, which the index puts there, and {there} is nothing without"):
        notes_of(path)


def test_a_missing_shard_is_refused(tmp_path: Path, suffix: str) -> None:
    path = folder_of(tmp_path / "m", suffix, {"lost.weight": f"none{suffix}"})
    with pytest.raises(PrunecliError, match=f"none{suffix} is missing, though the index names it"):
        notes_of(path)


def test_an_index_of_another_model_is_refused(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", [{"a": values(1)}], weight_map={"x": shard(1, 1), "y": shard(1, 1)})
    with pytest.raises(DamagedError, match="no tensor that the index names is in its shards"):
        notes_of(path)


@pytest.mark.parametrize("size", ['"16 MB"', "1.5", "-3", "0", "1e999", "null", "[]", "true", None])
def test_an_odd_total_size_is_read(tmp_path: Path, suffix: str, size: str | None) -> None:
    """Libraries do not look at it."""
    path = folder_of(tmp_path / "m", suffix)
    text = json.dumps({"metadata": {"total_size": "SIZE"} if size else {}, "weight_map": index_of(path)["weight_map"]})
    (path / INDEX[suffix]).write_text(text.replace('"SIZE"', size or ""))
    pruned(path, tmp_path / "out")
    assert (tmp_path / "out" / INDEX[suffix]).read_bytes() == (path / INDEX[suffix]).read_bytes()
    pruned(path, tmp_path / "masked", remove=False)
    assert index_of(tmp_path / "masked")["metadata"] == {"total_size": 2 * 24 * 4 + 2 * 24}


def test_a_surplus_tensor_that_shares_memory_is_not_pruned_along(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "m", ".bin")
    tied = values(2)
    save_shard({"b.weight": tied, "again": tied}, path / shard(2, 2, ".bin"))
    with pytest.raises(PrunecliError, match=r"b.weight is tied to .*again \(one storage\), which is not selected"):
        pruned(path, tmp_path / "out")
