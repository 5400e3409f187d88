"""Measure allocation and masks as files beside `cp` and drawing: `python benchmarks/masks.py --size 2048`.

Results are checked first; then both sides run in turns. How to read the table: README.md beside this file.
"""

import json
import os
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import torch
from bench_files import Source, check_equal, check_masks, tensors, write_source
from bench_measure import Command, Goal, Row, clear, interleave, peak_memory, run_cost
from bench_run import BAKE, PRUNECLI, Bench, copy_file, cost_rows, run_benchmark
from trillion import mixture_of_experts

from prunecli.core.allocation import RULES, Layer, allocate

LAYERS_OF_EXPERTS = 60
HALF = ("-p", "*.weight", "--amount", "0.5")
OVERLAP = ("mask", "overlap", "--format", "json")


@dataclass(frozen=True)
class Files:
    """The inputs: a checkpoint, the same with masks, and of two seeds the baked checkpoint and the mask file.

    `given` contains the checkpoint and the first mask file; a folder is what is read before a command is timed.
    """

    source: Source
    masked: Path
    baked: Path
    masks: Path
    given: Path

    def pair(self, folder: Path) -> list[str]:
        """Return the two files of a folder."""
        return [str(path) for path in sorted(folder.iterdir())]


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    jobs: dict[str, Callable[[Bench, Files, str], list[Row]]] = {
        "apply --bake --allocation erk": _erk_rows,
        "mask extract": _extract_rows,
        "apply --masks --bake": _given_rows,
        "mask overlap, mask files": _overlap_rows,
        "mask overlap, zeros": _zeros_rows,
        "peak memory": _memory_rows,
    }
    wanted = {name: job for name, job in jobs.items() if bench.only in name}
    if wanted:
        files = _write_files(bench, bench.size)
        for name, job in wanted.items():
            yield from job(bench, files, name)
    if bench.only in (name := "allocation over 90,000 layers"):
        yield from _allocation_rows(bench, name)


def _write_files(bench: Bench, megabytes: int) -> Files:
    root = bench.folder / f"{megabytes}"
    folders = [root / name for name in ("masked", "baked", "masks", "given")]
    for folder in folders:
        folder.mkdir(parents=True)
    masked, baked, masks, given = folders
    source = write_source(root, "safetensors", "bf16", megabytes)
    for name, seed in (("a", "7"), ("b", "8")):
        file, bake = masked / f"{name}.safetensors", baked / f"{name}.safetensors"
        _prunecli("apply", source.path, *HALF, "--seed", seed, "--no-report", "-o", file)
        _prunecli("remove", file, "--no-report", "-o", bake)
        check_masks(source.path, file, bake)
        _prunecli("mask", "extract", file, "-o", masks / file.name)
        _check_extracted(file, masks / file.name)
    (masked / "b.safetensors").unlink()
    for path in (source.path, masks / "a.safetensors"):
        os.link(path, given / path.name)
    return Files(source, masked / "a.safetensors", baked, masks, given)


def _commands(bench: Bench, files: Files) -> dict[str, list[str]]:
    """Return the commands to measure; their outputs are in `bench.out`."""
    checkpoint, source = str(bench.out / "ours.safetensors"), str(files.source.path)
    prune = [PRUNECLI, "apply", source, "-o", checkpoint]
    every = ("-p", "*", "--amount", "0.5", "--seed", "7", "--bake")  # biases, too: layers of two kinds
    return {
        "erk": [*prune, *every, "--allocation", "erk"],
        "uniform": [*prune, *every, "--allocation", "uniform"],
        "drawing": [*prune, *BAKE],
        "masks": [*prune, "--bake", "--masks", str(files.masks / "a.safetensors")],
        "extract": [PRUNECLI, "mask", "extract", str(files.masked), "-o", checkpoint],
        "overlap": [PRUNECLI, *OVERLAP, *files.pair(files.masks)],
        "zeros": [PRUNECLI, *OVERLAP, "--from-zeros", "-p", "*.weight", *files.pair(files.baked)],
        "combine": [PRUNECLI, "mask", "combine", "--and", *files.pair(files.masks), "-o", checkpoint],
        "restore": [PRUNECLI, "restore", str(files.masked), "--no-report", "-o", checkpoint],
    }


def _erk_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    argv = _commands(bench, files)
    for side in ("erk", "uniform"):
        _check_total(files.source.path, _output(bench, argv[side]))
        clear(bench.out)
    warm = files.source.path
    return _in_turns(bench, name, "uniform", (argv["erk"], argv["uniform"]), warm, Goal(1.02))


def _extract_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    argv = _commands(bench, files)["extract"]  # `_write_files` checked the mask files that it made
    return _against_copy(bench, name, argv, files.masked, files.masked, Goal(0.5))


def _given_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    argv = _commands(bench, files)
    check_equal(_output(bench, argv["masks"]), files.baked / "a.safetensors")
    clear(bench.out)
    check_equal(_output(bench, argv["drawing"]), files.baked / "a.safetensors")
    clear(bench.out)
    return _in_turns(bench, name, "apply --bake", (argv["masks"], argv["drawing"]), files.given, Goal(1.0))


def _overlap_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    argv = _commands(bench, files)["overlap"]
    _check_overlap(argv, files)
    return _against_copy(bench, name, argv, files.masks, files.masks / "a.safetensors", Goal(0.6))


def _zeros_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    argv = _commands(bench, files)["zeros"]
    _check_overlap(argv, files)
    return _against_copy(bench, name, argv, files.baked, files.baked / "a.safetensors", Goal(1.2))


