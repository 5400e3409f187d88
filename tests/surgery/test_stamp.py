"""Stamps: one more entry of a safetensors file's metadata, and nothing else changes."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from folder_zoo import make_folder
from safetensors.torch import load_file, save_file
from surgery_zoo import ask, count, load, noise, save

from prunecli.errors import UnsupportedError
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.codec import as_dict
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.provenance import stamped
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run


def prune(source: Path, target: Path, request: PruneRequest, *, stamp: bool = True) -> Report:
    with open_any(source) as opened:
        plan = plan_prune(opened, request)
        return rewrite(opened, stamped(opened, plan) if stamp else plan, Destination(target), Run(2))


def metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def stamps(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(metadata(path)["prunecli"])
    return found


def data_of(path: Path) -> bytes:
    raw = path.read_bytes()
    return raw[8 + int.from_bytes(raw[:8], "little") :]


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("order", ["wide first", "narrow first"])
def test_a_stamp_changes_the_metadata_alone(tmp_path: Path, remove: bool, order: str) -> None:
    source = save({"w": noise((6, 4)), "h": noise((3,), torch.float16)}, tmp_path / "m.safetensors")
    if order == "narrow first":  # not as the library would write it, but valid
        header = {
            "h": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
            "w": {"dtype": "F32", "shape": [6, 4], "data_offsets": [4, 100]},
        }
        text = json.dumps(header).encode()
        source.write_bytes(len(text).to_bytes(8, "little") + text + bytes(range(100)))
    plain, other = tmp_path / "plain.safetensors", tmp_path / "other.safetensors"
    prune(source, plain, ask(0.5, "w", remove=remove), stamp=False)
    prune(source, other, ask(0.5, "w", remove=remove))
    assert data_of(other) == data_of(plain)
    assert load(other).keys() == load(plain).keys()
    reported = metadata(other)
    [stamp] = json.loads(reported.pop("prunecli"))
    assert reported == metadata(plain)
    assert (stamp["schema"], stamp["seed"], stamp["remove"], stamp["pruned_now"]) == ("prunecli.stamp/1", 7, remove, 12)
    assert stamp["groups"] == [{"params": ["w"], "exclude": [], "min_dim": 0, "amount": 0.5, "global": False}]


def test_later_rounds_stand_behind_earlier_ones_and_reports_show_them(tmp_path: Path) -> None:
    source = save({"w": torch.ones(6, 4)}, tmp_path / "0.safetensors")
    for number in (1, 2):
        prune(source, tmp_path / f"{number}.safetensors", ask(0.5, "w", seed=number))
        source = tmp_path / f"{number}.safetensors"
    assert [(each["seed"], each["pruned_now"]) for each in stamps(source)] == [(1, 12), (2, 6)]
    assert as_dict(count(source))["stamps"] == stamps(source)


def test_only_the_shards_that_change_are_stamped(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", [{"a.weight": torch.ones(6, 4)}, {"b.weight": torch.ones(2)}])
    prune(folder, tmp_path / "out", ask(0.5, "a.weight", remove=True))
    one, other = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(stamps(one)) == 1
    assert "prunecli" not in metadata(other)
    assert load_file(one)["a.weight"].count_nonzero() == 12
    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (folder / index).read_bytes()


def test_a_file_with_no_place_for_a_stamp_is_refused(tmp_path: Path) -> None:
    source = save({"w": torch.ones(6, 4)}, tmp_path / "m.pt")
    with pytest.raises(UnsupportedError, match="cannot contain a stamp"):
        prune(source, tmp_path / "out.pt", ask(0.5, "w"))


@pytest.mark.parametrize("stamp", [True, False])
def test_metadata_that_are_null_are_none(tmp_path: Path, stamp: bool) -> None:
    """The library takes them; found by the fuzzer."""
    header = b'{"__metadata__":null,"w":{"dtype":"F32","shape":[6,4],"data_offsets":[0,96]}}'
    source, target = tmp_path / "m.safetensors", tmp_path / "out.safetensors"
    source.write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(96)))
    prune(source, target, ask(0.5, "w"), stamp=stamp)
    assert set(metadata(target)) == ({"prunecli"} if stamp else set())
    raw = target.read_bytes()
    assert stamp or json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"] is None


def test_a_field_that_looks_like_another_tensor_is_kept(tmp_path: Path) -> None:
    inner = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"w": {"dtype": "F32", "shape": [6, 4], "data_offsets": [0, 96], "more": inner}}).encode()
    source, target = tmp_path / "m.safetensors", tmp_path / "out.safetensors"
    source.write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(96)))
    prune(source, target, ask(0.5, "w"))
    raw = target.read_bytes()
    assert json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["w_orig"]["more"] == inner


FOREIGN = ["x", "{}", "[1]", "[{}", "null", '[{"a": NaN}]', "[" * 5000 + "]" * 5000, '[{"a":' * 20 + "1" + "}]" * 20]


@pytest.mark.parametrize("entry", FOREIGN, ids=[each[:12] for each in FOREIGN])
def test_an_entry_of_that_name_that_is_no_stamp_is_kept_and_not_shown(tmp_path: Path, entry: str) -> None:
    source = tmp_path / "m.safetensors"
    save_file({"w": torch.ones(6, 4)}, source, metadata={"prunecli": entry})
    assert as_dict(count(source))["stamps"] == []
    with pytest.raises(UnsupportedError, match="that is not a list of stamps"):
        prune(source, tmp_path / "out.safetensors", ask(0.5, "w"))
    prune(source, tmp_path / "out.safetensors", ask(0.5, "w"), stamp=False)
    assert metadata(tmp_path / "out.safetensors") == {"prunecli": entry}
