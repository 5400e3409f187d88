"""The commands on folders of slices."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from slices_by_hand import save_slices

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
    assert "bake with --remove" in refused(4, "apply", "slices", "-p", "*", "-a", "0.5")
