"""An unnamed temporary file, for an output whose size or first bytes are known only at its end."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from prunecli.errors import OutputError, show
from prunecli.formats.io.sinks import FileSink, Sink

__all__ = ["spooled"]

_COPY = 1 << 20


@contextmanager
def spooled(begin: Callable[[int], AbstractContextManager[Sink]]) -> Iterator[FileSink]:
    """Yield a sink that takes bytes at any offset; they are then copied in order to the one that `begin` returns.

    Raises:
        OutputError: the temporary file cannot be written.
        OSError: the other sink cannot be written.
    """
    with tempfile.TemporaryFile(prefix="prunecli-") as spool:
        try:
            yield FileSink(spool.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot spool the output to {show(tempfile.gettempdir())}: {error.strerror}; "
                "set TMPDIR to a folder with room, or write to a file"
            ) from error
        size, at = os.fstat(spool.fileno()).st_size, 0
        with begin(size) as sink:
            while at < size:
                block = os.pread(spool.fileno(), _COPY, at)
                sink.write(memoryview(block), at)
                at += len(block)
