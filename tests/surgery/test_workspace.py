"""Memory of a thread: what lies in one buffer is not overwritten by what is read into another one."""

from pathlib import Path

import numpy as np
import torch
from surgery_zoo import save

from prunecli.formats.opening import open_any
from prunecli.surgery.data.final_mask import Elements
from prunecli.surgery.data.workspace import Workspace


def test_a_weight_and_its_mask_are_read_side_by_side(tmp_path: Path) -> None:
    weight, mask = torch.full((4,), 3.0), torch.tensor([1.0, 0.0, 1.0, 0.0])
    with open_any(save({"w_orig": weight, "w_mask": mask}, tmp_path / "m.pt")) as checkpoint:
        elements = {name: Elements(checkpoint.source, each) for name, each in checkpoint.tensors.items()}
        workspace = Workspace()
        read_weight = elements["w_orig"].read(0, 4, workspace.weight)
        read_mask = elements["w_mask"].read(0, 4, workspace.mask)
    assert read_weight.view(np.float32).tolist() == weight.tolist()
    assert read_mask.view(np.float32).tolist() == mask.tolist()


def test_no_two_buffers_of_a_workspace_share_memory() -> None:
    buffers = list(vars(Workspace()).values())
    taken = [each.bytes(100) for each in buffers]
    for number, each in enumerate(taken):
        each[:] = number
    assert [set(each.tolist()) for each in taken] == [{number} for number in range(len(buffers))]


def test_a_buffer_grows_and_keeps_its_memory() -> None:
    workspace = Workspace()
    small = workspace.keep.flags(10)
    large = workspace.keep.floats(100)
    assert (small.size, large.size) == (10, 100)
    assert np.shares_memory(large, workspace.keep.bytes(5))
