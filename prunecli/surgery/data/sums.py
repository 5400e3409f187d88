"""The checksums of tensors that are read and not written: a flipped bit must not become a mask or a difference."""

import threading
from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from prunecli.errors import show
from prunecli.formats.base import Layout, Storage, TensorInfo
from prunecli.formats.crc import crc32
from prunecli.formats.io.pieces import Checksum, Copy
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import run_pieces

__all__ = ["ReadSums", "check_sums"]


class ReadSums:
    """The CRC-32 of a layout's tensors, computed while they are read. Several threads may add to them.

    Runs of one record begin at multiples of the same number of elements, whichever tensor they are read for.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._lock = threading.Lock()
        self._tensors: list[TensorInfo] = []
        self._sums: dict[tuple[str, int], Checksum] = {}
        """By storage and size of an element."""

    def expect(self, tensor: TensorInfo) -> bool:
        """Note that a tensor will be read, and return whether its bytes have to be passed to `add`."""
        storage = tensor.storage
        if all(each.crc is None for each in tensor.storages):
            return False
        self._tensors.append(tensor)
        if storage.crc is None or tensor.parts or tensor.span != (0, storage.nbytes):
            return False
        self._sums.setdefault((storage.key, tensor.dtype.itemsize), _checksum(self.layout, tensor.name, storage))
        return True

    def add(self, tensor: TensorInfo, start: int, data: NDArray[np.uint8]) -> None:
        """Add bytes of an expected tensor, from byte `start` of its storage on.

        Raises:
            DamagedError: they complete a record, and its CRC-32 is not the recorded one.
        """
        run = start, crc32(data), data.nbytes
        with self._lock:
            self._sums[tensor.storage.key, tensor.dtype.itemsize].add(run)

    def check(self, jobs: int, others: Iterable[TensorInfo] = ()) -> None:
        """Check the expected tensors that were not read as whole records, and others; raises as `check_sums`."""
        done = {key for (key, _), checksum in self._sums.items() if checksum.ready}
        check_sums(self.layout, (*self._tensors, *others), jobs, done)


def check_sums(layout: Layout, tensors: Iterable[TensorInfo], jobs: int, done: Collection[str] = ()) -> None:
    """Check the bytes of tensors against the CRC-32 that the file records for them, as zips do.

    `done` are the keys of storages that have been checked.

    Raises:
        DamagedError: they differ, or the file ends early.
        UnreadableError: it cannot be read.
    """
    summed = {
        storage.key: (tensor.name, storage)
        for tensor in tensors
        for storage in tensor.storages
        if storage.crc is not None and storage.nbytes and storage.key not in done
    }
    pieces = [Copy(each.offset, each.nbytes, before=_checksum(layout, name, each)) for name, each in summed.values()]
    if pieces:
        run_pieces(pieces, layout.source, NullSink(), jobs=jobs)


def _checksum(layout: Layout, name: str, storage: Storage) -> Checksum:
    return Checksum(storage.nbytes, storage.crc, f"{layout.source.label}: {show(name)}")
