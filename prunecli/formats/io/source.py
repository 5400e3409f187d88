"""The input: a file that is opened once and read at offsets, never memory-mapped and never changed."""

import errno
import functools
import os
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Concatenate, ParamSpec, Protocol, TypeVar

from prunecli.errors import DamagedError, UnreadableError, raised_in, show
from prunecli.formats.io.locations import Location
from prunecli.formats.io.neighbours import nearest_path
from prunecli.lean import dataclass

__all__ = ["ByteSource", "FileSource", "Source", "Window", "in_source", "open_source", "open_stdin"]

_SPOOL = 1 << 20


_Of = TypeVar("_Of", bound="Source")
_More = ParamSpec("_More")
_Read = TypeVar("_Read")


def in_source(read: Callable[Concatenate[_Of, _More], _Read]) -> Callable[Concatenate[_Of, _More], _Read]:
    """Return a wrapper for a function whose first argument is a source: its errors name that source."""

    @functools.wraps(read)
    def reading(source: _Of, /, *more: _More.args, **options: _More.kwargs) -> _Read:
        with raised_in(source.label):
            return read(source, *more, **options)

    return reading


class ByteSource(Protocol):
    """Bytes that can be read at offsets: a file, or anything else with a layout.

    `label` is its name in messages; `name` is the user's name for it, None for a stream or anything else without one.
    """

    @property
    def label(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def size(self) -> int: ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on."""


class Source(ABC):
    """A file from which a checkpoint is read, on this machine or elsewhere."""

    label: str
    name: str | None
    size: int
    is_packed: ClassVar[bool] = False
    """Whether these are the bytes of the original of a packed file, not those of the file itself."""

    def stored_as(self, offset: int, size: int) -> str:
        """Return how a packed file stores the tensor with these bytes of the original; "" if it is not packed."""
        return ""

    @property
    def location(self) -> Location | None:
        """The location of the file, None for a stream."""
        return None if self.name is None else Path(self.name)

    @property
    def mode(self) -> int | None:
        """Its permissions, None if they have no meaning on this machine."""
        return None

    @property
    @abstractmethod
    def state(self) -> str:
        """A string that changes if the file does, as far as its file system records changes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on."""
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    @abstractmethod
    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: the file ends too early, from the start or because it was truncated since it was opened.
            UnreadableError: it cannot be read.
        """

    def prefetch(self, runs: Iterable[tuple[int, int]]) -> None:  # noqa: B027  (as below)
        """Announce runs of the file (offset and length) to be read soon; slow sources fetch them all at once.

        Raises:
            UnreadableError: they cannot be read.
        """

    def check_unchanged(self) -> None:  # noqa: B027  (most sources have nothing to do)
        """Check, after everything has been read, that the file has not changed; for sources where that needs a check.

        Raises:
            UnreadableError: the file has changed.
        """


@dataclass(frozen=True)
class FileSource(Source):
    """A regular file open for reading."""

    descriptor: int
    size: int
    label: str
    name: str | None
    status: os.stat_result

    @property
    def mode(self) -> int | None:
        """Its permissions, without setuid and setgid; None for a stream, which may come from a temporary file."""
        return None if self.name is None else self.status.st_mode & 0o777

    @property
    def state(self) -> str:
        """Its time of modification, in nanoseconds."""
        return str(self.status.st_mtime_ns)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: the file ends too early, from the start or because it was truncated since it was opened.
            UnreadableError: the device failed.
        """
        done = 0
        while done < len(buffer):
            try:
                got = _read_at(self.descriptor, buffer[done:], offset + done)
            except OSError as error:
                raise UnreadableError(f"cannot read {self.label} at byte {offset + done}: {error.strerror}") from error
            if got == 0:
                raise DamagedError(f"{self.label} ends at byte {offset + done}, in the middle of its data")
            done += got


def _read_at(descriptor: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = os.pread(descriptor, len(buffer), offset)  # macOS before 11
    buffer[: len(data)] = data
    return len(data)


@dataclass(frozen=True)
class Window(Source):
    """A part of another source, presented as a file: the `size` bytes from `start` on."""

    base: Source
    start: int
    size: int
    label: str
    name: None = None

    @property
    def state(self) -> str:
        """The state of the other source."""
        return self.base.state

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: the window or the source ends too early.
            UnreadableError: as for the source.
        """
        if offset + len(buffer) > self.size:
            raise DamagedError(f"{self.label} ends at byte {self.size}, in the middle of its data")
        self.base.read_into(self.start + offset, buffer)


@contextmanager
def open_source(path: Path) -> Iterator[FileSource]:
    """Open a regular file for reading; refuse a pipe, a device or a folder at once, without waiting for it.

    Raises:
        UnreadableError: it is missing, forbidden, or not a regular file.
    """
    label = show(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = "; allow more with 'ulimit -n'" if error.errno == errno.EMFILE else ""
        near = nearest_path(path) if error.errno == errno.ENOENT else None
        remedy = f"; did you mean {show(near)}?" if near else remedy
        raise UnreadableError(f"cannot open {label}: {error.strerror}{remedy}") from error
    except ValueError:
        raise UnreadableError(f"cannot open {label}: the name holds a NUL byte") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise UnreadableError(f"{label} is a folder; name one checkpoint file in it")
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError(f"{label} is {_kind(status.st_mode)}, not a regular file; give '-' to read a stream")
        yield FileSource(descriptor, status.st_size, label, str(path), status)
    finally:
        os.close(descriptor)


@contextmanager
def open_stdin(descriptor: int = 0) -> Iterator[FileSource]:
    """Open standard input as a source: directly if it is a regular file, else through an unnamed temporary file.

    Raises:
        UnreadableError: standard input is a terminal, or the temporary folder cannot hold the data.
    """
    status = os.fstat(descriptor)
    if os.isatty(descriptor):
        raise UnreadableError(
            "standard input is a terminal; redirect a checkpoint into it, as in '< model.safetensors'"
        )
    if stat.S_ISREG(status.st_mode) and os.lseek(descriptor, 0, os.SEEK_CUR) == 0:
        yield FileSource(descriptor, status.st_size, "standard input", None, status)
        return
    with tempfile.TemporaryFile(prefix="prunecli-") as spool:
        try:
            while block := os.read(descriptor, _SPOOL):
                spool.write(block)
            spool.flush()
        except OSError as error:
            raise UnreadableError(
                f"cannot spool standard input to {show(tempfile.gettempdir())}: {error.strerror}; "
                "set TMPDIR to a folder with room, or redirect a file"
            ) from error
        status = os.fstat(spool.fileno())
        yield FileSource(spool.fileno(), status.st_size, "standard input", None, status)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")
