"""What all outputs have in common: a file here, a folder here, either of them behind a URL, or standard output.

An output is looked at first, begun, and filled file by file; it has its name when that ends, or leaves nothing behind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.sinks import NullSink, Sink
from prunecli.formats.io.source import ByteSource

__all__ = [
    "Output",
    "OutputContents",
    "OutputFile",
    "OutputWriter",
    "ResumableOutput",
    "SingleFileOutput",
    "Transfer",
    "is_resumable",
    "sink_of",
]


@dataclass(frozen=True, eq=False)
class OutputFile:
    """A file of the output: its pieces over a source. If it does not change, its pieces are only looked at.

    `mode` are its permissions, None for those of any new file. One that is `closing` is put in place last: it makes a
    checkpoint of a folder.
    """

    name: str
    pieces: Sequence[Piece]
    source: ByteSource
    changes: bool = True
    mode: int | None = None
    closing: bool = False

    @property
    def size(self) -> int:
        """Bytes of the pieces: of the file, if it changes."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True)
class OutputContents:
    """All files of an output: those that are made or looked at, and those that come along as they are."""

    files: Sequence[OutputFile]
    passthrough: Sequence[PassthroughFile] = ()

    @property
    def written(self) -> list[OutputFile]:
        """The files that are made."""
        return [file for file in self.files if file.changes]

    @property
    def bytes(self) -> int:
        """The bytes that are made, looked at or copied."""
        return sum(file.size for file in self.files) + sum(file.size for file in self.passthrough)


@dataclass(frozen=True, slots=True)
class Transfer:
    """How bytes are moved: by how many threads, and what counts them; with `link`, passthrough files may be links."""

    threads: int = 1
    progress: Callable[[int], None] | None = None
    link: bool = False

    def count(self, size: int) -> None:
        """Count bytes that were moved without being read."""
        if self.progress is not None:
            self.progress(size)


class OutputWriter(Protocol):
    """An output that was begun."""

    def sink(self, file: OutputFile) -> AbstractContextManager[Sink]:
        """Give a sink for one of its files."""

    def keep(self, file: PassthroughFile) -> None:
        """Put a file into it that comes along as it is."""


class Output(Protocol):
    """A place that was looked at and found fit to be written.

    One that is `resumable` can be made in units, by several ranks, and in several runs. `final` is where it will stand,
    links resolved, None for standard output.
    """

    @property
    def resumable(self) -> bool: ...
    @property
    def final(self) -> Location | None: ...

    def begin(self, contents: OutputContents, transfer: Transfer) -> AbstractContextManager[OutputWriter]:
        """Give a writer to fill; the output gets its name when the block ends without an exception.

        Raises:
            OutputError: it was not written; what stood under its name is as it was.
        """


class ResumableOutput(Output, Protocol):
    """An output on this machine. `path` is what the user named; it may replace the very input."""

    @property
    def path(self) -> Path: ...
    @property
    def final(self) -> Path: ...
    @property
    def replaces_input(self) -> bool: ...

    def publish(self, made: Path) -> None:
        """Give what was made in a folder on the same disk its final name.

        Raises:
            OutputError: something appeared there meanwhile.
            OSError: anything else; what stood there is as it was.
        """


def is_resumable(output: Output) -> TypeGuard[ResumableOutput]:
    """Whether an output can be made in units."""
    return output.resumable


@dataclass(frozen=True, slots=True)
class _SingleFileWriter:
    only: Sink

    def sink(self, file: OutputFile) -> AbstractContextManager[Sink]:
        return nullcontext(self.only)

    def keep(self, file: PassthroughFile) -> None:
        raise NotADirectoryError(file.name)


class SingleFileOutput(ABC):
    """An output that is one file."""

    @abstractmethod
    def new(self, size: int) -> AbstractContextManager[Sink]:
        """Give a sink for a file of `size` bytes, by the rules of `Output.begin`."""

    @contextmanager
    def begin(self, contents: OutputContents, transfer: Transfer) -> Iterator[OutputWriter]:
        """Give a writer for the only file."""
        (only,) = contents.files
        with self.new(only.size) as sink:
            yield _SingleFileWriter(sink)


def sink_of(writer: OutputWriter, file: OutputFile) -> AbstractContextManager[Sink]:
    """Give the sink of a file; a file that does not change has one that drops all."""
    return writer.sink(file) if file.changes else nullcontext(NullSink())
