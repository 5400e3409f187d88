"""The checksums of the tensors from which masks are read: a flipped bit must not become a mask."""

from collections.abc import Iterable

from prunecli.errors import show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.io.pieces import Checksum, Copy
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.stream import run_pieces

__all__ = ["check_sums"]


def check_sums(layout: Layout, tensors: Iterable[TensorInfo], jobs: int) -> None:
    """Check the bytes of tensors against the CRC-32 that the file records for them, as zips do.

    Raises:
        DamagedError: they differ, or the file ends early.
        UnreadableError: it cannot be read.
    """
    summed = {
        storage.key: (tensor.name, storage)
        for tensor in tensors
        for storage in tensor.storages
        if storage.crc is not None and storage.nbytes
    }
    label = layout.source.label
    pieces = [
        Copy(each.offset, each.nbytes, before=Checksum(each.nbytes, each.crc, f"{label}: {show(name)}"))
        for name, each in summed.values()
    ]
    if pieces:
        run_pieces(pieces, layout.source, NullSink(), jobs=jobs)
