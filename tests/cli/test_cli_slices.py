"""The commands on folders of slices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from slices_by_hand import save_slices
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

Cli = Callable[..., Any]
Refusal = Callable[..., str]
pytestmark = pytest.mark.usefixtures("folder")

STATE = {"fc.weight": torch.arange(1.0, 31).reshape(5, 6), "fc.bias": torch.ones(5)}
ASKED = ("-p", "*", "-a", "0.5", "--seed", "3", "--remove")


@pytest.fixture
def slices(folder: Path) -> Path:
    """A model as two ranks hold it, and the same in one file."""
    safetensors.torch.save_file(STATE, folder / "whole.safetensors")
    return save_slices(STATE, folder / "slices", {"fc.weight": ((3,), ())})


def test_apply_gives_what_it_gives_of_the_file(cli: Cli, slices: Path) -> None:
    assert cli("apply", "slices", *ASKED).out == "slices.pruned\n"
    assert cli("apply", "whole.safetensors", *ASKED).code == 0
    reports = [cli("report", path, "--format", "json").json for path in ("slices.pruned", "whole.pruned.safetensors")]
    by_name = [{each["name"]: each for each in report["parameters"]} for report in reports]
    assert by_name[0] == by_name[1]
    assert reports[0]["source"]["format"] == "folder of safetensors slices"
    assert cli("report", "slices.pruned", "--baseline", "slices").code == 0


def test_params_verify_and_resume(cli: Cli, slices: Path) -> None:
    assert cli("params", "slices").out == "fc.bias\tfloat32\t5\tdense\nfc.weight\tfloat32\t5x6\tdense\n"
    assert cli("apply", "slices", *ASKED, "--resume").code == 0
    assert cli("verify", "slices.pruned", "slices.pruned.report.json").code == 0
    assert cli("apply", "slices", *ASKED, "-o", "again").code == 0
    again, resumed = (
        [(each.name, each.read_bytes()) for each in sorted(Path(name).iterdir())] for name in ("again", "slices.pruned")
    )
    assert again == resumed


def test_masks_are_refused_with_the_way_out(refused: Refusal, slices: Path) -> None:
    assert "use --bake" in refused(4, "apply", "slices", "-p", "*", "-a", "0.5")


def test_the_file_of_one_rank_gets_a_note(cli: Cli, folder: Path) -> None:
    for rank in range(2):
        torch.save(STATE, folder / f"consolidated.0{rank}.pth")
    outcome = cli("apply", "consolidated.00.pth", *ASKED)
    assert outcome.code == 0
    assert (
        "prunecli: note: consolidated.00.pth holds slices of tensors: it is one of 2 ranks, and one seed gives each "
        "slice the same mask; merge or convert them into one checkpoint first, or give each file a --seed of its own\n"
    ) in outcome.err
    assert "slices" not in cli("apply", "consolidated.01.pth", *ASKED, "-q").err


def save_with_dtensor(path: Path, meeting: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=0, world_size=1)
    spread = distribute_tensor(torch.ones(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
    torch.save({"w": spread, "b": torch.ones(4)}, path)
    dist.destroy_process_group()


def test_a_rank_file_of_dtensors_is_refused_with_its_meaning(refused: Refusal, folder: Path) -> None:
    save_with_dtensor(folder / "model_world_size_1_rank_0.pt", folder / "meeting")
    line = refused(5, "apply", "model_world_size_1_rank_0.pt", *ASKED)
    assert line.endswith(
        "leaves them as they are, unread; DTensors are slices of one rank, so merge the files of all ranks first"
    )


def test_dtensors_that_are_admitted_get_a_note(cli: Cli, folder: Path) -> None:
    save_with_dtensor(folder / "rank.pt", folder / "meeting")
    outcome = cli("apply", "rank.pt", *ASKED, "--allow-foreign-objects", "-o", "out.pt")
    assert outcome.code == 0
    assert (
        "prunecli: note: there are DTensors in it, each a slice that one rank held, and those are not pruned"
        in outcome.err
    )
