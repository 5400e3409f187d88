"""Measure prunecli's main job against `cp`, torch and a script: `python benchmarks/main_job.py --json results.json`.

Results are checked first; then both sides run in turns. How to read the table: README.md beside this file.
"""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_files import (
    DTYPES,
    FORMATS,
    Source,
    check_bake,
    check_masks,
    check_report,
    check_zip,
    write_folder,
    write_source,
)
from bench_measure import (
    Command,
    Goal,
    Row,
    busy_core,
    clear,
    extra_memory,
    interleave,
    peak_memory,
    run_command,
    run_cost,
    stopwatch,
)
from bench_run import (
    BAKE,
    MASKS,
    PRUNECLI,
    Bench,
    apply,
    apply_folder,
    copy_file,
    copy_folder,
    cost_row,
    make,
    run_benchmark,
)

from prunecli.core.random_stream import Subset, stream_key
from prunecli.modules.masks import write_mask
from prunecli.modules.random_unstructured import RandomUnstructured

HERE = Path(__file__).parent
ELEMENTS = 2**24

torch_prune: Any = importlib.import_module("torch.nn.utils.prune")  # its functions are untyped


@dataclass(frozen=True)
class Job:
    """A job: its name for `--only`, and the function that measures it."""

    name: str
    run: Callable[[], list[Row]]


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    yield from _run(bench, [Job("mask of 16 M fp32", partial(_mask_rows, bench))])
    for dtype in DTYPES:
        for kind in FORMATS:
            yield from _file_rows(bench, kind, dtype)
    yield from _run(bench, [Job("folder of 8 shards", partial(_folder_rows, bench))])
    for kind in FORMATS:
        name = f"peak memory, {kind}"
        yield from _run(bench, [Job(name, partial(_memory_rows, bench, name, kind))])
    yield from _run(bench, [Job("start: --help", partial(_help_row, bench))])
    yield from _run(bench, [Job("start: params", partial(_params_row, bench))])


def _run(bench: Bench, jobs: Sequence[Job]) -> Iterator[Row]:
    for job in jobs:
        if bench.only in job.name:
            yield from job.run()


