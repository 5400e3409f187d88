"""The layout of a module in memory, like that of a checkpoint: named tensors in storages, and their bytes."""

import bisect
import contextlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from prunecli.errors import UnsupportedError, show
from prunecli.formats.base import Part, PassthroughFile, Storage, TensorInfo
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.io.pieces import Content, Outcome
from prunecli.formats.views import View
from prunecli.modules.shards import Shard, check_wrappers, is_spread, shard_of, to_shards

__all__ = ["LiveModule", "ModuleMemory", "WriteThrough"]


class ModuleMemory:
    """The storages of a module, on any devices, as one run of bytes."""

    name: str | None = None

    def __init__(self, label: str) -> None:
        self.label = label
        self.size = 0
        self._starts: list[int] = []
        self._runs: list[Tensor] = []
        self._undo: list[tuple[int, NDArray[np.uint8]]] = []

    def add(self, storage: torch.UntypedStorage) -> int:
        """Append a storage, and return the offset of its bytes."""
        start = self.size
        if storage.nbytes():
            self._starts.append(start)
            with torch.inference_mode(False):  # other threads could not write to an inference tensor
                self._runs.append(torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage))
            self.size += storage.nbytes()
        return start

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on."""
        for run, there, here in self._cut(offset, len(buffer)):
            torch.frombuffer(buffer[here], dtype=torch.uint8).copy_(run[there])

    def write(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes at `offset`; within `restored_on_failure`, the old bytes are kept."""
        before = np.empty_like(data)
        self.read_into(offset, before.data)
        if np.array_equal(before, data):
            return
        self._undo.append((offset, before))
        self._put(offset, data)

    @contextlib.contextmanager
    def restored_on_failure(self) -> Iterator[None]:
        """Restore the bytes that `write` overwrote, if the body raises."""
        try:
            yield
        except BaseException:
            for offset, before in self._undo:
                self._put(offset, before)
            raise
        finally:
            self._undo.clear()

    def _put(self, offset: int, data: NDArray[np.uint8]) -> None:
        for run, there, here in self._cut(offset, data.size):
            run[there].copy_(torch.from_numpy(data[here]))

    def _cut(self, offset: int, length: int) -> Iterator[tuple[Tensor, slice, slice]]:
        """Yield each storage that overlaps a range, with the overlapping part of the storage and of the range."""
        done = 0
        while done < length:
            index = bisect.bisect_right(self._starts, offset + done) - 1
            run, first = self._runs[index], offset + done - self._starts[index]
            count = min(length - done, run.numel() - first)
            yield run, slice(first, first + count), slice(done, done + count)
            done += count


class WriteThrough:
    """A content that edits a range of memory and writes the result back to it."""

    def __init__(self, content: Content, memory: ModuleMemory, offset: int) -> None:
        self.block = content.block
        self.workspace = content.workspace
        self._content = content
        self._memory = memory
        self._offset = offset

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Any) -> Outcome:
        """Edit the bytes, and write them back."""
        filled = self._content.fill(data, start, workspace)
        if filled.changed:
            self._memory.write(self._offset + start, data)
        return filled


