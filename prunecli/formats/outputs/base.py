"""The interface of all outputs: a local file or folder, a file or folder at a URL, or standard output.

An output is checked first, then begun, and filled file by file. At the end it gets its name; if anything fails, it
leaves nothing behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeGuard

from prunecli.errors import OutputError
from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.sinks import NullSink, Sink
from prunecli.formats.io.source import ByteSource
from prunecli.lean import dataclass
from prunecli.terms import FORCE, OUTPUT

__all__ = [
    "Output",
    "OutputContents",
    "OutputFile",
    "OutputWriter",
    "ResumableOutput",
    "SingleFileOutput",
    "Transfer",
    "exists_already",
    "is_resumable",
    "sink_of",
]


@dataclass(frozen=True, eq=False)
class OutputFile:
    """A file of the output: its pieces over a source. If it does not change, its pieces are only read.

    `mode` are its permissions, None for those of any new file. A `closing` file is put in place last, because it makes
    the folder a checkpoint.
    """

    name: str
    pieces: Sequence[Piece]
    source: ByteSource
    changes: bool = True
    mode: int | None = None
    closing: bool = False

    @property
    def size(self) -> int:
        """The bytes of the pieces, which are those of the file if it changes."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True)
class OutputContents:
    """All files of an output: those that are written or only read, and those that are carried along unchanged."""

    files: Sequence[OutputFile]
    passthrough: Sequence[PassthroughFile] = ()

    @property
    def written(self) -> list[OutputFile]:
        """The files that are written."""
        return [file for file in self.files if file.changes]

    @property
    def bytes(self) -> int:
        """The number of bytes that are written, read or copied."""
        return sum(file.size for file in self.files) + sum(file.size for file in self.passthrough)


@dataclass(frozen=True, slots=True)
class Transfer:
    """How bytes are moved: the number of threads, and a callback that counts bytes.

    With `link`, passthrough files may be hard links.
    """

    threads: int = 1
    progress: Callable[[int], None] | None = None
    link: bool = False

    def count(self, size: int) -> None:
        """Report bytes that were moved without being read."""
        if self.progress is not None:
            self.progress(size)


class OutputWriter(Protocol):
    """A writer of an output that has been begun."""

    def sink(self, file: OutputFile) -> AbstractContextManager[Sink]:
        """Return a sink for one of its files."""

    def keep(self, file: PassthroughFile) -> None:
        """Put a file into the output unchanged."""


class Output(Protocol):
    """A location that has been checked and can be written.

    A `resumable` output can be written in units, by several ranks, and in several runs. `final` is its final location
    with links resolved, None for standard output.
    """

    @property
    def resumable(self) -> bool: ...
    @property
    def final(self) -> Location | None: ...

    def begin(self, contents: OutputContents, transfer: Transfer) -> AbstractContextManager[OutputWriter]:
        """Return a writer to fill; the output gets its name when the block ends without an exception.

        Raises:
            OutputError: it was not written; an earlier file or folder with its name is unchanged.
        """


class ResumableOutput(Output, Protocol):
    """An output on this machine. `path` is as the user gave it; with `replaces_input`, it is the input."""

    @property
    def path(self) -> Path: ...
    @property
    def final(self) -> Path: ...
    @property
    def replaces_input(self) -> bool: ...

    def publish(self, made: Path) -> None:
        """Give the output, written into the folder `made` on the same disk, its final name.

        Raises:
            OutputError: something else got this name meanwhile.
            OSError: anything else failed; an earlier file or folder with this name is unchanged.
        """


def exists_already(place: str, *, is_input: bool, option: str = OUTPUT) -> OutputError:
    """Return the error for an output, named by an option, that would replace a file or folder without `force`."""
    what = "is the input itself" if is_input else "exists"
    return OutputError(f"{place} {what}; name another output with {option}, or replace it with {FORCE}")


def is_resumable(output: Output) -> TypeGuard[ResumableOutput]:
    """Whether an output can be written in units."""
    return output.resumable


@dataclass(frozen=True, slots=True)
class _SingleFileWriter:
    only: Sink

    def sink(self, file: OutputFile) -> AbstractContextManager[Sink]:
        return nullcontext(self.only)

    def keep(self, file: PassthroughFile) -> None:
        raise NotADirectoryError(file.name)


class SingleFileOutput(ABC):
    """An output that consists of one file."""

    @abstractmethod
    def new(self, size: int) -> AbstractContextManager[Sink]:
        """Return a sink for a file of `size` bytes, by the rules of `Output.begin`."""

    @contextmanager
    def begin(self, contents: OutputContents, transfer: Transfer) -> Iterator[OutputWriter]:
        """Return a writer for the only file."""
        (only,) = contents.files
        with self.new(only.size) as sink:
            yield _SingleFileWriter(sink)


def sink_of(writer: OutputWriter, file: OutputFile) -> AbstractContextManager[Sink]:
    """Return the sink of a file; for a file that does not change, it discards everything."""
    return writer.sink(file) if file.changes else nullcontext(NullSink())
