"""Fuzz the readers and rewriters, for as long as you like.

    python tests/trust/fuzz/fuzz_campaign.py --inputs 2000000 --seed 1      # so many, a quarter of them whole files
    python tests/trust/fuzz/fuzz_campaign.py --inputs 2000000 --jobs 8      # the same by several processes
    python tests/trust/fuzz/fuzz_campaign.py --seconds 3600 --seed 1        # or so long
    python tests/trust/fuzz/fuzz_campaign.py failures/file-1-77             # replay what a run has saved

An input depends on its kind, the seed and its number alone, and what is done to it on its bytes alone. A failing one
is saved under its name in the folder `--failures`; run under `python -X dev` or a debugger to see more of it.
"""

import argparse
import itertools
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from fuzz_folders import bent_index, bent_metadata, distributed, judge_index, judge_metadata, sharded
from fuzz_masks import bent_masks, judge_masks, mask_files
from fuzz_mutations import bent_file, bent_pickle
from fuzz_oracle import guarded, judge_file, judge_pickle
from fuzz_packed import bent_packed, judge_packed, packed_files
from fuzz_seeds import files, pickles

JUDGES: dict[str, Callable[[bytes], str]] = {
    "pickle": judge_pickle,
    "file": judge_file,
    "metadata": judge_metadata,
    "index": judge_index,
    "masks": judge_masks,
    "packed": judge_packed,
}


ENOUGH = 20_000
"""Inputs that a short run has to try."""

_ROUND = ("pickle", "pickle", "metadata", "file", "pickle", "packed", "index", "file", "masks")


def make(kind: str, seed: int, number: int) -> bytes:
    """Return one input: `kind` is "pickle" for the graph reader alone, "file" for everything that reads a file.

    "metadata" and "index" are what a folder has beside its files of tensors, "masks" are mask files.
    """
    rng = random.Random(f"{kind}/{seed}/{number}")  # noqa: S311  (chance, not a secret)
    if kind == "pickle":
        return bent_pickle(rng, rng.choice(pickles()))
    if kind == "metadata":
        return bent_metadata(rng)
    if kind == "index":
        return bent_index(rng)
    if kind == "masks":
        return bent_masks(rng)
    if kind == "packed":
        return bent_packed(rng)
    return bent_file(rng, rng.choice(list(files().values())))


def fuzz(kind: str, seed: int, numbers: Iterable[int], failures: Path) -> Counter[str]:
    """Judge inputs, count the outcomes, and save those that broke a law ("failed")."""
    outcomes: Counter[str] = Counter()
    files(), distributed(), sharded(), mask_files(), packed_files()
    with guarded():
        for number in numbers:
            data = make(kind, seed, number)
            try:
                outcomes[JUDGES[kind](data)] += 1
            except Exception:  # whatever it is, it is what we look for
                outcomes["failed"] += 1
                failures.mkdir(parents=True, exist_ok=True)
                saved = failures / f"{kind}-{seed}-{number}"
                saved.write_bytes(data)
                print(f"{saved}: {traceback.format_exc()}", file=sys.stderr)
    return outcomes


def main() -> int:
    """Run the command line; 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "replay", nargs="*", type=Path, help="inputs to judge again, by the names they were saved under"
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--failures", type=Path, default=Path("failures"))
    asked = parser.parse_args()
    if asked.replay:
        for path in asked.replay:
            print(f"{path}: {JUDGES[path.name.split('-')[0]](path.read_bytes())}")
        return 0
    started = time.monotonic()
    totals = campaign(asked.seed, asked.inputs, asked.seconds, asked.failures, asked.jobs)
    for kind, outcomes in totals.items():
        print(kind, outcomes.total(), dict(outcomes.most_common()))
    print(f"{sum(map(Counter.total, totals.values())) / (time.monotonic() - started):.0f} inputs a second")
    for what, to_reach, reached, met in figures(totals, min(asked.inputs, ENOUGH)):
        print(f"| {what} | {to_reach} | {reached}{'' if met else ' (missed)'} |")
    return 1 if any(outcomes["failed"] for outcomes in totals.values()) else 0


def figures(totals: Mapping[str, Counter[str]], enough: int = ENOUGH) -> list[tuple[str, str, str, bool]]:
    """Return the rows of the table: what was counted, what is to be reached, what was, and whether that is enough."""
    tried, counts = sum(map(Counter.total, totals.values())), sum(totals.values(), Counter[str]())
    failed, accepted = counts["failed"], counts["accepted"] + counts["equal"]
    reached = f"{tried:,}: {failed} broke a law, {accepted:,} accepted, {counts['equal']:,} of them compared and equal"
    to_reach = f"{enough:,}; only our own exceptions; accepted ones bit-equal to the library where that reads them"
    return [("mutated inputs", to_reach, reached, tried >= enough and not failed)]


def campaign(
    seed: int, inputs: int, seconds: float | None = None, failures: Path = Path("failures"), jobs: int = 1
) -> dict[str, Counter[str]]:
    """Judge so many inputs, or for so long, by several processes; return the outcomes by kind."""
    if jobs == 1:
        return _share(seed, inputs, seconds, failures)
    # Fresh processes: a forked one would have the threads of torch's, and not their work.
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        shares = [pool.submit(_share, seed, inputs, seconds, failures, each, jobs) for each in range(jobs)]
        parts = [share.result() for share in shares]
    return {kind: sum((part[kind] for part in parts), Counter[str]()) for kind in JUDGES}


def _share(
    seed: int, inputs: int, seconds: float | None, failures: Path, first: int = 0, step: int = 1
) -> dict[str, Counter[str]]:
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in JUDGES}
    started = time.monotonic()
    for batch in itertools.count(first, step):
        size = 1000 if seconds is not None else min(1000, inputs - batch * 1000)
        if size <= 0 or (seconds is not None and time.monotonic() - started > seconds):
            break
        kind = _ROUND[batch % len(_ROUND)]
        totals[kind] += fuzz(kind, seed, range(batch * 1000, batch * 1000 + size), failures)
    return totals


if __name__ == "__main__":
    sys.exit(main())
