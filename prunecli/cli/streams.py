"""The standard streams of a command: always open, able to encode any name, and a full disk is a one-line error."""

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

    If standard output cannot be written (a full disk), the write or flush that fails raises an OutputError.
    If standard error cannot be written, the command goes on, and its exit code gives the result.
    A pipe without a reader raises BrokenPipeError in both.
    """
    # A file opened under the number of a closed stream would receive the data meant for that stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    out, err = sys.stdout or os.fdopen(1, "w"), sys.stderr or os.fdopen(2, "w")
    with redirect_stdout(_on(_Output, out)), redirect_stderr(_on(_Messages, err)):
        yield
        with suppress(OutputError, BrokenPipeError):  # for text printed before an error that has already been reported
            sys.stdout.flush()
        with suppress(BrokenPipeError):  # or an error may keep the stream alive, and its own line in it
            sys.stderr.flush()


class _Output(FileIO):
    """Standard output: a failed write is an error."""

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
    """Standard error: a failed write is ignored, since there is nowhere to report it."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write bytes, and return their number, even if the write fails."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


def _on(kind: type[FileIO], stream: TextIO) -> TextIO:
    """Return a stream like another one, on the same file; the same stream if it is not on a file (in tests)."""
    buffer = getattr(stream, "buffer", None)
    unbuffered = isinstance(buffer, FileIO)  # as with python -u
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