def _memory_rows(bench: Bench, files: Files, name: str) -> list[Row]:
    """Measure the commands on these files, and on files of a quarter of the size: memory must be about equal."""
    quarter = _write_files(bench, max(1, bench.size // 4))
    large, small = _commands(bench, files), _commands(bench, quarter)
    rounds, against = min(bench.rounds, 2), f"{max(1, bench.size // 4)} MiB"
    rows = []
    for command in ("erk", "extract", "masks", "overlap", "zeros", "combine", "restore"):
        sides = (partial(peak_memory, Command(argv[command], bench.out)) for argv in (large, small))
        rows.append(Row(f"{name}, {command}", against, "MB", *interleave(rounds, *sides), Goal(highest=100)))
    return rows


def _allocation_rows(bench: Bench, name: str) -> list[Row]:
    """Measure each rule on the shapes of a mixture of experts, in this process, beside `uniform`."""
    shapes = _shapes()
    layers = _layers(shapes)
    pruned = sum(layer.left for layer in layers) // 2
    rows = []
    for rule in RULES:
        if rule in ("uniform", "global"):
            continue
        counts = allocate(rule, layers, pruned)
        assert sum(counts.values()) == pruned
        assert all(0 <= counts[layer.key] <= layer.left for layer in layers)
        seconds = (partial(_seconds, each, shapes, pruned) for each in (rule, "uniform"))
        peaks = (partial(_megabytes, each, layers, pruned) for each in (rule, "uniform"))
        rows += [
            Row(f"{name}: {rule}", "uniform", "s", *interleave(bench.rounds, *seconds), Goal(highest=1)),
            Row(f"{name}: {rule}, memory", "uniform", "MB", *interleave(1, *peaks), Goal(highest=100)),
        ]
    return rows


def _shapes() -> dict[str, tuple[int, ...]]:
    """Return more than 90,000 layers; every other one is a convolution with a kernel of one element."""
    weights = (each for each in mixture_of_experts(LAYERS_OF_EXPERTS) if len(each.shape) == 2)
    return {each.name: (*each.shape, 1) if number % 2 else each.shape for number, each in enumerate(weights)}


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> list[Layer]:
    return [Layer(name, name, shape, prod(shape)) for name, shape in shapes.items()]


def _seconds(rule: str, shapes: Mapping[str, tuple[int, ...]], pruned: int) -> float:
    """Return the processor time of a rule, with the time to describe the layers to it."""
    before = time.process_time()
    allocate(rule, _layers(shapes), pruned)
    return time.process_time() - before


def _megabytes(rule: str, layers: Sequence[Layer], pruned: int) -> float:
    """Return the most memory that a rule takes beside the layers."""
    tracemalloc.start()
    allocate(rule, layers, pruned)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def _in_turns(
    bench: Bench, name: str, against: str, sides: tuple[Sequence[str], Sequence[str]], warm: Path, goal: Goal
) -> list[Row]:
    ours, theirs = (partial(run_cost, Command(argv, bench.out, warm)) for argv in sides)
    return cost_rows(name, against, interleave(bench.rounds, ours, theirs), goal)


def _against_copy(bench: Bench, name: str, argv: Sequence[str], warm: Path, copied: Path, goal: Goal) -> list[Row]:
    ours, theirs = partial(run_cost, Command(argv, bench.out, warm)), partial(run_cost, copy_file(bench, copied))
    return cost_rows(name, "cp + sync", interleave(bench.rounds, ours, theirs), goal)


def _prunecli(*words: str | Path) -> str:
    done = subprocess.run([PRUNECLI, *map(str, words)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode()


def _output(bench: Bench, argv: Sequence[str]) -> Path:
    """Run a command, and return its output."""
    _prunecli(*argv[1:])
    return bench.out / "ours.safetensors"


def _check_extracted(masked: Path, file: Path) -> None:
    """Raise unless a mask file has the masks of a checkpoint under the names of the parameters, and no other tensor."""
    checkpoint, masks = tensors(masked), tensors(file)
    assert {f"{name}_mask" for name in masks} == {name for name in checkpoint if name.endswith("_mask")}
    assert all(torch.equal(mask, checkpoint[f"{name}_mask"]) for name, mask in masks.items())


def _check_total(source: Path, output: Path) -> None:
    """Raise unless exactly half of all elements are zero, and the others unchanged."""
    after, zeros, elements = tensors(output), 0, 0
    for name, before in tensors(source).items():
        dropped = after[name] == 0
        assert torch.equal(torch.where(dropped, 0, before), after[name]), name
        zeros += int(dropped.sum())
        elements += before.numel()
    assert zeros == round(0.5 * elements), f"{zeros} of {elements} elements are zero"


def _check_overlap(argv: Sequence[str], files: Files) -> None:
    """Raise unless the counts of each parameter are those of its masks."""
    found = json.loads(_prunecli(*argv[1:]))["parameters"]
    one, two = (tensors(Path(path)) for path in files.pair(files.masks))
    assert {row["name"] for row in found} == set(one)
    for row in found:
        a, b = one[row["name"]], two[row["name"]]
        expected = [int(each.sum()) for each in (a & b, a & ~b, b & ~a, ~(a | b))]
        assert [row[f"kept_by_{side}"] for side in ("both", "a_only", "b_only", "neither")] == expected, row["name"]


if __name__ == "__main__":
    main()
