"""`python tests/trust/faults/run.py`: faults at every file-changing call, small disks, and power cuts, counted."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "support")]

from faults.campaign import Findings, Stage, strike_all  # noqa: E402
from faults.disks import fill_disks, loop_device, may_mount, power_cuts, size_limits  # noqa: E402
from faults.injection import Runner, strace  # noqa: E402
from faults.scenarios import SCENARIOS, Scenario  # noqa: E402

__all__ = ["Figures", "figures"]


@dataclass
class Figures:
    """What was done, and what was not as it must be; `skipped` says what could not be done here, and why."""

    findings: Findings = field(default_factory=Findings)
    calls: int = 0
    disks: int = 0
    limits: int = 0
    cuts: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def joined(self, other: "Figures") -> "Figures":
        """Return what this and another part of the scenarios come to."""
        skipped = sorted({*self.skipped, *other.skipped})
        findings = self.findings.joined(other.findings)
        counts = (
            self.calls + other.calls,
            self.disks + other.disks,
            self.limits + other.limits,
            self.cuts + other.cuts,
        )
        return Figures(findings, *counts, self.problems + other.problems, skipped)


def figures(scenarios: Sequence[Scenario] = SCENARIOS, *, every: int = 1, disks: int = 40) -> Figures:
    """Strike at every n-th pair of call and fault, and try so many sizes of disks, for each scenario."""
    found = Figures()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        reasons = {
            "faults": strace(),
            "disks": may_mount(place / "probe"),
            "power cuts": loop_device(place / "power"),
        }
        found.skipped = [f"{what}: {reason}" for what, reason in reasons.items() if reason is not None]
        for number, scenario in enumerate(scenarios):
            _try(scenario, Runner(place), place / str(number), found, (every, disks), reasons)
    found.problems += found.findings.problems
    return found


def _try(
    scenario: Scenario,
    runs: Runner,
    place: Path,
    found: Figures,
    extent: tuple[int, int],
    reasons: dict[str, str | None],
) -> None:
    every, disks = extent
    if reasons["faults"] is None:
        stage = Stage(scenario, runs, place / "faults")
        found.calls += len(stage.calls)
        strike_all(stage, found.findings, every=every)
    if reasons["disks"] is None:
        codes, problems = fill_disks(scenario, runs, place / "disks", disks)
        found.disks += len(codes)
        found.problems += problems
    if reasons["power cuts"] is None:
        found.problems += power_cuts(scenario, runs, place / "power")
        found.cuts += 1
    limits = [1000, 1 << 16, 1 << 20]
    found.problems += size_limits(scenario, runs, place / "limits", limits)
    found.limits += len(limits)


def main() -> int:
    """Run it; the exit code says whether anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="of all pairs of call and fault, strike every n-th")
    parser.add_argument("--disks", type=int, default=40, help="sizes of disks to try")
    parser.add_argument("--only", default="", help="scenarios whose name has this in it")
    asked = parser.parse_args()
    found = figures([each for each in SCENARIOS if asked.only in each.name], every=asked.every, disks=asked.disks)
    faults = ", ".join(f"{count} {what}" for what, count in sorted(found.findings.faults.items()))
    print(f"faults at {found.calls} calls: {sum(found.findings.faults.values())} ({faults})")
    for name in ("damaged", "inputs_changed", "leftovers", "untidy"):
        print(f"  {name.replace('_', ' ')}: {len(getattr(found.findings, name))}")
    print(f"small disks: {found.disks}; limits on files: {found.limits}; power cuts: {found.cuts}")
    for line in (*found.skipped, *found.problems):
        print(line)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
