"""The values that a model uses, weight times mask, read in row-major order, whatever their strides."""

from dataclasses import replace

import numpy as np

from prunecli.core.raw_elements import Flags, Unsigned, is_one, is_zero, scale
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.views import View
from prunecli.surgery.data.final_mask import Elements, check_scalable
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["EffectiveValues", "comparable"]

_WIDTHS = (1, 2, 4, 8)
"""The element sizes in bytes that can be read as integers."""


class EffectiveValues:
    """One side of a comparison: the elements of a parameter as raw integers. `sums` sum up what is read."""

    def __init__(self, layout: Layout, parameter: Parameter, weight: TensorInfo, sums: ReadSums | None = None) -> None:
        self._parameter = parameter
        self._signed_zero = parameter.weight.dtype.signed_zero
        self._weight = Elements(layout.source, weight, sums)
        mask = parameter.mask
        self._mask = None if mask is None else Elements(layout.source, mask, sums)
        self._one = 1 if mask is None else mask.dtype.one

    def read(self, start: int, count: int, workspace: Workspace) -> Unsigned:
        """Return the elements `start .. start + count - 1` as they are stored, shape `(count,)`; do not change them."""
        return self._weight.read(start, count, workspace.weight)

    def effective(self, start: int, count: int, workspace: Workspace) -> tuple[Unsigned, Flags]:
        """Return elements times their mask (valid where that is not zero), and which are zero; shapes `(count,)`.

        Raises:
            UnsupportedError: the mask has values other than 0 and 1, and is not of the weight's type.
        """
        raw, zero = self.read(start, count, workspace), workspace.zero.flags(count)
        if self._mask is None:
            return raw, is_zero(raw, signed_zero=self._signed_zero, out=zero, room=workspace.room)
        mask, dropped = self._mask.read(start, count, workspace.mask), workspace.before.flags(count)
        is_zero(mask, signed_zero=self._mask.tensor.dtype.signed_zero, out=dropped, room=workspace.room)
        if np.count_nonzero(dropped) + np.count_nonzero(is_one(mask, self._one)) != count:
            check_scalable(self._parameter)
            dtype, raw = self._parameter.weight.dtype, raw.copy()
            scale(raw, mask, dtype.half or dtype.name)
        is_zero(raw, signed_zero=self._signed_zero, out=zero, room=workspace.room)
        return raw, np.logical_or(zero, dropped, out=zero)

    def release(self) -> None:
        """Free the memory of gathered tensors."""
        self._weight.release()
        if self._mask is not None:
            self._mask.release()


def comparable(one: TensorInfo, other: TensorInfo) -> tuple[TensorInfo, TensorInfo] | None:
    """Return two tensors of one shape and type in a form that can be read element by element, None if there is none.

    Tensors that are expanded in the same way on both sides are returned without the repetitions.
    """
    readable = one.dtype.itemsize in _WIDTHS or one.dtype.paired
    return _stored_once(one, other) if readable and _is_stored(one) and _is_stored(other) else None


def _is_stored(tensor: TensorInfo) -> bool:
    """Whether all elements lie in one storage; those of a sparse or quantised tensor do not."""
    return not tensor.elements or tensor.span[1] <= tensor.storage.nbytes


def _stored_once(one: TensorInfo, other: TensorInfo) -> tuple[TensorInfo, TensorInfo] | None:
    if one.view.repeats > 1 or other.view.repeats > 1:
        dims, others = (_repeated(each.view) for each in (one, other))
        if dims != others:
            return None
        one, other = (replace(each, view=_without_repeats(each.view)) for each in (one, other))
    if not (one.view.nested and other.view.nested):
        return None
    return one, other


def _repeated(view: View) -> list[bool]:
    return [size != 1 and step == 0 for size, step in zip(view.shape, view.stride, strict=True)]


def _without_repeats(view: View) -> View:
    dims = [
        (size, step) for size, step in zip(view.shape, view.stride, strict=True) if size == 1 or step != 0 or not size
    ]
    return View(view.start, tuple(size for size, _ in dims), tuple(step for _, step in dims))
