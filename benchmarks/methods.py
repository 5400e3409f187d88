"""Measure the methods that look at values beside `cp` and torch: `python benchmarks/methods.py --size 1024 --rounds 3`.

Results are checked first; then both sides run in turns. How to read the table: README.md beside this file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from bench_files import DTYPES, LAYERS, Source, write_source
from bench_measure import Command, Goal, Row, clear, extra_memory, interleave, peak_memory, run_cost, stopwatch
from bench_run import BAKE, Bench, apply, copy_file, cost_rows, make, run_benchmark
from bench_smallest import check_groups, check_smallest, check_with_torch
from global_once import SIDES, model_of, weights

HERE = Path(__file__).parent
ELEMENTS = 2**26
PRUNE = ("-p", "*.weight", "--seed", "7", "--bake")
L1 = (*BAKE, "--method", "l1")
TOGETHER = (*L1, "--global")
TWO_OF_FOUR = (*PRUNE, "--n-of-m", "2:4", "--method", "l1")


@dataclass(frozen=True)
class Job:
    """A command on a file of a type: its options, the check of its output, and the most it may cost beside a copy."""

    name: str
    dtype: str
    how: Sequence[str]
    check: Callable[[Path, Path], None]
    limit: float


JOBS = (
    Job("l1", "bf16", L1, partial(check_smallest, together=False), 1.6),
    Job("l1 --global", "bf16", TOGETHER, partial(check_smallest, together=True), 1.6),
    Job("2:4 by l1", "bf16", TWO_OF_FOUR, check_groups, 1.5),
    Job("l1", "fp32", L1, partial(check_smallest, together=False), 2.0),
    Job("l1 --global", "fp32", TOGETHER, partial(check_smallest, together=True), 2.0),
)

LAMP = (*BAKE, "--method", "lamp")
FOR_MEMORY = (
    ("l1 --global", "bf16", TOGETHER),
    ("l1 --global", "fp32", TOGETHER),
    ("l1 --per-row", "bf16", (*L1, "--per-row")),
    ("lamp", "bf16", LAMP),
    ("lamp", "fp32", LAMP),
    ("2:4 by l1", "bf16", TWO_OF_FOUR),
    ("blocks of 16x16", "bf16", (*L1, "--block", "16x16")),
    ("random-structured", "bf16", (*BAKE, "--method", "random-structured", "--dim", "1")),
    ("ln", "bf16", (*BAKE, "--method", "ln", "--norm", "2", "--dim", "0")),
)


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    if bench.only in (name := f"l1 of {ELEMENTS >> 20} M fp32 in a module"):
        yield from _module_rows(bench, name)
    for dtype in DTYPES:
        yield from _file_rows(bench, dtype)
        yield from _memory_rows(bench, dtype)


def _module_rows(bench: Bench, name: str) -> list[Row]:
    """Measure `prune_module`, and `prunecli.global_unstructured`, which is called like torch's (drop-in)."""
    matrices = weights(ELEMENTS)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        some = matrices[: len(matrices) // 4]
        expected = _pruned("torch", some)
        for who in ("prunecli", "drop-in"):
            check_with_torch(_pruned(who, some), expected)
        del expected
        rounds = [{who: _seconds(who, matrices) for who in SIDES} for _ in range(min(bench.rounds, 2))]
    finally:
        torch.set_num_threads(threads)
    taken = {who: [extra_memory(HERE / "global_once.py", who, ELEMENTS)] for who in SIDES}
    rows = []
    for who in ("prunecli", "drop-in"):
        ours, theirs = ([each[side] for each in rounds] for side in (who, "torch"))
        what = name if who == "prunecli" else f"{name}, {who}"
        rows.append(Row(f"{what}, one thread", "torch", "s", ours, theirs, Goal(10, faster=True)))
        rows.append(Row(f"{what}, memory", "torch", "B/element", taken[who], taken["torch"], Goal(highest=3)))
    return rows


def _pruned(who: str, matrices: Sequence[torch.Tensor]) -> torch.nn.Module:
    model = model_of(matrices)
    SIDES[who](model)
    return model


def _seconds(who: str, matrices: Sequence[torch.Tensor]) -> float:
    return stopwatch(partial(SIDES[who], model_of(matrices)))


def _file_rows(bench: Bench, dtype: str) -> Iterator[Row]:
    wanted = {f"{job.name}, {dtype}": job for job in JOBS if job.dtype == dtype}
    wanted = {name: job for name, job in wanted.items() if bench.only in name}
    if not wanted:
        return
    source = write_source(bench.folder, "safetensors", dtype, bench.size)
    try:
        for name, job in wanted.items():
            job.check(source.path, make(bench, source, "check", job.how))
            clear(bench.out)
            ours = partial(run_cost, Command(apply(bench, source, job.how), bench.out, source.path))
            theirs = partial(run_cost, copy_file(bench, source.path))
            yield from cost_rows(name, "cp + sync", interleave(bench.rounds, ours, theirs), Goal(job.limit))
    finally:
        source.path.unlink()


def _memory_rows(bench: Bench, dtype: str) -> Iterator[Row]:
    """Measure each method on files of a half and of an eighth of the size: neither may take more than its goal."""
    names = {f"memory: {name}, {dtype}": how for name, of, how in FOR_MEMORY if of == dtype}
    wanted = {name: how for name, how in names.items() if bench.only in name}
    if not wanted:
        return
    small, large = (write_source(bench.folder, "safetensors", dtype, max(1, bench.size // part)) for part in (8, 2))
    try:
        for name, how in wanted.items():
            sides = (partial(_peak, bench, source, how) for source in (large, small))
            most = 100 + (LAYERS if "lamp" in name else 0)
            yield Row(name, f"{bench.size // 8} MiB", "MB", *interleave(1, *sides), Goal(highest=most))
    finally:
        small.path.unlink()
        large.path.unlink()


def _peak(bench: Bench, source: Source, how: Sequence[str]) -> float:
    return peak_memory(Command(apply(bench, source, how), bench.out, source.path))


if __name__ == "__main__":
    main()