class LiveModule:
    """The layout of a module, with the names, order and views of a file by `torch.save(module.state_dict())`.

    In addition, the layout records which tensors are buffers; buffers outside the state dict are in `carried`. For a
    `DTensor`, it has the whole shape and the part on this rank. `shards` are these parts by name, if they are not the
    whole tensor. `meshes` are the names of the shards on each mesh that has tensors. `refused` are the reasons, by
    name, why a `DTensor` cannot be used.

    Raises:
        UnsupportedError: a tensor has no values (on the meta device, or of a lazy module), or a module is TorchScript,
            or one of FSDP1 or ZeRO-3.
    """

    format = "module"
    no_masks_because: str | None = None
    metadata: Mapping[str, str] | None = None
    notes: Sequence[str] = ()
    is_folder = False
    path: None = None
    passthrough: Sequence[PassthroughFile] = ()
    absent: Mapping[str, str] = MappingProxyType({})

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.source = ModuleMemory(f"the module {show(type(module).__name__)}")
        if any(isinstance(each, torch.jit.ScriptModule) for each in module.modules()):
            raise UnsupportedError(
                f"{self.source.label} holds TorchScript, which cannot be changed in memory; prune the module that it "
                "was made from, or bake its file"
            )
        check_wrappers(module)
        to_shards(module)
        found = dict(_state(module))
        transient = dict(_transient_buffers(module))
        self.shards: dict[str, Shard] = {}
        self.refused: dict[str, str] = {}
        self.meshes: dict[Any, list[str]] = {}
        stored = {name: self._stored(name, tensor) for name, tensor in (found | transient).items()}
        storages = _storages(stored, self.source)

        def info(name: str, tensor: Tensor, *, buffer: bool) -> TensorInfo:
            return replace(self._info(name, tensor, stored[name], storages), buffer=buffer)

        self.tensors = {
            name: info(name, tensor, buffer=not isinstance(tensor, nn.Parameter)) for name, tensor in found.items()
        }
        self.carried = [info(name, tensor, buffer=True) for name, tensor in transient.items()]

    def _stored(self, name: str, tensor: Tensor) -> Tensor:
        """Return the tensor with the elements on this rank: the tensor itself, or the local part of a `DTensor`."""
        if not is_spread(tensor):
            return tensor
        shard = shard_of(tensor)
        if isinstance(shard, str):
            self.refused[name] = shard  # and opaque, since a DTensor is a wrapper
            return tensor
        names = self.meshes.setdefault(shard.mesh, [])
        if not shard.whole:
            self.shards[name] = shard
            names.append(name)
        return shard.local

    def _info(self, name: str, tensor: Tensor, stored: Tensor, storages: Mapping[str, Storage]) -> TensorInfo:
        dtype, shape = _dtype(stored), () if tensor.is_nested else tuple(tensor.shape)
        if dtype.name not in DTYPES:
            return TensorInfo(name, dtype, View.of(shape), Storage(name, 0, 0))  # the place of its bytes is unknown
        view = View(int(stored.storage_offset()), tuple(stored.shape), tuple(stored.stride()))
        storage = storages[_key(stored)]
        shard = self.shards.get(name)
        if shard is None:
            return TensorInfo(name, dtype, view, storage)
        here = f"{storage.key} from {view.start}" if stored.numel() else f"nothing of {id(tensor)}"
        part = Part(shard.offsets, view, storage if stored.numel() else Storage(here, 0, 0))
        nbytes = math.prod(shape) * dtype.itemsize
        whole = Storage(f"the whole of {here}", 0, nbytes, big_endian=storage.big_endian)
        return TensorInfo(name, dtype, View.of(shape), whole, parts=(part,))


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the state dict, in its order; those of a shared module under each of its names."""
    for path, owner in module.named_modules(remove_duplicate=False):
        passed = owner._non_persistent_buffers_set
        buffers = ((leaf, buffer) for leaf, buffer in owner._buffers.items() if leaf not in passed)
        for leaf, tensor in (*owner._parameters.items(), *buffers):
            if tensor is not None:
                name = f"{path}.{leaf}" if path else leaf
                _check_values(name, tensor)
                yield name, tensor


def _transient_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for path, owner in module.named_modules():
        for leaf in sorted(owner._non_persistent_buffers_set):
            tensor = owner._buffers.get(leaf)
            if tensor is not None and tensor.device.type != "meta":
                yield f"{path}.{leaf}" if path else leaf, tensor


def _check_values(name: str, tensor: Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise UnsupportedError(f"{show(name)} has no shape yet; run the module once, then prune it")
    if tensor.layout is torch.strided and _is_meta(tensor):
        raise UnsupportedError(
            f"{show(name)} is on the meta device and has no values; load them first: load_state_dict(..., assign=True)"
        )


def _is_meta(tensor: Tensor) -> bool:
    """Whether a tensor lacks values; a `FakeTensor` lacks them, too, although it reports another device."""
    wrapper: bool = is_traceable_wrapper_subclass(tensor)
    return tensor.is_meta or (not wrapper and tensor.untyped_storage().device.type == "meta")


def _dtype(tensor: Tensor) -> DType:
    """Return the element type; a tensor that is not a plain run of elements (sparse, quantised, sharded) is opaque."""
    name = str(tensor.dtype).removeprefix("torch.")
    wrapper: bool = is_traceable_wrapper_subclass(tensor)
    if tensor.is_nested:
        return DType(f"a nested tensor of {name}", tensor.dtype.itemsize, "opaque")
    if wrapper or tensor.layout is not torch.strided:
        kind = type(tensor).__name__ if tensor.layout is torch.strided else str(tensor.layout).removeprefix("torch.")
        return DType(f"a {kind} of {name}", tensor.dtype.itemsize, "opaque")
    return DTYPES.get(name, DType(name, tensor.dtype.itemsize, "opaque"))


def _key(tensor: Tensor) -> str:
    """Return a key for the memory of a tensor; storages may share memory, as for two tensors from one numpy array."""
    storage = tensor.untyped_storage()
    return f"{storage.device}:{storage.data_ptr()}"


def _storages(tensors: Mapping[str, Tensor], memory: ModuleMemory) -> dict[str, Storage]:
    """Return the storages of all tensors by key; of two storages that begin at the same address, the longer one."""
    longest: dict[str, torch.UntypedStorage] = {}
    for tensor in tensors.values():
        if _dtype(tensor).name in DTYPES:
            storage = tensor.untyped_storage()
            known = longest.get(_key(tensor))
            if known is None or storage.nbytes() > known.nbytes():
                longest[_key(tensor)] = storage
    swapped = sys.byteorder == "big"
    return {
        key: Storage(key, memory.add(storage), storage.nbytes(), big_endian=swapped) for key, storage in longest.items()
    }
