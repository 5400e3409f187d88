"""Folders of shards made for the tests, in the way of transformers, and what is in such a folder as others read it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
INDEX = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}
STEM = {".safetensors": "model", ".bin": "pytorch_model"}
CARRIED = {
    "config.json": b'{"model_type": "none"}\n',
    "tokenizer/vocab.txt": b"a\nb\n",
    "tokenizer/more/x.model": b"\0",
}
"""Files that every made folder has beside its shards and its index."""


def shard(number: int, count: int, suffix: str = ".safetensors") -> str:
    """Name a shard; numbers start at 1."""
    return f"{STEM[suffix]}-{number:05d}-of-{count:05d}{suffix}"


def save_shard(tensors: Tensors, path: Path) -> None:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(dict(tensors), path, metadata={"format": "pt"})
    else:
        torch.save(dict(tensors), path)


def load_shard(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    found: dict[str, Tensor] = torch.load(path, weights_only=True)
    return found


def make_folder(path: Path, shards: Sequence[Tensors], suffix: str = ".safetensors", **index: Any) -> Path:
    """Write a folder of shards; `index` replaces what its index would hold."""
    path.mkdir(parents=True)
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        name = shard(number, len(shards), suffix)
        save_shard(tensors, path / name)
        weight_map |= dict.fromkeys(tensors, name)
    total_size = sum(tensor.nbytes for tensors in shards for tensor in tensors.values())
    write_index(path, suffix, {"metadata": {"total_size": total_size}, "weight_map": weight_map, **index})
    for name, data in CARRIED.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_index(path: Path, suffix: str, content: Any, *, sort: bool = True) -> None:
    """Write an index as transformers does."""
    text = content if isinstance(content, str) else json.dumps(content, indent=2, sort_keys=sort) + "\n"
    (path / INDEX[suffix]).write_text(text)


def index_of(path: Path) -> Any:
    """Read the index of a folder."""
    (file,) = path.glob("*.index.json")
    return json.loads(file.read_bytes())


def shards_of(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the shards of a folder, by file name."""
    return {file.name: load_shard(file) for file in sorted(path.iterdir()) if file.suffix in INDEX}


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder."""
    return {name: tensor for tensors in shards_of(path).values() for name, tensor in tensors.items()}


def files_of(path: Path) -> dict[str, bytes]:
    """Read all files of a folder, by their names below it."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
