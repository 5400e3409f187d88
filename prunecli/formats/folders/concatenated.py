"""Several files read as one run of bytes, so that what is planned and counted over one file is over many."""

import bisect
from collections.abc import Sequence

from prunecli.formats.io.source import ByteSource

__all__ = ["Concatenated"]


class Concatenated:
    """Sources one behind the other; `starts` says where each begins."""

    def __init__(self, sources: Sequence[ByteSource], label: str, name: str | None) -> None:
        self.label = label
        self.name = name
        self.size = 0
        self.starts: list[int] = []
        self._sources = sources
        for source in sources:  # none is empty: each holds a header
            self.starts.append(self.size)
            self.size += source.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: as the source, if it has become shorter.
        """
        done = 0
        while done < len(buffer):
            index = bisect.bisect_right(self.starts, offset + done) - 1
            inside = offset + done - self.starts[index]
            count = min(len(buffer) - done, self._sources[index].size - inside)
            self._sources[index].read_into(inside, buffer[done : done + count])
            done += count
