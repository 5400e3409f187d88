"""The targets to which the chunks of an output are written."""

import os
import threading
from typing import Protocol

__all__ = ["FileSink", "NullSink", "PipeSink", "Sink"]


_AT_ONCE = 128 << 10
"""The most bytes of a write, which ends at a multiple of this offset.

Linux gives a longer write larger pages of its cache. The host of a virtual machine may take back free memory; it takes
large pages, and supplying them again costs ten times the copy into them. Small pages are often still there.
"""


class Sink(Protocol):
    """A target for chunks."""

    ordered: bool
    """Whether chunks must be written in the order of the file."""

    def write(self, data: memoryview, offset: int) -> None:
        """Write a run of the output at its offset."""


class FileSink:
    """A regular file, written at offsets in any order."""

    ordered = False

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # The kernel lets only one thread at a time write to a file; waiting threads would waste their processors.
        self._writing = threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        done = 0
        with self._writing:
            while done < len(data):
                stop = done + _AT_ONCE - (offset + done) % _AT_ONCE
                done += os.pwrite(self._descriptor, data[done:stop], offset + done)
        # For dirty pages, Linux takes this advice as a request to start writing them to the disk now. The disk then
        # works while the next chunks are made, and little is left for the fsync at the end.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, len(data), os.POSIX_FADV_DONTNEED)


class PipeSink:
    """A stream, written in order."""

    ordered = True

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: memoryview, offset: int) -> None:
        """Append all of `data`; `offset` is the current position of the stream."""
        done = 0
        while done < len(data):
            done += os.write(self._descriptor, data[done:])


class NullSink:
    """A sink that drops its data, for pieces that are only examined."""

    ordered = False

    def write(self, data: memoryview, offset: int) -> None:
        """Drop the data."""
