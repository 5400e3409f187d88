"""Files, followed by the tensors that are stored in parts in them, each as one row-major run of bytes."""

import bisect
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.formats.base import Part, TensorInfo
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.dcp.boxes import Box

__all__ = ["Reassembled", "box_of"]

_STEP = 1 << 20


def box_of(tensor: TensorInfo, part: Part) -> Box:
    """Return the elements of a tensor that a part of it contains."""
    return Box(tensor.shape, part.offsets, part.view.shape)


class Reassembled:
    """Files one after the other, then tensors assembled from their parts; `size` is that of the files.

    The storages of `tensors` lie, in order, after the end of the files. A part that is not row-major is gathered as a
    whole at the first read, and kept until another tensor is read.
    """

    def __init__(self, files: Concatenated, tensors: Sequence[TensorInfo]) -> None:
        self.label = files.label
        self.name = files.name
        self.size = files.size
        self._files = files
        self._tensors = tensors
        self._starts = [tensor.storage.offset for tensor in tensors]
        self._kept: dict[str, NDArray[np.void]] = {}
        self._kept_of = ""
        self._lock = threading.Lock()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on, all of them in the files or in one tensor.

        Raises:
            DamagedError: a file has become shorter.
        """
        if offset < self.size or not self._tensors:
            self._files.read_into(offset, buffer)
            return
        tensor = self._tensors[bisect.bisect_right(self._starts, offset) - 1]
        itemsize = tensor.dtype.itemsize
        start = offset - tensor.storage.offset
        first, stop = start // itemsize, -(-(start + len(buffer)) // itemsize)
        elements = np.empty(stop - first, dtype=f"V{itemsize}")
        for part in tensor.parts:
            box = box_of(tensor, part)
            low, high = box.below(first), box.below(stop)
            if high > low:
                elements[box.place(low, high - low, first)] = self._read(tensor, part, low, high - low)
        begin = start - first * itemsize
        buffer[:] = elements.view(np.uint8)[begin : begin + len(buffer)].data

    def _read(self, tensor: TensorInfo, part: Part, first: int, count: int) -> NDArray[np.void]:
        itemsize = tensor.dtype.itemsize
        if part.view.row_major:
            return self._stored(part, part.view.start + first, count, itemsize)
        with self._lock:
            if self._kept_of != tensor.storage.key:
                self._kept_of, self._kept = tensor.storage.key, {}
            if part.storage.key not in self._kept:
                self._kept[part.storage.key] = self._gather(part, itemsize)
            return self._kept[part.storage.key][first : first + count]

    def _stored(self, part: Part, first: int, count: int, itemsize: int) -> NDArray[np.void]:
        data = np.empty(count, dtype=f"V{itemsize}")
        self._files.read_into(part.storage.offset + first * itemsize, data.view(np.uint8).data)
        return data

    def _gather(self, part: Part, itemsize: int) -> NDArray[np.void]:
        view = part.view
        gathered = np.empty(view.elements, dtype=f"V{itemsize}")
        for first in range(view.start, view.stop, _STEP):
            count = min(_STEP, view.stop - first)
            inside, logical = view.place(first, count)
            gathered[logical[inside]] = self._stored(part, first, count, itemsize)[inside]
        return gathered
