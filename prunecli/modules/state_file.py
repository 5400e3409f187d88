"""The state dict of a checkpoint as tensors in memory, read without running anything in the file."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from prunecli.errors import UnreadableError, UnsupportedError, UsageError, show
from prunecli.formats.base import AnyCheckpoint, ReadOptions, TensorInfo
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.opening import check_unchanged, open_any
from prunecli.surgery.names.suggest import nearest_names
from prunecli.surgery.places import checkpoint_location

__all__ = ["read_state"]


def read_state(
    path: str | os.PathLike[str], reading: ReadOptions, names: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint at a path or URL; tensors that share memory in the file share it here.

    With `names`, only those tensors are read.

    Raises:
        UsageError: there is no tensor with one of the names.
        UnsupportedError: a tensor does not consist of plain elements, or has the byte order of another machine.
        PrunecliError: as `open_any`.
    """
    text = os.fspath(path)
    with open_any(checkpoint_location("./-" if text == "-" else text), reading) as opened:
        for name, shard in opened.absent.items():
            raise UnreadableError(
                f"{opened.source.label}: {show(name)} is missing: the index puts it into {show(shard)}, which lacks "
                "it; fetch that shard again"
            )
        chosen = opened.tensors if names is None else _chosen(opened, names)
        memory: dict[str, torch.UntypedStorage] = {}
        state = {name: _tensor(opened, tensor, memory) for name, tensor in chosen.items()}
        check_unchanged(opened)
    return state


def _chosen(opened: AnyCheckpoint, names: Sequence[str]) -> dict[str, TensorInfo]:
    missing = next((name for name in names if name not in opened.tensors), None)
    if missing is not None:
        near = nearest_names(missing, list(opened.tensors), 1)
        meant = f"; its nearest is {show(near[0])}" if near else ""
        raise UsageError(f"{opened.source.label} has no tensor {show(missing)}{meant}")
    return {name: opened.tensors[name] for name in names}


def _tensor(opened: AnyCheckpoint, tensor: TensorInfo, memory: dict[str, torch.UntypedStorage]) -> Tensor:
    view, storage, name = tensor.view, tensor.storage, tensor.dtype.name
    if name not in DTYPES or tensor.span[1] > storage.nbytes or storage.big_endian:
        raise UnsupportedError(
            f"{opened.source.label}: {show(tensor.name)} is {name} and cannot be read here; load the file with "
            "torch.load, and give the state dict"
        )
    if storage.key not in memory:
        data = torch.empty(storage.nbytes, dtype=torch.uint8)
        if storage.nbytes:
            opened.source.read_into(storage.offset, data.numpy().data)
        memory[storage.key] = data.untyped_storage()
    return torch.empty(0, dtype=getattr(torch, name)).set_(memory[storage.key], view.start, view.shape, view.stride)
