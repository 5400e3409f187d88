"""Measure folders of shards of three sizes, by one process and by ranks: `python benchmarks/spread.py --size 1024`.

The folders have the requested size, 4 times and 16 times that. The goals: time grows in proportion to the size, the
memory of a rank does not grow, and two ranks take as long as two threads of one process. Results are checked first. See
README.md beside this file.
"""

import filecmp
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench_files import check_bake, write_folder
from bench_measure import Command, Goal, Row, clear, interleave, peak_memory, run_command
from bench_run import Bench, apply_folder, copy_folder, run_benchmark

SHARDS = 8
TIMES = (1, 4, 16)
RANKS = 2


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    folders = [write_folder(bench.folder / f"m{bench.size * times}", SHARDS, bench.size * times) for times in TIMES]
    _check(bench, folders[0])
    jobs: list[tuple[str, Callable[[str], list[Row]]]] = [
        *(
            (f"folder of {bench.size * times} MiB", partial(_copy_row, bench, folders[TIMES.index(times)]))
            for times in TIMES
        ),
        *(
            (f"time a GiB, folder of {bench.size * times} MiB", partial(_growth_row, bench, folders, times))
            for times in TIMES[1:]
        ),
        (f"{RANKS} ranks, {bench.size * TIMES[1]} MiB", partial(_ranks_row, bench, folders[1])),
        *(
            (f"memory of a rank, {bench.size * times} MiB", partial(_memory_row, bench, folders, times))
            for times in TIMES[1:]
        ),
    ]
    for name, job in jobs:
        if bench.only in name:
            yield from job(name)


def _spread(bench: Bench, folder: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS)]
    return [*torchrun, "-m", "prunecli", *apply_folder(bench, folder, "-j", "1")[1:]]


def _check(bench: Bench, folder: Path) -> None:
    """Raise unless every shard is baked correctly, and ranks write the same bytes as one process."""
    ours, kept = bench.out / "ours", bench.out / "kept"
    subprocess.run(apply_folder(bench, folder), check=True, stdout=subprocess.DEVNULL)
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        if name.endswith(".safetensors"):
            check_bake(folder / name, ours / name)
    ours.rename(kept)
    subprocess.run(_spread(bench, folder), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    same, different, missing = filecmp.cmpfiles(ours, kept, names, shallow=False)
    assert (sorted(same), different, missing) == (names, [], [])
    clear(bench.out)


def _copy_row(bench: Bench, folder: Path, name: str) -> list[Row]:
    ours = Command(apply_folder(bench, folder), bench.out, folder)
    sides = (partial(run_command, command) for command in (ours, copy_folder(bench, folder)))
    return [Row(name, "cp -r + sync", "s", *interleave(bench.rounds, *sides), Goal(1.3))]


def _growth_row(bench: Bench, folders: Sequence[Path], times: int, name: str) -> list[Row]:
    """Measure the time per GiB of a larger folder against that of the smallest one."""

    def time_a_gibibyte(factor: int) -> float:
        folder = folders[TIMES.index(factor)]
        return run_command(Command(apply_folder(bench, folder), bench.out, folder)) / (bench.size * factor / 1024)

    sides = partial(time_a_gibibyte, times), partial(time_a_gibibyte, TIMES[0])
    return [Row(name, f"{bench.size} MiB", "s/GiB", *interleave(bench.rounds, *sides), Goal(1.15))]


def _ranks_row(bench: Bench, folder: Path, name: str) -> list[Row]:
    commands = _spread(bench, folder), apply_folder(bench, folder, "-j", str(RANKS))
    sides = (partial(run_command, Command(argv, bench.out, folder)) for argv in commands)
    return [Row(name, f"one process, -j {RANKS}", "s", *interleave(bench.rounds, *sides), Goal())]


def _memory_row(bench: Bench, folders: Sequence[Path], times: int, name: str) -> list[Row]:
    sides = (
        partial(peak_memory, Command(_spread(bench, folders[TIMES.index(factor)]), bench.out), ranks=True)
        for factor in (times, TIMES[0])
    )
    return [Row(name, f"{bench.size} MiB", "MB", *interleave(bench.rounds, *sides), Goal(spread=0.1))]


if __name__ == "__main__":
    main()
