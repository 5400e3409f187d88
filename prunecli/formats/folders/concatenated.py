"""Several files read as one run of bytes, so that code that plans and counts over one file works for many."""

import bisect
from collections.abc import Sequence

from prunecli.formats.io.source import ByteSource

__all__ = ["Concatenated"]


class Concatenated:
    """Sources one after the other; `starts` are the offsets at which they begin."""

    def __init__(self, sources: Sequence[ByteSource], label: str, name: str | None) -> None:
        self.label = label
        self.name = name
        self.size = 0
        self.starts: list[int] = []
        self._sources = sources
        for source in sources:  # no source is empty: each has a header
            self.starts.append(self.size)
            self.size += source.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on.

        Raises:
            DamagedError: a source has become shorter.
        """
        done = 0
        while done < len(buffer):
            index = bisect.bisect_right(self.starts, offset + done) - 1
            inside = offset + done - self.starts[index]
            count = min(len(buffer) - done, self._sources[index].size - inside)
            self._sources[index].read_into(inside, buffer[done : done + count])
            done += count
