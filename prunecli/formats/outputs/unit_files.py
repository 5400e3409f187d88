"""The files of an unfinished output on this machine, written in any number of units by any number of processes."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prunecli.errors import PrunecliError, raised_in, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.io.source import open_source
from prunecli.formats.io.stream import Span, deferred, sum_up
from prunecli.formats.outputs.base import OutputContents, OutputFile, ResumableOutput, Transfer
from prunecli.formats.outputs.file import check_space, finish, reserve_once
from prunecli.formats.outputs.passthrough import bytes_to_copy, carry
from prunecli.formats.outputs.resumable import Partial
from prunecli.formats.outputs.system import sync_path
from prunecli.terms import LINK, OUTPUT

__all__ = ["UnitWriter"]


class UnitWriter:
    """A writer of the files in `partial`, which will become `output`. Every process that takes part has its own.

    All methods except `is_sound` raise an OutputError or an OSError if something cannot be written.
    """

    def __init__(self, partial: Partial, output: ResumableOutput, contents: OutputContents, transfer: Transfer) -> None:
        self.partial = partial
        self._output = output
        self._contents = contents
        self._transfer = transfer

    def begin(self, job: Mapping[str, Any]) -> None:
        """Empty the folder for a job, and check that everything written and copied will fit on the disk."""
        self.partial.begin(job)
        link = self._transfer.link
        copied = bytes_to_copy(self._contents.passthrough, self.partial.root, link=link)
        linking = f", link what does not change with {LINK}," if copied and not link else ","
        remedy = f"free some{linking} or write elsewhere with {OUTPUT}"
        written = sum(file.size for file in self._contents.written)
        with raised_in(show(self._output.path)):
            check_space(self.partial.root, written + copied, remedy)

    def resume(self) -> None:
        """Make the files that an earlier run left safe to write into."""
        self.partial.break_links(file.name for file in self._contents.written)

    @contextmanager
    def sink(self, file: OutputFile) -> Iterator[FileSink]:
        """Return a sink for a file, or for a unit of it."""
        place = self.partial.path_of(file.name)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with raised_in(show(self._output.path)):
                reserve_once(descriptor, file.size)
            yield FileSink(descriptor)
        finally:
            os.close(descriptor)

    def keep(self, file: PassthroughFile) -> None:
        """Put a file into its place unchanged.

        Raises:
            UnreadableError: the file cannot be read.
            DamagedError: it ends early.
        """
        carry(file, self.partial.path_of(file.name), self._output.path, self._transfer)

    def finish_unit(self, number: int, file: OutputFile, entry: Mapping[str, Any]) -> None:
        """Sync the bytes of a unit, and record the unit in the journal."""
        if file.changes:
            sync_path(self.partial.output / file.name)
        self.partial.record_unit(number, entry)

    def is_sound(self, file: OutputFile, span: Span, crc: object) -> bool:
        """Whether the file still contains a unit as written, by the size of the file and the checksum of the unit."""
        if not file.changes:
            return True
        try:
            with open_source(self.partial.output / file.name) as output:
                return output.size == file.size and sum_up(file.pieces, output, span) == crc
        except PrunecliError:
            return False

    def commit(self) -> None:
        """Complete the files, and give the output its final name."""
        for file in self._contents.written:
            _complete(file, self.partial.output / file.name)
        self._output.publish(self.partial.output)


def _complete(file: OutputFile, path: Path) -> None:
    """Write the fields that depend on checksums (one may span several units), set the mode, and sync the file."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for offset, piece in deferred(file.pieces):
            os.pwrite(descriptor, piece.render(), offset)
        finish(descriptor, file.mode)
    finally:
        os.close(descriptor)
