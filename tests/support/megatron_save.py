"""Write a `torch_dist` folder with Megatron-Core, or load one: run by itself, as it starts processes of its own.

Megatron-Core's writer wants a GPU for two calls only, which are answered here.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing import ShardedObject, ShardedTensor


def state(values: dict[str, torch.Tensor]) -> dict[str, Any]:
    """A model with a stack of two layers, kept as one tensor, and its optimizer."""
    layers = {
        f"layers.{place}.weight": ShardedTensor.from_rank_offsets(
            "model.stack.weight", values["stack"][place], (0, place, 2), prepend_axis_num=1
        )
        for place in range(2)
    }
    return {
        "model": {
            "output.weight": ShardedTensor.from_rank_offsets("model.output.weight", values["output"]),
            "_extra": ShardedObject("model.output._extra_state", {"scale": 1}, (1,), (0,)),
            **layers,
        },
        "optimizer": {
            "exp_avg": ShardedTensor.from_rank_offsets("optimizer.state.exp_avg.model.output.weight", values["moment"])
        },
        "iteration": 5,
    }


def values(fill: float | None = None) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"stack": (2, 4, 6), "output": (8, 6), "moment": (8, 6)}
    made = {name: torch.rand(*shape, generator=generator) + 1 for name, shape in shapes.items()}
    return made if fill is None else {name: torch.full_like(each, fill) for name, each in made.items()}


def main(what: str, folder: Path) -> None:
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.current_device = lambda: "cpu"  # type: ignore[assignment,return-value]
    dist.init_process_group("gloo", init_method=f"file://{folder}.{what}", rank=0, world_size=1)
    parallel_state.initialize_model_parallel(1, 1)
    if what == "save":
        folder.mkdir()
        dist_checkpointing.save(state(values()), str(folder))
    else:
        loaded = dist_checkpointing.load(state(values(-1.0)), str(folder))
        torch.save({**loaded["model"], **loaded["optimizer"]}, folder.with_name("loaded.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
