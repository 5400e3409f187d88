"""Measure planning on a mixture of experts of a trillion parameters: `python benchmarks/trillion.py`.

The folder has 160 shards with headers only: the weights are holes, so its 2 TB take about 20 MB of disk. Each command
runs on it, and on the same model with fewer layers. The goal: time and memory grow in proportion to the number of
tensors, and not faster. The weights are never read. Linux only.
"""

import argparse
import json
import resource
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from bench_measure import Command, clear, machine, peak_memory, run_command
from bench_run import PRUNECLI

LAYERS, SHARDS = (6, 20, 60), 160
"""Layers of experts in each model; the largest has `SHARDS` shards, the others proportionally fewer."""

HIDDEN, INNER, EXPERTS, VOCABULARY = 7168, 2048, 384, 163_840
BITS = {"BF16": 16, "F8_E4M3": 8, "F32": 32}
BAKE = ("-p", "*.weight", "--min-dim", "2", "-a", "0.5", "--seed", "7", "--bake", "--dry-run")
COMMANDS: dict[str, tuple[str, ...]] = {
    "params": ("params",),
    "params, patterns": ("params", "-p", "*.experts.*.weight", "-p", "re:.*layernorm.*", "-x", "*.layers.1.*"),
    "dry run": ("apply", *BAKE),
    "dry run, masks": ("apply", *(word for word in BAKE if word != "--bake")),
    "dry run, --global": ("apply", *BAKE, "--global"),
    "dry run, exclude": ("apply", *BAKE, "-x", "*.layers.1.*", "-x", "lm_head.weight"),
    "dry run, regular expression": ("apply", *BAKE, "-p", r"re:model\.layers\.\d+\.mlp\..*", "-x", "re:.*shared.*"),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as a header describes it."""

    name: str
    code: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes in the file."""
        return self.elements * BITS[self.code] // 8


def main() -> None:
    """Write the folders, run the commands, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="runs of each command")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="scratch folder goes below; default: this one")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only commands whose name has it")
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS, metavar="N", help="layers of experts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prunecli-bench-", dir=options.folder or Path.cwd()) as scratch:
        root = Path(scratch)
        print("\n".join(f"{name}: {value}" for name, value in machine(root).items()))
        for layers in options.layers:
            _measure(root, layers, options.rounds, options.only)


def _measure(root: Path, layers: int, rounds: int, only: str) -> None:
    folder, out = root / f"moe-{layers}", root / "out"
    tensors = list(mixture_of_experts(layers))
    shards = max(1, SHARDS * layers // max(LAYERS))
    write_folder(folder, tensors, shards)
    weights = sum(tensor.elements for tensor in tensors if not tensor.name.endswith("_scale_inv"))
    disk = sum(file.stat().st_blocks * 512 for file in folder.iterdir())
    print(f"\n{len(tensors):,} tensors, {shards} shards, {weights:.3g} parameters, {disk / 1e6:.0f} MB of disk")
    for name, words in COMMANDS.items():
        if only not in name:
            continue
        argv = [PRUNECLI, words[0], str(folder), *words[1:]]
        command = Command(argv, out)
        clear(out)
        before = _processor()
        seconds = statistics.median(run_command(command) for _ in range(rounds))
        busy = (_processor() - before) / rounds
        peak = peak_memory(command)
        each = f"{busy / len(tensors) * 1e6:4.0f} us, {peak * 1e3 / len(tensors):4.1f} kB a tensor"
        print(f"{name:28} {seconds:6.2f} s, processor {busy:6.2f} s {peak:6.0f} MB   {each}", flush=True)


def _processor() -> float:
    """Return the processor seconds of ended commands, which other load on the machine affects less than wall time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def mixture_of_experts(layers: int) -> Iterator[Tensor]:
    """Yield the tensors of a model with one dense layer and `layers` layers of experts, the last third in fp8."""
    yield Tensor("model.embed_tokens.weight", "BF16", (VOCABULARY, HIDDEN))
    for layer in range(layers + 1):
        place = f"model.layers.{layer}"
        code = "F8_E4M3" if layer > layers * 7 // 10 else "BF16"
        yield from _attention(place)
        if layer == 0:
            yield from _perceptron(f"{place}.mlp", 9 * INNER, code)
            continue
        yield Tensor(f"{place}.mlp.gate.weight", "BF16", (EXPERTS, HIDDEN))
        yield Tensor(f"{place}.mlp.gate.e_score_correction_bias", "F32", (EXPERTS,))
        for expert in range(EXPERTS):
            yield from _perceptron(f"{place}.mlp.experts.{expert}", INNER, code)
        yield from _perceptron(f"{place}.mlp.shared_experts", INNER, code)
    yield Tensor("model.norm.weight", "BF16", (HIDDEN,))
    yield Tensor("lm_head.weight", "BF16", (VOCABULARY, HIDDEN))


def _attention(place: str) -> Iterator[Tensor]:
    """Yield the tensors of a layer's latent attention and norms."""
    shapes = {
        "input_layernorm": (HIDDEN,),
        "post_attention_layernorm": (HIDDEN,),
        "self_attn.q_a_proj": (1536, HIDDEN),
        "self_attn.q_a_layernorm": (1536,),
        "self_attn.q_b_proj": (12_288, 1536),
        "self_attn.kv_a_proj_with_mqa": (576, HIDDEN),
        "self_attn.kv_a_layernorm": (512,),
        "self_attn.kv_b_proj": (16_384, 512),
        "self_attn.o_proj": (HIDDEN, 8192),
    }
    for name, shape in shapes.items():
        yield Tensor(f"{place}.{name}.weight", "BF16", shape)


def _perceptron(place: str, inner: int, code: str) -> Iterator[Tensor]:
    """Yield the tensors of a gated perceptron; in fp8, each weight has a tensor of scales, one per 128 x 128 block."""
    for name, shape in (("gate", (inner, HIDDEN)), ("up", (inner, HIDDEN)), ("down", (HIDDEN, inner))):
        yield Tensor(f"{place}.{name}_proj.weight", code, shape)
        if code == "F8_E4M3":
            scales = tuple(size // 128 for size in shape)
            yield Tensor(f"{place}.{name}_proj.weight_scale_inv", "F32", scales)


def write_folder(folder: Path, tensors: Sequence[Tensor], shards: int) -> None:
    """Write a folder of safetensors shards of about equal size, with an index; the data are holes."""
    folder.mkdir()
    total = sum(tensor.nbytes for tensor in tensors)
    parts: list[list[Tensor]] = [[] for _ in range(shards)]
    before = 0
    for tensor in tensors:
        parts[before * shards // total].append(tensor)
        before += tensor.nbytes
    names = [f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1)]
    for name, part in zip(names, parts, strict=True):
        _write_shard(folder / name, part)
    weight_map = {tensor.name: name for name, part in zip(names, parts, strict=True) for tensor in part}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="ascii")


def _write_shard(path: Path, tensors: Sequence[Tensor]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": tensor.code,
            "shape": tensor.shape,
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


if __name__ == "__main__":
    main()
