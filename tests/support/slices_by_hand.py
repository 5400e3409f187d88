"""Folders of slices made for the tests, in the way of torch's HuggingFaceStorageWriter: a file for each rank."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

Cuts = Sequence[Sequence[int]]
"""For each dimension, where a tensor is cut."""

Slice = tuple[tuple[int, ...], Tensor]
"""Where a slice begins in its whole, and the slice."""


def slices_of(tensor: Tensor, cuts: Cuts) -> list[Slice]:
    """Cut a tensor."""
    ranges = [list(pairwise([0, *cut, size])) for cut, size in zip(cuts, tensor.shape, strict=True)]
    return [
        (tuple(low for low, _ in box), tensor[tuple(slice(low, high) for low, high in box)].contiguous())
        for box in product(*ranges)
    ]


def save_slices(state: Mapping[str, Tensor], path: Path, cuts: Mapping[str, Cuts] | None = None) -> Path:
    """Write a folder in which the first rank has the first slice of each tensor, and so on."""
    path.mkdir(parents=True)
    ranks: list[dict[str, Slice]] = []
    for name, tensor in state.items():
        for rank, each in enumerate(slices_of(tensor, (cuts or {}).get(name, [()] * tensor.dim()))):
            if rank == len(ranks):
                ranks.append({})
            ranks[rank][name] = each
    for rank, held in enumerate(ranks, 1):
        save_rank(path / f"shard-{rank:05d}-model-00001-of-00001.safetensors", held)
    return path


def save_rank(file: Path, held: Mapping[str, Slice], info: Any = None) -> None:
    """Write the file of one rank; `info` replaces what says where its slices lie."""
    reported = {name: {"saved_offsets": list(offsets)} for name, (offsets, _) in held.items()} if info is None else info
    text = reported if isinstance(reported, str) else json.dumps(reported)
    metadata = {"DCP_SHARDING_INFO": text, "DCP_VERSION": "1.0", "format": "pt"}
    safetensors.torch.save_file({name: each for name, (_, each) in held.items()}, file, metadata)
