"""The plan of a dry run: a tree that fits a terminal, a line for each parameter in a pipe, and whole names in both."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prunecli.formats.opening import open_any
from prunecli.reporting.plan import plan_as_text
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest

NAMES = [f"encoder.layers.{at}.{name}.weight" for at in range(30) for name in ("query", "key")]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    save_file({name: torch.ones(8, 8) for name in NAMES}, tmp_path / "deep.safetensors")
    with open_any(tmp_path / "deep.safetensors") as opened:
        return plan_prune(opened, PruneRequest((PruneGroup(Selection(("*",)), 0.5),), seed=1))


def test_a_pipe_gets_a_line_for_each_parameter(plan: Plan) -> None:
    _, *lines = plan_as_text(plan, PAGE).splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(NAMES)
    assert {tuple(line.split()[1:]) for line in lines} == {("64", "64", "32")}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_gets_a_folded_tree_with_the_sums(plan: Plan, width: int) -> None:
    _, *lines, note = plan_as_text(plan, Screen(width, 24, live=True)).splitlines()
    assert [line.split() for line in lines] == [
        ["encoder.layers.{0..29}", "×30", "3,840", "3,840", "1,920"],
        ["├", "key.weight", "1,920", "1,920", "960"],
        ["└", "query.weight", "1,920", "1,920", "960"],
    ]
    assert note == "folded to fit: add `2>&1 | less` for all 60 parameters"
