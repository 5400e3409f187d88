"""Tensors spread over ranks (`DTensor`), as one rank sees them: the local part, and an exchange with other ranks.

Placements and mesh determine where the local part lies in the whole tensor. So each rank draws its part of the mask,
and weights are not sent. At the end the ranks exchange their counts, so that all return the report on the whole module.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunecli.errors import UnsupportedError, show
from prunecli.lean import dataclass

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
    """The part of a spread tensor on this rank: the `local` tensor begins at `offsets` of the whole tensor.

    `first` is True on one of the ranks with the same part; that rank counts it. `whole` is True if every rank has the
    whole tensor.
    """

    local: Tensor
    offsets: tuple[int, ...]
    mesh: Any
    first: bool
    whole: bool


def _loaded(module: str, name: str) -> Any:
    """Return a class of torch, None if its module is not imported, in which case no instances exist."""
    return getattr(sys.modules.get(module), name, None)


def is_spread(tensor: Tensor) -> bool:
    """Whether a tensor is a `DTensor`."""
    kind = _loaded("torch.distributed.tensor", "DTensor")
    return kind is not None and isinstance(tensor, kind)


def shard_of(tensor: Tensor) -> Shard | str:
    """Return the part of a `DTensor` on this rank, or the reason why it cannot be used."""
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
    """Refuse wrappers that keep parameters in pieces which this module cannot assign to parameters.

    Raises:
        UnsupportedError: the module is, or contains, one of FSDP1 or of DeepSpeed's ZeRO-3.
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
    """Replace gathered parameters by their shards, as reading the state dict of an FSDP2 module does.

    After a forward the outermost module keeps the gathered copy, which the next step discards.
    """
    for each in _fsdp_modules(module):
        each.reshard()


def _fsdp_modules(module: nn.Module) -> Iterator[Any]:
    kinds = [_loaded(name, "FSDPModule") for name in ("torch.distributed.fsdp", "torch.distributed._composable.fsdp")]
    known = tuple(kind for kind in kinds if kind is not None)
    return (each for each in module.modules() if known and isinstance(each, known))


def fsdp_records(module: nn.Module) -> list[Any]:
    """Return FSDP2's records of the parameters that it manages, with the module and the name of each.

    Raises:
        UnsupportedError: this version of torch keeps them elsewhere.
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
    """Restore the names in FSDP2's records if the body raises."""
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


def exchange(mesh: Any, own: Any) -> list[Any]:
    """Return the objects that all ranks of a mesh send, in the same order on every rank."""
    everything = [own]
    for dim in range(mesh.ndim):
        group = mesh.get_group(dim)
        answers: list[Any] = [None] * torch.distributed.get_world_size(group)
        torch.distributed.all_gather_object(answers, everything, group=group)
        everything = [each for answer in answers for each in answer]
    return everything
