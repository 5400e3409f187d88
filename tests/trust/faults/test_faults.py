"""Faults in the middle of runs: the old outputs, the inputs, and what is left behind.

A part of what `python tests/trust/faults/run.py` does.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.campaign import Findings, Stage, strike_all
from faults.disks import fill_disks, loop_device, may_mount, power_cuts, size_limits
from faults.injection import Runner, runner, strace
from faults.scenarios import SCENARIOS, Scenario, warm_up

each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=[each.name for each in SCENARIOS])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    place = tmp_path_factory.mktemp("runs").resolve()
    with runner(place, warm_up(place)) as started:
        yield started


@each_scenario
def test_a_fault_at_a_call_damages_nothing_and_leaves_nothing(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = strace()
    if reason is not None:
        pytest.skip(reason)
    findings = Findings()
    strike_all(Stage(scenario, runs, tmp_path.resolve()), findings, every=12)
    assert sum(findings.faults.values()) >= 5
    assert findings.problems == []


@each_scenario
def test_a_disk_is_too_small_until_it_is_not(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = may_mount(tmp_path / "probe")
    if reason is not None:
        pytest.skip(reason)
    codes, problems = fill_disks(scenario, runs, tmp_path / "disks", 4)
    assert problems == []
    assert set(codes) == {0, 6}


@each_scenario
def test_files_that_may_not_grow_are_an_error_as_a_full_disk_is(
    scenario: Scenario, runs: Runner, tmp_path: Path
) -> None:
    assert size_limits(scenario, runs, tmp_path / "limited", [1000, 1 << 20]) == []


@each_scenario
def test_what_is_called_done_outlives_a_power_cut(scenario: Scenario, runs: Runner, tmp_path: Path) -> None:
    reason = loop_device(tmp_path / "probe")
    if reason is not None:
        pytest.skip(reason)
    assert power_cuts(scenario, runs, tmp_path / "power") == []
