"""The table of trust: hostile files, mutated inputs, faults while writing, and what came of them.

    python tests/trust            # the short form: what CI prints with every change
    python tests/trust --night    # 128,000 mutated inputs, a quarter of all faults, 40 disks a run: .ci/nightly
    python tests/trust --long     # 2,000,000 mutated inputs, every fault at every call: a day

The exit code is 1 if a figure was missed.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE / name) for name in ("hostile", "fuzz", "../support"))]

import fuzz_campaign  # noqa: E402
import hostile_forms  # noqa: E402
import hostile_heaps  # noqa: E402
import hostile_table  # noqa: E402
from faults.run import Figures, figures  # noqa: E402
from faults.scenarios import SCENARIOS, Scenario  # noqa: E402
from hostile_table import HEAD, Row  # noqa: E402

__all__ = ["table"]


@dataclass(frozen=True)
class Extent:
    """How much is tried: mutated inputs, one of how many pairs of call and fault, sizes of disks; and faults to reach.

    The corpus is always tried as a whole, but for what SHORT leaves out: the files of a million objects.
    """

    inputs: int
    every: int
    disks: int
    faults: int


SHORT = Extent(9_000, 24, 4, 100)
NIGHT = Extent(128_000, 4, 40, 500)
LONG = Extent(2_000_000, 1, 40, 500)


def table(extent: Extent, jobs: int) -> Iterator[Row]:
    """Do all of it, and yield the rows."""
    yield from hostile_table.rows(jobs=jobs, heavy=extent is not SHORT)
    with tempfile.TemporaryDirectory() as folder:
        totals = fuzz_campaign.campaign(1, extent.inputs, None, Path(folder), jobs)
        for row in fuzz_campaign.figures(totals, extent.inputs):
            yield Row(*row)
    yield from _writing(_faults(extent, jobs), extent)
    yield hostile_heaps.row()
    yield hostile_forms.row()


def _faults(extent: Extent, jobs: int) -> Figures:
    def one(scenario: Scenario) -> Figures:
        return figures([scenario], every=extent.every, disks=extent.disks)

    with ThreadPoolExecutor(jobs) as pool:
        return reduce(Figures.joined, pool.map(one, SCENARIOS))


def _writing(found: Figures, extent: Extent) -> Iterator[Row]:
    for line in found.problems:
        print(line, file=sys.stderr)
    findings, struck = found.findings, found.findings.faults
    bad = Counter(
        {
            "damaged or missing old outputs": len(findings.damaged),
            "input changes": len(findings.inputs_changed),
            "leftovers": len(findings.leftovers),
            "untidy ends": len(findings.untidy),
        }
    )
    skipped = f" ({'; '.join(found.skipped)})" if found.skipped else ""
    kinds = ", ".join(sorted(struck))
    yield Row(
        f"write faults ({kinds} at {found.calls} calls of {len(SCENARIOS)} runs)",
        f"at least {extent.faults}; {', '.join(f'0 {what}' for what in bad)}",
        f"{struck.total()}; {', '.join(f'{count} {what}' for what, count in bad.items())}{skipped}",
        bool(found.skipped) or (struck.total() >= extent.faults and not bad.total()),
    )
    others = len(found.problems) - len(findings.problems)
    yield Row(
        f"small disks, {extent.disks} sizes a run; files that may not grow; power cuts after the end",
        "exit 6 in one line until it fits, and nothing lost; 0 otherwise",
        f"{found.disks} disks, {found.limits} limits, {found.cuts} cuts; {others} otherwise{skipped}",
        not others,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    extents = parser.add_mutually_exclusive_group()
    extents.add_argument("--night", dest="extent", action="store_const", const=NIGHT)
    extents.add_argument("--long", dest="extent", action="store_const", const=LONG)
    parser.set_defaults(extent=SHORT)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args(arguments)
    print(HEAD, flush=True)
    missed = 0
    for row in table(asked.extent, asked.jobs):
        print(row.line, flush=True)
        missed += not row.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
