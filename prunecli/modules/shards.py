"""Tensors that are spread over ranks (`DTensor`), as one rank sees them: the part that lies here, what others found.

Placements and mesh say where the local part lies in the whole tensor, so its part of the mask is drawn here, and
no weight travels. What each rank counts is exchanged at the end, so that all of them return the report of the whole.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunecli.errors import UnsupportedError, show

__all__ = [
    "Shard",
    "check_wrappers",
    "exchange",
    "fsdp_records",
    "is_spread",
    "names_restored_on_failure",
    "shard_of",
    "to_shards",
]


@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a spread tensor that lies on this rank: the `local` tensor begins at `offsets` of the whole.

    `first` holds on one of the ranks that have the same part, the one that counts it; `whole` if all ranks have
    everything.
    """

    local: Tensor
    offsets: tuple[int, ...]
    mesh: Any
    first: bool
    whole: bool


def _loaded(module: str, name: str) -> Any:
    """Return a class of torch if its module was imported, as it was where there are objects of it."""
    return getattr(sys.modules.get(module), name, None)


def is_spread(tensor: Tensor) -> bool:
    """Whether a tensor is a `DTensor`."""
    kind = _loaded("torch.distributed.tensor", "DTensor")
    return kind is not None and isinstance(tensor, kind)


def shard_of(tensor: Tensor) -> Shard | str:
    """Return the part of a `DTensor` that lies here, or the reason why that cannot be worked with."""
    spread: Any = tensor
    mesh, placements = spread.device_mesh, spread.placements
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return "this rank is not in its mesh"
    offsets, sizes, first, whole = [0] * tensor.dim(), list(tensor.shape), True, True
    for size, at, placement in zip(mesh.shape, coordinate, placements, strict=True):
        if placement.is_replicate():
            first = first and at == 0
        elif type(placement).__name__ == "Shard" and tensor.dim():
            whole = whole and size == 1
            dim = placement.dim % tensor.dim()
            each = -(-sizes[dim] // size)
            low = min(at * each, sizes[dim])
            offsets[dim] += low
            sizes[dim] = min(each, sizes[dim] - low)
        else:
            return f"it is placed as {placement}, and only Shard and Replicate are known here"
    local = spread.to_local().detach()
    if tuple(local.shape) != tuple(sizes):
        return f"its part on this rank is {tuple(local.shape)}, and {tuple(sizes)} by its placements"
    return Shard(local, tuple(offsets), mesh, first, whole)


def check_wrappers(module: nn.Module) -> None:
    """Refuse wrappers that keep parameters in pieces which nothing here can tell apart.

    Raises:
        UnsupportedError: the module is, or holds, one of FSDP1 or of DeepSpeed's ZeRO-3.
    """
    flat = _loaded("torch.distributed.fsdp", "FullyShardedDataParallel")
    if flat is not None and any(isinstance(each, flat) for each in module.modules()):
        raise UnsupportedError(
            f"{show(type(module).__name__)} holds FullyShardedDataParallel (FSDP1), whose parameters are pieces of "
            "flat ones; prune before it is wrapped, use fully_shard, or prune the saved checkpoint"
        )
    for name, parameter in module.named_parameters():
        if hasattr(parameter, "ds_tensor") and not parameter.numel():
            raise UnsupportedError(
                f"{show(name)} is partitioned by DeepSpeed (ZeRO-3) and has no elements here; prune within "
                "deepspeed.zero.GatheredParameters(..., modifier_rank=0), or prune the saved checkpoint"
            )


def to_shards(module: nn.Module) -> None:
    """Put the shards in the place of gathered parameters, as reading the state dict of an FSDP2 module does.

    After a forward the outermost module keeps the gathered copy, which the next step throws away.
    """
    for each in _fsdp_modules(module):
        each.reshard()


def _fsdp_modules(module: nn.Module) -> Iterator[Any]:
    kinds = [_loaded(name, "FSDPModule") for name in ("torch.distributed.fsdp", "torch.distributed._composable.fsdp")]
    known = tuple(kind for kind in kinds if kind is not None)
    return (each for each in module.modules() if known and isinstance(each, known))


def fsdp_records(module: nn.Module) -> list[Any]:
    """Return what FSDP2 has noted of the parameters that it manages: each record's module, and the name there.

    Raises:
        UnsupportedError: this torch keeps them elsewhere.
    """
    try:
        return [
            parameter._module_info
            for each in _fsdp_modules(module)
            for group in _groups(each._get_fsdp_state())
            for parameter in group.fsdp_params
        ]
    except AttributeError as error:
        raise UnsupportedError(
            f"torch {torch.__version__} keeps the names of sharded parameters where they are not known here ({error}); "
            "save the state dict, and bake the file with prunecli remove"
        ) from None


@contextlib.contextmanager
def names_restored_on_failure(records: Sequence[Any]) -> Iterator[None]:
    """Put back the names in FSDP2's records if the body raises."""
    before = [(record, record.param_name, list(record.shared_param_names)) for record in records]
    try:
        yield
    except BaseException:
        for record, name, shared in before:
            record.param_name, record.shared_param_names[:] = name, shared
        raise


def _groups(state: Any) -> list[Any]:
    several = getattr(state, "_fsdp_param_groups", None)
    if several is not None:
        return list(several)
    return [state._fsdp_param_group] if state._fsdp_param_group is not None else []


def exchange(mesh: Any, told: Any) -> list[Any]:
    """Return what every rank of a mesh tells, in one order for all of them."""
    everything = [told]
    for dim in range(mesh.ndim):
        group = mesh.get_group(dim)
        answers: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(answers, everything, group=group)
        everything = [each for answer in answers for each in answer]
    return everything
