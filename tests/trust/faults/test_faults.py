"""Faults in the middle of runs: the old outputs, the inputs, and what is left behind.

One case of each family; `python tests/trust` has them all.
"""

from pathlib import Path

import pytest

from faults.campaign import Findings, Stage, strike_all
from faults.disks import fill_disks, loop_device, may_mount, power_cuts, size_limits
from faults.injection import Runner, strace
from faults.scenarios import SCENARIOS, Scenario

NAMED = {each.name: each for each in SCENARIOS}
FAMILIES = (
    "mask torch zip over an older output",
    "bake a folder in place",
    "bake given masks over an older output",
    "bake in units",
)
each_family = pytest.mark.parametrize("scenario", [NAMED[name] for name in FAMILIES], ids=FAMILIES)
one_family = pytest.mark.parametrize("scenario", [NAMED[FAMILIES[0]]], ids=FAMILIES[:1])


@pytest.fixture
def runs(tmp_path: Path) -> Runner:
    place = tmp_path.resolve() / "runs"
    place.mkdir()
    return Runner(place)


@each_family
def test_a_fault_at_a_call_damages_nothing_and_leaves_nothing(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = strace()
    if reason is not None:
        pytest.skip(reason)
    findings = Findings()
    strike_all(Stage(scenario, runs, tmp_path.resolve()), findings, every=60)
    assert sum(findings.faults.values()) >= 2
    assert findings.problems == []


@one_family
def test_a_disk_is_too_small_until_it_is_not(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = may_mount(tmp_path / "probe")
    if reason is not None:
        pytest.skip(reason)
    codes, problems = fill_disks(scenario, runs, tmp_path / "disks", 4)
    assert problems == []
    assert set(codes) == {0, 6}


@one_family
def test_files_that_may_not_grow_are_an_error_as_a_full_disk_is(
    scenario: Scenario, runs: Runner, tmp_path: Path
) -> None:
    assert size_limits(scenario, runs, tmp_path / "limited", [1000, 1 << 20]) == []


@one_family
def test_what_is_called_done_outlives_a_power_cut(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = loop_device(tmp_path / "probe")
    if reason is not None:
        pytest.skip(reason)
    assert power_cuts(scenario, runs, tmp_path / "power") == []
