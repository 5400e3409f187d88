"""The input files of the benchmark, and checks of the outputs, with one tensor in memory at a time."""

import json
import os
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

__all__ = [
    "DTYPES",
    "FORMATS",
    "LAYERS",
    "Source",
    "check_bake",
    "check_equal",
    "check_masks",
    "check_report",
    "check_zip",
    "write_folder",
    "write_source",
]

Bits = NDArray[np.signedinteger[Any]]

FORMATS = ("safetensors", "torch zip")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
LAYERS = 64
COLUMNS = 4096

_BITS: dict[int, np.dtype[Any]] = {2: np.dtype(np.int16), 4: np.dtype(np.int32)}
_HEADER_NAMES = {"bf16": "BF16", "fp32": "F32"}


@dataclass(frozen=True)
class Source:
    """A checkpoint of `LAYERS` matrices and the same number of biases, without zeros."""

    path: Path
    format: str
    dtype: str


def write_source(folder: Path, kind: str, dtype: str, megabytes: int) -> Source:
    """Write a checkpoint of about `megabytes` * 2**20 bytes; the tensors are the same in every format.

    Afterwards the file is removed from the page cache: the sizes of the pages that a write leaves there depend on the
    writer's calls, and reading small pages takes longer.
    """
    source = _write(folder, kind, dtype, megabytes)
    with source.path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return source


def _write(folder: Path, kind: str, dtype: str, megabytes: int) -> Source:
    path = folder / f"{dtype}-{megabytes}.safetensors"
    spans = _write_safetensors(path, dtype, megabytes)
    if kind == "safetensors":
        return Source(path, kind, dtype)
    target = path.with_name(f"{kind.replace(' ', '-')}-{path.stem}.pt")
    # Mapped, so that torch saves 8 GB without holding them in memory. Copy-on-write, because torch warns about
    # read-only arrays.
    mapped = {name: _mapped(path, dtype, start, shape) for name, (start, shape) in spans.items()}
    if kind == "TorchScript":
        torch.jit.save(_program(mapped), target)
    else:
        torch.save(mapped, target, _use_new_zipfile_serialization=kind == "torch zip")
    path.unlink()
    return Source(target, kind, dtype)


def _program(tensors: Mapping[str, Tensor]) -> torch.jit.ScriptModule:
    """Return a compiled module with the tensors as parameters, by their dotted names."""
    module = nn.Module()
    module.layers = nn.ModuleList()
    for layer in range(LAYERS):
        module.layers.append(below := nn.Module())
        for name in ("weight", "bias"):
            below.register_parameter(name, nn.Parameter(tensors[f"layers.{layer}.{name}"], requires_grad=False))
    return torch.jit.script(module)


def check_bake(source: Path, output: Path, *, negative_zeros: bool = False) -> None:
    """Raise unless exactly half of every weight is +0.0 (or, if allowed, -0.0 as from torch), the rest unchanged."""
    after = tensors(output)
    for name, before in tensors(source).items():
        old, new = _bits(before), _bits(after[name])
        zeros = (new << 1 if negative_zeros else new) == 0
        expected = old.size // 2 if name.endswith("weight") else 0
        assert before.shape == after[name].shape, name
        assert int(np.count_nonzero(zeros)) == expected, f"{name}: {np.count_nonzero(zeros)} zeros, not {expected}"
        assert bool(((new == old) | zeros).all()), f"{name}: an element changed"
    assert set(after) == set(tensors(source))


def check_masks(source: Path, output: Path, bake: Path) -> None:
    """Raise unless the originals are unchanged, and the masks match the bake: true where it is not zero."""
    after, baked = tensors(output), tensors(bake)
    names = set()
    for name, before in tensors(source).items():
        pruned = name.endswith("weight")
        names |= {f"{name}_orig", f"{name}_mask"} if pruned else {name}
        assert np.array_equal(_bits(before), _bits(after[f"{name}_orig" if pruned else name])), name
        if pruned:
            mask = after[f"{name}_mask"]
            assert (mask.dtype, mask.shape) == (torch.bool, before.shape), name
            assert int(mask.count_nonzero()) == before.numel() - before.numel() // 2, name
            assert np.array_equal(mask.numpy(), _bits(baked[name]) != 0), f"{name}: the mask is not the bake's"
    assert set(after) == names


def check_equal(one: Path, other: Path) -> None:
    """Raise unless two checkpoints contain the same tensors, bit by bit."""
    first, second = tensors(one), tensors(other)
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert np.array_equal(_bits(tensor), _bits(second[name])), name


