"""Measure files of very many small tensors: `python benchmarks/many_tensors.py`.

A mixture of small experts, in a safetensors file and in a torch zip; a file of 222,747 tensors was met in the wild. The
price is that of a tensor, not of its bytes. Results are checked first; then each command runs once by itself. The
goals: `params` in 10 seconds, `apply --bake` in 20, and 400 MB in all.
"""

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from bench_measure import Command, clear, machine, run_watched
from bench_run import PRUNECLI
from safetensors.torch import load_file, save_file

TENSORS = 222_747
EXPERTS = 256
PARTS: tuple[tuple[str, tuple[int, ...]], ...] = (("gate", (8, 4)), ("up", (8, 4)), ("down", (4, 8)))
AMOUNT = ("-p", "*.weight", "--amount", "0.5", "--seed", "7", "-q")

State = dict[str, torch.Tensor]


def main() -> None:
    """Write the files, check the results, run the commands, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=TENSORS, metavar="N", help="tensors of the file")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="scratch folder goes below; default: this one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prunecli-bench-", dir=options.folder or Path.cwd()) as scratch:
        root = Path(scratch)
        print("\n".join(f"{name}: {value}" for name, value in machine(root).items()))
        state = dict(islice(small_experts(), options.tensors))
        save_file(state, root / "model.safetensors")
        torch.save(state, root / "model.pt")
        del state
        for name in ("model.safetensors", "model.pt"):
            _measure(root / name, root / "out", options.tensors)


def small_experts() -> Iterator[tuple[str, torch.Tensor]]:
    """Yield tensors of layers of small experts without end, by name."""
    generator = torch.Generator().manual_seed(1)
    layer = 0
    while True:
        place = f"model.layers.{layer}"
        shapes: dict[str, tuple[int, ...]] = {f"{place}.input_layernorm.weight": (8,)}
        for expert in range(EXPERTS):
            for part, shape in PARTS:
                own = f"{place}.mlp.experts.{expert}.{part}_proj"
                shapes |= {f"{own}.weight": shape, f"{own}.bias": shape[:1]}
        for name, shape in shapes.items():
            yield name, (1 + torch.rand(shape, generator=generator)).to(torch.bfloat16)  # none is zero
        layer += 1


def _measure(source: Path, out: Path, tensors: int) -> None:
    clear(out)
    output = str(out / source.name)
    bake = [PRUNECLI, "apply", str(source), *AMOUNT, "--bake", "-o", output]
    _check_bake(bake, source, Path(output))
    commands = {
        "params": [PRUNECLI, "params", str(source)],
        "apply --bake": bake,
        "apply": [each for each in bake if each != "--bake"],
        "report": [PRUNECLI, "report", str(source)],
    }
    for name, argv in commands.items():
        clear(out)
        cost, peak = run_watched(Command(argv, out))
        each = f"{cost.processor / tensors * 1e6:4.0f} us, {peak * 1e3 / tensors:4.2f} kB a tensor"
        what = f"{name}, {source.suffix[1:]}"
        print(f"{what:26} {cost.wall:6.2f} s, processor {cost.processor:6.2f} s {peak:5.0f} MB   {each}", flush=True)


def _check_bake(argv: Sequence[str], source: Path, output: Path) -> None:
    """Bake once; half of each weight must be zero and everything else equal bit by bit."""
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    before, after = _loaded(source), _loaded(output)
    assert before.keys() == after.keys()
    for name, old in before.items():
        zero = after[name] == 0
        assert torch.equal(torch.where(zero, 0, old), after[name]), name
        assert int(zero.sum()) == (old.numel() // 2 if name.endswith(".weight") else int((old == 0).sum())), name
    output.unlink()


def _loaded(path: Path) -> State:
    loaded: State = load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    return loaded


if __name__ == "__main__":
    main()
