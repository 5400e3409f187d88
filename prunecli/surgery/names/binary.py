"""Whether a tensor contains only 0 and 1, as masks do; reading stops at the first other value."""

import weakref
from dataclasses import field

from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.io.source import ByteSource
from prunecli.lean import dataclass

__all__ = ["is_binary"]

_LOOKS = 2
"""How often each byte of a source may be read, on average: in a small file, very many tensors can share one range."""


@dataclass(slots=True)
class _Known:
    """The answers for a source, and how many bytes may still be read."""

    left: int
    answers: dict[object, bool] = field(default_factory=dict)


_seen: dict[int, tuple["weakref.ref[ByteSource]", _Known]] = {}
"""The answers by the identity of the source, kept because a command asks several times, and a mask may be large."""


def is_binary(checkpoint: Layout, tensor: TensorInfo) -> bool:
    """Return whether all elements of a tensor are 0 or 1.

    Booleans are not read, since they always are. Other types are read one block at a time. If too many tensors share
    memory to read each of them, the answer is False.

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
    """Return the answers for a source; they are kept as long as the source exists."""
    number = id(source)
    reference, known = _seen.get(number, (None, None))
    if known is None or reference is None or reference() is not source:
        known = _Known(_LOOKS * source.size)
        _seen[number] = weakref.ref(source, lambda _: _seen.pop(number, None)), known
    return known


def _look(checkpoint: Layout, tensor: TensorInfo) -> bool:
    from prunecli.core.block import BLOCK  # they import numpy; most files have no tensor that must be looked at
    from prunecli.core.raw_elements import is_one, is_zero, unsigned
    from prunecli.core.scratch import Buffer

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
        if not (found | is_one(raw, dtype.one)).all():
            return False
    return True
