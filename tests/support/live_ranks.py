"""What each of two ranks does: spread models over both, prune and bake them there, and save what all of them hold.

Every case is also done by a single process, in `test_live_shards.py`; equal seeds and names must give equal tensors.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from prunecli import PrunecliError, bake_module, prune_module
from prunecli.surgery.report.codec import render_json

SHAPES = {"rows": (7, 5), "few": (1, 6), "columns": (4, 9), "bias": (3,), "large": (1031, 1033), "swapped": (6, 8)}
SEED = 11


def net(width: int = 7) -> nn.Module:
    """Layers whose sizes no two ranks can share evenly."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 3), nn.Linear(3, 1))


def holder() -> nn.Module:
    """Parameters alone, some of them not row-major or complex."""
    torch.manual_seed(5)
    module = nn.Module()
    for name, shape in SHAPES.items():
        values = torch.randn(shape).t().contiguous().t() if name == "swapped" else torch.randn(shape)
        module.register_parameter(name, nn.Parameter(values))
    module.register_parameter("phases", nn.Parameter(torch.view_as_complex(torch.randn(5, 3, 2, dtype=torch.float64))))
    return module


def placed(module: nn.Module, mesh: DeviceMesh, placements: list[Any]) -> nn.Module:
    """Turn the parameters of a module that has the dimension into DTensors."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        fits = all(not isinstance(each, Shard) or each.dim < parameter.dim() for each in placements)
        spread = distribute_tensor(parameter.detach(), mesh, placements if fits else [Replicate()] * mesh.ndim)
        module.register_parameter(name, nn.Parameter(spread))
    return module


def masked(module: nn.Module) -> nn.Module:
    """Prune to masks, before anything is spread."""
    prune_module(module, "*.weight", 0.5, seed=SEED, min_dim=2)
    return module


def soft(module: nn.Module) -> nn.Module:
    """Prune to masks of which some hold other values than 0 and 1."""
    masked(module)
    module.get_submodule("0").weight_mask.mul_(0.5)  # type: ignore[operator]
    return module


def fsdp(module: nn.Module, mesh: DeviceMesh, **options: Any) -> nn.Module:
    """Shard each layer, and what is left."""
    for layer in module.children():
        if list(layer.parameters(recurse=False)):
            fully_shard(layer, mesh=mesh, **options)
    fully_shard(module, mesh=mesh, **options)
    return module


def stepped(module: nn.Module) -> nn.Module:
    """Train for two steps; data are the same on every rank, so gradients are those of one process."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(2):
        inputs = torch.linspace(-1, 1, 20).view(4, 5) + step
        module(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return module


def baked(module: nn.Module) -> Any:
    """Bake the masks."""
    return bake_module(module)


def pruned(module: nn.Module) -> Any:
    """Bake at once."""
    return prune_module(module, "*", 0.5, seed=SEED, remove=True)


def build_edit(
    name: str, line: DeviceMesh | None, plane: DeviceMesh | None
) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    """Make a case: the module that is ready, and what is to be done to it; without meshes, in one process."""
    if name == "normal order":
        module = masked(net())
        return stepped(fsdp(module, line) if line else module), baked
    if name == "soft masks":
        module = soft(net())
        return (fsdp(module, line) if line else module), baked
    if name == "after a forward":
        module = net()
        return stepped(fsdp(module, line, reshard_after_forward=False) if line else module), pruned
    if name == "hybrid":
        return (fsdp(net(), plane) if plane else net()), pruned
    if name == "tensor parallel":
        module = masked(net(8))
        if line:
            parallelize_module(module, line, {"0": ColwiseParallel(output_layouts=Replicate())})
        return module, baked
    if name == "tensor parallel at once":
        module = net(8)
        if line:
            parallelize_module(module, line, {"0": ColwiseParallel(), "2": RowwiseParallel()})
        return module, pruned
    mesh = {"line": line, "plane": plane}[name.split(":")[0]]
    placements = [eval(each, {"S": Shard, "R": Replicate}) for each in name.split(":")[1:]]  # noqa: S307
    return (placed(holder(), mesh, placements) if mesh else holder()), pruned


CASES = (
    "normal order",
    "soft masks",
    "after a forward",
    "hybrid",
    "tensor parallel",
    "tensor parallel at once",
    "line:S(0)",
    "line:S(1)",
    "line:R()",
    "plane:S(0):S(1)",
    "plane:S(0):S(0)",
    "plane:R():S(0)",
    "plane:S(1):R()",
)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def outcome(module: nn.Module, report: Any, forward: bool) -> dict[str, Any]:
    """Return what must agree: the tensors, the report, and what the module computes afterwards."""
    state = {name: whole(tensor).detach().clone() for name, tensor in module.state_dict().items()}
    parameters = [{key: value for key, value in vars_of(each).items() if key != "crc32"} for each in report.parameters]
    result = {"state": state, "totals": vars_of(report.totals), "parameters": parameters}
    if forward:
        result["output"] = whole(module(torch.linspace(-1, 1, 20).view(4, 5))).detach()
    return result


def vars_of(each: Any) -> dict[str, Any]:
    """Return the fields of a frozen dataclass with slots."""
    return {name: getattr(each, name) for name in each.__dataclass_fields__}


def main(meeting: str, target: Path, rank: int) -> None:
    """Do every case, and leave the outcomes of each rank in a file of its own."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    line, plane = init_device_mesh("cpu", (2,)), init_device_mesh("cpu", (1, 2), mesh_dim_names=("one", "two"))
    across = init_device_mesh("cpu", (2, 1), mesh_dim_names=("one", "two"))
    outcomes: dict[str, Any] = {}
    for name in CASES:
        module, act = build_edit(name, line, across if name in ("hybrid", "plane:R():S(0)") else plane)
        report = act(module)
        render_json(report)
        outcomes[name] = outcome(module, report, ":" not in name)
    unseeded = placed(holder(), line, [Replicate()])
    torch.manual_seed(rank)
    seed = prune_module(unseeded, "*", 0.5, remove=True).seed
    outcomes["unseeded"] = {"seed": seed, "state": {name: whole(each) for name, each in unseeded.state_dict().items()}}
    try:
        prune_module(unseeded, "*", 0.5, seed=rank, remove=True)
    except PrunecliError as error:
        outcomes["different seeds"] = str(error)
    torch.save(outcomes, f"{target}.{rank}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