def _mask_rows(bench: Bench) -> list[Row]:
    tensor = torch.rand(ELEMENTS)
    before = torch.ones_like(tensor)
    method = RandomUnstructured(0.5, seed=7)
    ours = partial(method.compute_mask, tensor, default_mask=before)
    theirs = partial(torch_prune.RandomUnstructured(0.5).compute_mask, tensor, default_mask=before)
    subset, reused = Subset(stream_key(7, "", ELEMENTS), ELEMENTS, ELEMENTS // 2), torch.empty_like(tensor)
    rewrite = partial(write_mask, subset.draw, reused)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rewrite()
        for mask in (ours(), theirs(), reused):
            assert (mask.dtype, mask.shape) == (tensor.dtype, tensor.shape)
            assert [int((mask == value).sum()) for value in (0, 1)] == [ELEMENTS // 2, ELEMENTS // 2]
        assert torch.equal(ours(), ours())
        fresh = interleave(bench.rounds, partial(stopwatch, ours), partial(stopwatch, theirs))
        again = interleave(bench.rounds, partial(stopwatch, rewrite), partial(stopwatch, theirs))
    finally:
        torch.set_num_threads(threads)
    taken = partial(extra_memory, HERE / "mask_once.py", elements=ELEMENTS)
    memory = interleave(bench.rounds, partial(taken, "prunecli"), partial(taken, "torch"))
    return [
        Row("mask of 16 M fp32, one thread", "torch", "s", *fresh, Goal(55, faster=True)),
        Row("the same into a mask that is there already", "torch", "s", *again, Goal(100, faster=True)),
        Row("mask of 16 M fp32, extra memory", "torch", "B/element", *memory, Goal(highest=3)),
    ]


@dataclass(frozen=True)
class Goals:
    """The highest costs of a job on a file, as multiples of a copy; `busy` is the wall time with one core taken."""

    processor: float
    wall: float
    busy: float


_GOALS = {
    ("bake", "safetensors"): Goals(2.7, 1.2, 1.8),
    ("bake", "torch zip"): Goals(2.9, 1.3, 1.9),
    ("masks", "safetensors"): Goals(3.6, 1.6, 2.4),
    ("masks", "torch zip"): Goals(3.6, 1.6, 2.4),
    ("report", "safetensors"): Goals(1.1, 0.5, 0.6),
    ("report", "torch zip"): Goals(1.1, 0.5, 0.6),
}


def _file_rows(bench: Bench, kind: str, dtype: str) -> Iterator[Row]:
    """Measure all jobs on one file, which is written only if one of these jobs is requested."""
    where = f"{kind}, {dtype}"
    works: list[tuple[str, Callable[[Bench, Source, str], list[Row]]]] = [
        (f"cp + sync, {where}", _copy_row),
        (f"apply --bake, {where}", _bake_rows),
        (f"apply with masks, {where}", _masks_rows),
        (f"report, {where}", _report_rows),
    ]
    if kind == "torch zip" and dtype == "fp32":
        works.append((f"script, {where}", _script_row))
    wanted = [(name, work) for name, work in works if bench.only in name]
    if wanted:
        source = write_source(bench.folder, kind, dtype, bench.size)
        try:
            yield from _run(bench, [Job(name, partial(work, bench, source, name)) for name, work in wanted])
        finally:
            source.path.unlink()


def _copy_row(bench: Bench, source: Source, name: str) -> list[Row]:
    """Measure the noise: both sides make the same copy."""
    copy = partial(run_command, copy_file(bench, source.path))
    return [Row(name, "itself", "s", *interleave(bench.rounds, copy, copy), Goal())]


def _bake_rows(bench: Bench, source: Source, name: str) -> list[Row]:
    output = make(bench, source, "bake", BAKE)
    check_bake(source.path, output)
    check_zip(output)
    return _against_copy(bench, source, name, apply(bench, source, BAKE), _GOALS["bake", source.format])


def _masks_rows(bench: Bench, source: Source, name: str) -> list[Row]:
    masks = make(bench, source, "masks", MASKS)
    check_masks(source.path, masks, make(bench, source, "bake", BAKE))
    check_zip(masks)
    return _against_copy(bench, source, name, apply(bench, source, MASKS), _GOALS["masks", source.format])


def _report_rows(bench: Bench, source: Source, name: str) -> list[Row]:
    bake = make(bench, source, "bake", BAKE)
    text = subprocess.run([PRUNECLI, "report", str(bake), "--format", "json"], check=True, capture_output=True)
    check_report(text.stdout, bake)
    command = [PRUNECLI, "report", str(source.path)]
    return _against_copy(bench, source, name, command, _GOALS["report", source.format])


def _script_row(bench: Bench, source: Source, name: str) -> list[Row]:
    output = bench.out / "script.pt"
    argv = [sys.executable, str(HERE / "prune_by_script.py"), str(source.path), str(output), "0.5"]
    subprocess.run(argv, check=True)
    check_bake(source.path, output, negative_zeros=True)
    check_bake(source.path, make(bench, source, "bake", BAKE))
    clear(bench.out)
    script = partial(run_command, Command(argv, bench.out, source.path))
    ours = partial(run_command, Command(apply(bench, source, BAKE), bench.out, source.path))
    return [Row(name, "torch script", "s", *interleave(min(bench.rounds, 2), ours, script), Goal(20, faster=True))]


def _against_copy(bench: Bench, source: Source, name: str, argv: Sequence[str], goals: Goals) -> list[Row]:
    """Measure a command against `cp` and `sync`: on a quiet machine, then with one core taken."""
    clear(bench.out)
    ours = partial(run_cost, Command(argv, bench.out, source.path))
    theirs = partial(run_cost, copy_file(bench, source.path))
    quiet = interleave(bench.rounds, ours, theirs)
    with busy_core():
        busy = interleave(bench.rounds, ours, theirs)
    return [
        cost_row(name, "cp + sync", quiet, "processor", Goal(goals.processor)),
        cost_row(name, "cp + sync", quiet, "wall", Goal(goals.wall)),
        cost_row(f"{name}, one core taken", "cp + sync", busy, "wall", Goal(goals.busy)),
    ]


def _folder_rows(bench: Bench) -> list[Row]:
    folder = write_folder(bench.folder / "shards", 8, bench.size)
    try:
        subprocess.run(apply_folder(bench, folder), check=True, stdout=subprocess.DEVNULL)
        for shard in folder.glob("*.safetensors"):
            check_bake(shard, bench.out / "ours" / shard.name)
        clear(bench.out)
        sides = (partial(run_command, each(bench, folder)) for each in (_bake_folder, copy_folder))
        return [Row("folder of 8 shards", "cp -r + sync", "s", *interleave(bench.rounds, *sides), Goal(1.3))]
    finally:
        shutil.rmtree(folder)


def _bake_folder(bench: Bench, folder: Path) -> Command:
    return Command(apply_folder(bench, folder), bench.out, folder)


def _memory_rows(bench: Bench, name: str, kind: str) -> list[Row]:
    """Measure a file of the requested size and one four times as large: memory must be low and about equal."""
    small = write_source(bench.folder, kind, "bf16", bench.size)
    large = write_source(bench.folder, kind, "bf16", 4 * bench.size)
    try:
        high, low = interleave(
            min(bench.rounds, 2),
            partial(peak_memory, Command(apply(bench, large, BAKE), bench.out)),
            partial(peak_memory, Command(apply(bench, small, BAKE), bench.out)),
        )
    finally:
        small.path.unlink()
        large.path.unlink()
    sizes = f"{bench.size} MiB", f"{4 * bench.size} MiB"
    return [
        Row(f"{name}, {sizes[0]}", sizes[1], "MB", low, high, Goal(highest=60)),
        Row(f"{name}, {sizes[1]}", sizes[0], "MB", high, low, Goal(highest=60, spread=0.1)),
    ]


def _help_row(bench: Bench) -> list[Row]:
    return _start_row(bench, "start: --help", [PRUNECLI, "--help"], "apply", Goal(0.12))


def _params_row(bench: Bench) -> list[Row]:
    source = write_source(bench.folder, "torch zip", "fp32", 1)
    argv = [PRUNECLI, "params", str(source.path)]
    return _start_row(bench, "start: params", argv, "layers.63.weight", Goal(0.18))


def _start_row(bench: Bench, name: str, argv: Sequence[str], expected: str, goal: Goal) -> list[Row]:
    importing = [sys.executable, "-c", "import torch"]
    assert expected in subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    subprocess.run(importing, check=True)
    ours = partial(run_command, Command(argv, bench.out))
    theirs = partial(run_command, Command(importing, bench.out))
    return [Row(name, "import torch", "s", *interleave(bench.rounds, ours, theirs), goal)]


if __name__ == "__main__":
    main()
