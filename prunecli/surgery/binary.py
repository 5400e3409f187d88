"""Whether a tensor holds nothing but 0 and 1, as masks do: a look at its values that ends with the first other one."""

import weakref

import numpy as np

from prunecli.core.masking import is_one, is_zero, unsigned
from prunecli.core.sampling import BLOCK
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.source import Bytes

__all__ = ["is_binary"]

_seen: dict[int, tuple["weakref.ref[Bytes]", dict[object, bool]]] = {}
"""What was found, by the identity of the source: a command asks several times, and a mask may be large."""


def is_binary(checkpoint: Layout, tensor: TensorInfo) -> bool:
    """Tell whether all elements of a tensor are 0 or 1.

    Booleans are, without a look. Of others a block is held at a time.

    Raises:
        DamagedError: the file ends early.
        UnreadableError: it cannot be read.
    """
    if tensor.dtype.kind == "bool" or not tensor.elements:
        return True
    known = _known(checkpoint.source)
    place = (tensor.storage.key, tensor.storage.offset, tensor.dtype.name, tensor.view)
    if place not in known:
        known[place] = _look(checkpoint, tensor)
    return known[place]


def _known(source: Bytes) -> dict[object, bool]:
    """Return what was found in a source, until it is gone."""
    number = id(source)
    reference, known = _seen.get(number, (None, {}))
    if reference is None or reference() is not source:
        known = {}
        _seen[number] = weakref.ref(source, lambda _: _seen.pop(number, None)), known
    return known


def _look(checkpoint: Layout, tensor: TensorInfo) -> bool:
    dtype, view = tensor.dtype, tensor.view
    data = np.empty(min(BLOCK, view.stop - view.start) * dtype.itemsize, dtype=np.uint8)
    for first in range(view.start, view.stop, BLOCK):
        count = min(BLOCK, view.stop - first)
        part = data[: count * dtype.itemsize]
        checkpoint.source.read_into(tensor.storage.offset + first * dtype.itemsize, part.data)
        raw = unsigned(part, dtype.itemsize, big_endian=checkpoint.big_endian, paired=dtype.paired)
        if not view.row_major:
            raw = raw[view.place(first, count)[0]]
        zero = is_zero(raw, signed_zero=dtype.signed_zero, out=np.empty(raw.size, dtype=np.bool_))
        if not np.all(zero | is_one(raw, dtype.one)):
            return False
    return True
