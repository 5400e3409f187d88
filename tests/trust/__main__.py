"""The table of trust: hostile files, mutated inputs, faults while writing, and what came of them.

    python tests/trust            # the short form, in minutes: what CI prints
    python tests/trust --long     # 2,000,000 mutated inputs, every fault at every call: a day

The exit code is 1 if a figure was missed.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial, reduce
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), *(str(HERE / name) for name in ("hostile", "fuzz", "../support"))]

import fuzz_campaign  # noqa: E402
import hostile_forms  # noqa: E402
import hostile_heaps  # noqa: E402
import hostile_table  # noqa: E402
from faults.run import Figures, figures  # noqa: E402
from faults.scenarios import SCENARIOS  # noqa: E402
from hostile_table import HEAD, Row  # noqa: E402

__all__ = ["table"]

FAULTS, DISKS = 500, 40
"""How many faults and sizes of disks there have to be."""


def table(*, long: bool, jobs: int) -> Iterator[Row]:
    """Do all of it, and yield the rows."""
    yield from hostile_table.rows(jobs=jobs)
    with tempfile.TemporaryDirectory() as folder:
        inputs = 2_000_000 if long else fuzz_campaign.ENOUGH
        totals = fuzz_campaign.campaign(1, inputs, None, Path(folder), jobs)
        for row in fuzz_campaign.figures(totals):
            yield Row(*row)
    yield from _writing(_faults(every=1 if long else 4, jobs=jobs))
    yield hostile_heaps.row()
    yield hostile_forms.row()


def _faults(*, every: int, jobs: int) -> Figures:
    run = partial(_faults_of, every=every)
    with ProcessPoolExecutor(jobs) as pool:
        return reduce(Figures.joined, pool.map(run, range(len(SCENARIOS))))


def _faults_of(scenario: int, *, every: int) -> Figures:
    return figures([SCENARIOS[scenario]], every=every, disks=DISKS)


def _writing(found: Figures) -> Iterator[Row]:
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
        f"at least {FAULTS}; {', '.join(f'0 {what}' for what in bad)}",
        f"{struck.total()}; {', '.join(f'{count} {what}' for what, count in bad.items())}{skipped}",
        bool(found.skipped) or (struck.total() >= FAULTS and not bad.total()),
    )
    others = len(found.problems) - len(findings.problems)
    yield Row(
        f"small disks, {DISKS} sizes a run; files that may not grow; power cuts after the end",
        "exit 6 in one line until it fits, and nothing lost; 0 otherwise",
        f"{found.disks} disks, {found.limits} limits, {found.cuts} cuts; {others} otherwise{skipped}",
        not others,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args(arguments)
    print(HEAD, flush=True)
    missed = 0
    for row in table(long=asked.long, jobs=asked.jobs):
        print(row.line, flush=True)
        missed += not row.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
