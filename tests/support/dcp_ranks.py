"""What each of two ranks does: build the same state dict, take its shards of it, save them, and load them pruned."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from prunecli.cli.app import run


def whole_state() -> dict[str, Any]:
    """The state dict before it is spread over the ranks; deterministic."""
    generator = torch.Generator().manual_seed(5)

    def make(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    weights = {
        "rows.weight": make(1031, 1033, dtype=torch.bfloat16),
        "columns.weight": make(33, 47),
        "odd.bias": make(7),
        "tiny.weight": make(1, 5),
        "both.weight": make(6, 9),
        "same.weight": make(4, 4),
        "plain.weight": make(3, 5),
    }
    momenta = {name: {"exp_avg": weight + 1, "step": torch.tensor(3.0)} for name, weight in weights.items()}
    optimizer = {"state": momenta, "param_groups": [{"lr": 0.1, "params": list(weights)}]}
    return {"model": weights, "optimizer": optimizer, "epoch": 4, "tags": ["a", "b"]}


def spread(state: dict[str, Any]) -> dict[str, Any]:
    """The same with DTensors, in one and in two dimensions of devices."""
    line = init_device_mesh("cpu", (2,))
    plane = init_device_mesh("cpu", (1, 2))
    placed: dict[str, tuple[Any, list[Any]]] = {
        "rows.weight": (line, [Shard(0)]),
        "columns.weight": (line, [Shard(1)]),
        "odd.bias": (line, [Shard(0)]),
        "tiny.weight": (line, [Shard(0)]),
        "both.weight": (plane, [Shard(0), Shard(1)]),
        "same.weight": (line, [Replicate()]),
    }

    def place(name: str, tensor: Tensor) -> Tensor:
        return distribute_tensor(tensor, *placed[name]) if name in placed and tensor.dim() else tensor

    model = {name: place(name, tensor) for name, tensor in state["model"].items()}
    momenta = state["optimizer"]["state"]
    moved = {name: {key: place(name, each) for key, each in held.items()} for name, held in momenta.items()}
    return {**state, "model": model, "optimizer": {**state["optimizer"], "state": moved}}


def main(meeting: str, folder: Path, rank: int) -> None:
    """Save to `folder`; prune it to "pruned" beside it; load that as ranks do, and save what they got in one file."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    save(spread(whole_state()), checkpoint_id=folder)
    pruned = folder.with_name("pruned")
    if rank == 0 and run(["apply", str(folder), "-p", "*", "-a", "0.5", "--seed", "7", "--remove", "-o", str(pruned)]):
        sys.exit("prunecli failed")
    dist.barrier()
    state = spread(whole_state())
    load(state, checkpoint_id=pruned)
    loaded = {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in state["model"].items()}
    if rank == 0:
        torch.save(loaded, folder.with_name("loaded.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