def check_report(text: bytes, bake: Path) -> None:
    """Raise unless a JSON report on a bake contains the right counts of elements and zeros for every parameter."""
    found = {each["name"]: (each["elements"], each["zeros"]) for each in json.loads(text)["parameters"]}
    expected = {
        name: (tensor.numel(), tensor.numel() // 2 if name.endswith("weight") else 0)
        for name, tensor in tensors(bake).items()
    }
    assert found == expected, f"report: {found}"


def check_zip(path: Path) -> None:
    """Raise unless Info-ZIP finds every CRC32 correct; files other than zips pass."""
    if zipfile.is_zipfile(path):
        subprocess.run(["unzip", "-tqq", str(path)], check=True)


def tensors(path: Path) -> Mapping[str, Tensor]:
    """Return a checkpoint's tensors by name; if the format allows it, each is read on access."""
    if path.suffix == ".safetensors":
        return _Safetensors(path)
    if not zipfile.is_zipfile(path):
        old: dict[str, Tensor] = torch.load(path, weights_only=True)
        return old
    with zipfile.ZipFile(path) as archive:
        if any("/code/" in name for name in archive.namelist()):
            program: dict[str, Tensor] = torch.jit.load(path).state_dict()  # type: ignore[no-untyped-call]
            return program
    loaded: dict[str, Tensor] = torch.load(path, mmap=True, weights_only=True)
    return loaded


class _Safetensors(Mapping[str, Tensor]):
    """A safetensors file as a mapping; every access reads the tensor again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with safe_open(path, framework="pt") as opened:
            self._names = list(opened.keys())

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self._path, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _bits(tensor: Tensor) -> Bits:
    """Return a tensor's elements as integers: numpy does not support bf16, and bits compare exactly."""
    bits: Bits = tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32}[tensor.element_size()]).numpy()
    return bits


def write_folder(folder: Path, shards: int, megabytes: int) -> Path:
    """Write a folder of safetensors shards in bf16 with an index, about `megabytes` * 2**20 bytes in total."""
    folder.mkdir()
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        spans = _write_safetensors(folder / name, "bf16", megabytes // shards, first=shard * LAYERS)
        weight_map |= dict.fromkeys(spans, name)
    index = {"metadata": {"total_size": megabytes << 20}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    subprocess.run(["sync", "-f", str(folder)], check=True)
    return folder


def _shapes(dtype: str, megabytes: int, first: int = 0) -> dict[str, tuple[int, ...]]:
    rows = max(1, megabytes * 2**20 // DTYPES[dtype].itemsize // COLUMNS // LAYERS)
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(first, first + LAYERS):
        shapes[f"layers.{layer}.weight"] = (rows, COLUMNS)
        shapes[f"layers.{layer}.bias"] = (rows,)
    return shapes


def _write_safetensors(
    path: Path, dtype: str, megabytes: int, first: int = 0
) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Write random tensors one after another, and return the offset in the file and the shape of each."""
    itemsize, start = DTYPES[dtype].itemsize, 0
    header: dict[str, object] = {}
    spans: dict[str, tuple[int, tuple[int, ...]]] = {}
    for name, shape in _shapes(dtype, megabytes, first).items():
        end = start + int(np.prod(shape)) * itemsize
        header[name] = {"dtype": _HEADER_NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
        spans[name] = (start, shape)
        start = end
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)
    generator = np.random.default_rng(7)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in spans.values():
            file.write(_random_bits(generator, int(np.prod(shape)), itemsize).data)
    return {name: (8 + len(text) + start, shape) for name, (start, shape) in spans.items()}


def _random_bits(generator: np.random.Generator, count: int, itemsize: int) -> NDArray[Any]:
    """Return floats between 2**-7 and 2 with random signs, as unsigned integers; only upper exponent bits are fixed."""
    dtype = np.dtype(f"u{itemsize}")
    bits: NDArray[Any] = generator.integers(0, 256**itemsize, count, dtype=dtype)
    shift = 8 * (itemsize - 2)  # bf16 is the upper half of fp32
    np.bitwise_and(bits, dtype.type(0x83FF << shift | ((1 << shift) - 1)), out=bits)
    np.bitwise_or(bits, dtype.type(0x3C00 << shift), out=bits)
    return bits


def _mapped(path: Path, dtype: str, start: int, shape: tuple[int, ...]) -> Tensor:
    bits = np.memmap(path, _BITS[DTYPES[dtype].itemsize], mode="c", offset=start, shape=shape)
    return torch.from_numpy(bits).view(DTYPES[dtype])
