"""The commands on folders of torch.distributed.checkpoint."""

import datetime
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def dcp(folder: Path) -> Path:
    """The example, as model.pt has it, in a folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(torch.load("model.pt", weights_only=True), checkpoint_id="dcp", no_dist=True)
    return folder / "dcp"


def test_apply_gives_what_it_gives_of_the_file(cli: Cli, dcp: Path) -> None:
    asked = ("-p", "*", "-a", "0.5", "--seed", "3", "--remove")
    assert cli("apply", "dcp", *asked).out == "dcp.pruned\n"
    assert cli("apply", "model.pt", *asked).code == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp_to_torch_save("dcp.pruned", "back.pt")
    mine, theirs = (torch.load(path, weights_only=True)["state_dict"] for path in ("back.pt", "model.pruned.pt"))
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    reports = [cli("report", path, "--format", "json").json for path in ("dcp.pruned", "model.pruned.pt")]
    assert reports[0]["parameters"] == reports[1]["parameters"]
    assert reports[0]["source"]["format"] == "folder of torch.distributed.checkpoint"


def test_params_lists_what_the_file_lists(cli: Cli, dcp: Path) -> None:
    listed, of_file = cli("params", "dcp"), cli("params", "model.pt")
    assert (listed.code, listed.out) == (0, of_file.out)


def test_a_dry_run_writes_nothing(cli: Cli, dcp: Path) -> None:
    assert cli("apply", "dcp", "-p", "*", "-a", "0.5", "--remove", "--dry-run").code == 0
    assert sorted(path.name for path in dcp.parent.iterdir()) == ["dcp", "model.pt", "model.safetensors"]


def test_a_pruned_folder_replaces_one_with_force_only(cli: Cli, dcp: Path) -> None:
    asked = ("apply", "dcp", "-p", "*", "-a", "0.5", "--remove", "--no-report", "-o", "out")
    assert cli(*asked).code == 0
    assert cli(*asked).code == 6
    assert cli(*asked, "--force").code == 0
    assert cli("report", "out").code == 0


def test_masks_are_refused_with_the_way_out(refused: Refusal, dcp: Path) -> None:
    assert "use --bake" in refused(4, "apply", "dcp", "-p", "*", "-a", "0.5")


def test_masks_that_are_there_cannot_be_taken_away(cli: Cli, refused: Refusal, folder: Path) -> None:
    state = {"w_orig": torch.ones(4, 4), "w_mask": torch.ones(4, 4), "v": torch.ones(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(state, checkpoint_id="masked", no_dist=True)
    for command in (("remove", "masked"), ("apply", "masked", "-p", "w", "-a", "0.5", "--remove")):
        line = refused(4, *command)
        assert "takes no masks and loses none" in line
        dry = cli(*command, "--dry-run")
        assert dry.code == 4
        assert line in dry.err


def test_foreign_objects_are_refused_and_carried_through_when_asked(cli: Cli, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save({"w": torch.ones(4, 4), "when": datetime.date(2024, 2, 29)}, checkpoint_id="foreign", no_dist=True)
    asked = ("apply", "foreign", "-p", "w", "-a", "0.5", "--remove")
    refusal = cli(*asked)
    assert (refusal.code, refusal.out) == (5, "")
    assert "datetime.date" in refusal.err
    assert cli(*asked, "--allow-foreign-objects").code == 0
    state: dict[str, Any] = {"w": torch.ones(4, 4), "when": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(state, checkpoint_id="foreign.pruned", no_dist=True)
    assert state["when"] == datetime.date(2024, 2, 29)
    assert state["w"].sum() == 8


def test_what_is_no_sound_folder_is_refused(refused: Refusal, dcp: Path) -> None:
    (shard,) = dcp.glob("*.distcp")
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1])
    assert "copy it again" in refused(4, "report", "dcp")
    shard.unlink()
    assert "is missing, though .metadata names it" in refused(3, "report", "dcp")
    (dcp / ".metadata").write_bytes(pickle.dumps(print))
    assert "builtins.print" in refused(5, "report", "dcp")


def test_damaged_data_are_noticed_and_nothing_is_written(refused: Refusal, dcp: Path) -> None:
    (shard,) = dcp.glob("*.distcp")
    raw = bytearray(shard.read_bytes())
    weights = torch.load("model.pt", weights_only=True)["state_dict"]["fc1.weight"]
    place = raw.index(weights.numpy().tobytes()[:64])
    raw[place] ^= 1
    shard.write_bytes(raw)
    assert "CRC-32" in refused(4, "apply", "dcp", "-p", "fc1.weight", "-a", "0.5", "--remove")
