"""The standard streams of a command: none is closed, no name is beyond their encoding, and a full disk is one line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, TextIO

from prunecli.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["standard_streams"]


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make standard output and standard error safe to write to while the block runs.

    Standard output that cannot be written (a full disk) raises an OutputError at the write or the flush that meets it.
    Standard error that cannot be written ends nothing: the work is done, and its exit code says how.
    A pipe that nobody reads raises BrokenPipeError in both.
    """
    # A file of ours that got the number of a closed stream would receive what is meant for that stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    out, err = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    with redirect_stdout(_on(_Output, out)), redirect_stderr(_on(_Messages, err)):
        yield
        with suppress(OutputError, BrokenPipeError):  # what was printed before an error, which has been reported
            sys.stdout.flush()


class _Output(FileIO):
    """Standard output: what cannot be written is an error."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, and return how many were written."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            from prunecli.formats.outputs.file import stdout_failure

            raise stdout_failure(error) from error


class _Messages(FileIO):
    """Standard error: what cannot be written is lost, as nobody can be told."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, and return how many there were."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def _on(kind: type[FileIO], stream: TextIO) -> TextIO:
    """Return a stream like another one, on the same file; the same one where it is not on a file (in tests)."""
    buffer = getattr(stream, "buffer", None)
    unbuffered = isinstance(buffer, FileIO)  # as python -u has it
    if not isinstance(stream, TextIOWrapper) or not (unbuffered or isinstance(getattr(buffer, "raw", None), FileIO)):
        return stream
    stream.flush()
    raw = kind(stream.fileno(), "w", closefd=False)
    return TextIOWrapper(
        raw if unbuffered else BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
