"""What each of two ranks does with slices: save its slices of a model, and load them once rank 0 has pruned them."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from dcp_ranks import spread, whole_state
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from prunecli.cli.app import run


def main(meeting: str, folder: Path, rank: int) -> None:
    """Save to `folder`; prune it to "pruned" beside it; load that as ranks do, and save what they got in one file."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    save(_model(), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    pruned = folder.with_name("pruned")
    if rank == 0 and run(["apply", str(folder), "-p", "*", "-a", "0.5", "--seed", "7", "--remove", "-o", str(pruned)]):
        sys.exit("prunecli failed")
    dist.barrier()
    state = {name: torch.zeros_like(each) for name, each in _model().items()}
    load(state, storage_reader=HuggingFaceStorageReader(str(pruned)))
    loaded = {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in state.items()}
    if rank == 0:
        torch.save(loaded, folder.with_name("loaded.pt"))
    dist.destroy_process_group()


def _model() -> dict[str, Any]:
    model: dict[str, Any] = spread(whole_state())["model"]
    return model


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
