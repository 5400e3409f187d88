"""Whether a tensor holds nothing but 0 and 1, as masks do: a look at its values that ends with the first other one."""

import weakref
from dataclasses import dataclass, field

import numpy as np

from prunecli.core.block import BLOCK
from prunecli.core.raw_elements import is_one, is_zero, unsigned
from prunecli.core.scratch import Buffer
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.io.source import ByteSource

__all__ = ["is_binary"]

_LOOKS = 2
"""How often, on the average, each byte of a source is looked at: a small file can name one stretch very often."""


@dataclass(slots=True)
class _Known:
    """What was found in a source, and how many bytes may still be looked at."""

    left: int
    answers: dict[object, bool] = field(default_factory=dict)


_seen: dict[int, tuple["weakref.ref[ByteSource]", _Known]] = {}
"""What was found, by the identity of the source: a command asks several times, and a mask may be large."""


def is_binary(checkpoint: Layout, tensor: TensorInfo) -> bool:
    """Return whether all elements of a tensor are 0 or 1.

    Booleans are, without a look. Of others a block is held at a time. Where too many tensors share their memory to look
    at each, it is not known, and the answer is no.

    Raises:
        DamagedError: the file ends early.
        UnreadableError: it cannot be read.
    """
    if tensor.dtype.kind == "bool" or not tensor.elements:
        return True
    known = _known(checkpoint.source)
    place = (tensor.storage.key, tensor.storage.offset, tensor.dtype.name, tensor.view)
    if place not in known.answers:
        known.left -= tensor.span[1] - tensor.span[0]
        known.answers[place] = known.left >= 0 and _look(checkpoint, tensor)
    return known.answers[place]


def _known(source: ByteSource) -> _Known:
    """Return what was found in a source, until it is gone."""
    number = id(source)
    reference, known = _seen.get(number, (None, None))
    if known is None or reference is None or reference() is not source:
        known = _Known(_LOOKS * source.size)
        _seen[number] = weakref.ref(source, lambda _: _seen.pop(number, None)), known
    return known


def _look(checkpoint: Layout, tensor: TensorInfo) -> bool:
    dtype, view = tensor.dtype, tensor.view
    stored, zero, room = Buffer(), Buffer(), Buffer()
    for first in range(view.start, view.stop, BLOCK):
        count = min(BLOCK, view.stop - first)
        part = stored.bytes(count * dtype.itemsize)
        checkpoint.source.read_into(tensor.storage.offset + first * dtype.itemsize, part.data)
        raw = unsigned(part, dtype.itemsize, big_endian=tensor.storage.big_endian, paired=dtype.paired)
        if not view.row_major:
            raw = raw[view.place(first, count)[0]]
        found = is_zero(raw, signed_zero=dtype.signed_zero, out=zero.flags(raw.size), room=room)
        if not np.all(found | is_one(raw, dtype.one)):
            return False
    return True
