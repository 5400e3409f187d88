"""The masks of single parameters, read block by block: from a tensor of 0 and 1, from bits, or from zeros."""

import numpy as np

from prunecli.core.raw_elements import Flags, is_one, is_zero
from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.views import View
from prunecli.surgery.data.effective import EffectiveValues
from prunecli.surgery.data.final_mask import Elements
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["PackedFlags", "StoredFlags", "ZeroFlags"]


class StoredFlags:
    """A mask stored as a tensor with a number, 0 or 1, for each element."""

    def __init__(self, layout: Layout, name: str, key: str, tensor: TensorInfo) -> None:
        if not tensor.dtype.prunable or not tensor.view.nested or (tensor.elements and tensor.view.repeats > 1):
            raise UnsupportedError(
                f"{layout.source.label}: the mask of {show(name)} is not one of single elements (it is "
                f"{tensor.dtype.name}, strides {tensor.view.stride})"
            )
        self.name, self.key, self.shape, self.elements = name, key, tensor.shape, tensor.elements
        self.width = tensor.dtype.itemsize
        self.tensors = (tensor,)
        self.place = tensor.storage.key, tensor.storage.offset, tensor.view, tensor.dtype.name
        self._layout, self._tensor = layout, tensor
        self._elements = Elements(layout.source, tensor)
        self._direct = tensor.view.row_major and tensor.dtype.kind in ("bool", "int") and self.width == 1

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on; raises as `KeptFlags.read`."""
        tensor = self._tensor
        if self._direct:  # the bytes in the file are the flags
            raw = out.view(np.uint8)
            self._layout.source.read_into(tensor.storage.offset + tensor.view.start + start, raw.data)
            if raw.size and raw.max() > 1:
                raise self._wrong(start + int(np.argmax(raw > 1)))
            return
        stored = self._elements.read(start, out.size, workspace.given)
        is_zero(stored, signed_zero=tensor.dtype.signed_zero, out=out, room=workspace.room)
        ones = is_one(stored, tensor.dtype.one)
        if np.count_nonzero(out) + np.count_nonzero(ones) != out.size:
            raise self._wrong(start + int(np.argmin(out | ones)))
        np.logical_not(out, out=out)

    def release(self) -> None:
        """Free the memory of a gathered tensor."""
        self._elements.release()

    def _wrong(self, position: int) -> DamagedError:
        index = [int(each) for each in np.unravel_index(position, self.shape)]
        return DamagedError(
            f"{self._layout.source.label}: the mask of {show(self.name)} has a value other than 0 and 1, at {index}"
        )


class PackedFlags:
    """A mask stored as bits, those of eight elements in a byte, the first one in the lowest bit."""

    width = 1

    def __init__(self, layout: Layout, name: str, key: str, tensor: TensorInfo, shape: tuple[int, ...]) -> None:
        self.name, self.key, self.shape, self.elements = name, key, shape, View.of(shape).elements
        self.tensors = (tensor,)
        self.place = tensor.storage.key, tensor.storage.offset, shape
        if tensor.dtype.name != "uint8" or tensor.shape != (-(-self.elements // 8),):
            raise DamagedError(
                f"{layout.source.label}: the bits of {show(name)} are {tensor.dtype.name} of shape {tensor.shape}, "
                f"and {self.elements} elements need uint8 of shape {(-(-self.elements // 8),)}"
            )
        self._layout, self._offset = layout, tensor.storage.offset

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on; raises as `KeptFlags.read`."""
        first, stop = start // 8, -(-(start + out.size) // 8)
        packed = workspace.given.bytes(stop - first)
        self._layout.source.read_into(self._offset + first, packed.data)
        if start + out.size == self.elements and self.elements % 8 and packed[-1] >> (self.elements % 8):
            raise DamagedError(f"{self._layout.source.label}: {show(self.name)} has bits set behind its last element")
        bits = np.unpackbits(packed, bitorder="little")
        np.copyto(out.view(np.uint8), bits[start - 8 * first :][: out.size])

    def release(self) -> None:
        """Do nothing: no tensor is gathered."""


class ZeroFlags:
    """A mask made from a parameter's values, weight times mask: zeros are pruned."""

    def __init__(self, layout: Layout, parameter: Parameter, sums: ReadSums | None = None) -> None:
        weight, mask = parameter.weight, parameter.mask
        self.name, self.key, self.shape, self.elements = parameter.name, parameter.key, weight.shape, weight.elements
        self.tensors = (weight,) if mask is None else (weight, mask)
        self.width = sum(each.dtype.itemsize for each in self.tensors)
        self.place = tuple((each.storage.key, each.storage.offset, each.view, each.dtype.name) for each in self.tensors)
        self._values = EffectiveValues(layout, parameter, weight, sums)

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on; raises as `KeptFlags.read`."""
        np.logical_not(self._values.effective(start, out.size, workspace)[1], out=out)

    def release(self) -> None:
        """Free the memory of gathered tensors."""
        self._values.release()
