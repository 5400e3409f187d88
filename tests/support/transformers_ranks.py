"""What each of two ranks does: save a model in slices with transformers, or load such a folder and write it whole."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers import LlamaForCausalLM
from transformers.distributed.configuration_utils import DistributedConfig


def main(what: str, folder: Path, rank: int) -> None:
    """Read `folder`; "save" writes it in slices to "slices" beside it, "load" writes its tensors to "loaded.pt"."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost")
    meeting = folder.with_name(f"meeting.{what}")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    spread = DistributedConfig(tp_size=2, tp_plan="auto")
    model = LlamaForCausalLM.from_pretrained(folder, distributed_config=spread)
    if what == "save":
        model.save_pretrained(folder.with_name("slices"), distributed_checkpoint=True)
    else:
        state = model.state_dict()
        whole = {name: each.full_tensor() if isinstance(each, DTensor) else each for name, each in state.items()}
        if rank == 0:
            torch.save(whole, folder.with_name("loaded.pt"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
