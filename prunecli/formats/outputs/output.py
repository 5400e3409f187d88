"""The output for a location that a user names, checked before anything is written.

Outputs in buckets are imported only for a URL.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from prunecli.errors import UsageError
from prunecli.formats.base import ONLY_FILE, AnyCheckpoint
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.sinks import PipeSink
from prunecli.formats.io.source import FileSource, Source
from prunecli.formats.opening import holds_checkpoint
from prunecli.formats.outputs.base import Output, SingleFileOutput
from prunecli.formats.outputs.file import LocalFile, check_file, stdout_failure
from prunecli.formats.outputs.folder import LocalFolder, check_folder
from prunecli.formats.outputs.permissions import FileOutput, private_as, with_mode_of
from prunecli.formats.outputs.suffix import check_folder_suffix, check_suffix
from prunecli.lean import dataclass
from prunecli.terms import OUTPUT

if TYPE_CHECKING:
    from prunecli.formats.outputs.remote import RemoteFolder

__all__ = [
    "FileOutput",
    "StandardOutput",
    "check_checkpoint_output",
    "check_folder_output",
    "check_output",
    "private_output",
    "write_output",
    "write_parts",
]


@dataclass(frozen=True)
class StandardOutput(SingleFileOutput):
    """Standard output, written in order."""

    final: None = None
    resumable: ClassVar[bool] = False

    @contextmanager
    def new(self, size: int) -> Iterator[PipeSink]:
        """Return a sink for standard output. A broken pipe is raised unchanged."""
        try:
            yield PipeSink(1)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise stdout_failure(error) from error


def check_output(location: Location, *, force: bool, source: Source | None = None, option: str = OUTPUT) -> FileOutput:
    """Check, before anything is written, that an output file can be written to a location; `source` is the input.

    `option` is the option that names this output, for messages.

    Raises:
        OutputError: it exists (or is the input) and `force` is not given, or it cannot be written.
        UsageError: the protocol is unknown, or its package is not installed.
    """
    if isinstance(location, Url):
        from prunecli.formats.outputs.remote import check_remote_file

        return check_remote_file(location, force=force, source=source.location if source else None, option=option)
    status = source.status if isinstance(source, FileSource) else None
    return check_file(location, force=force, source=status, option=option)


def check_checkpoint_output(checkpoint: AnyCheckpoint, location: Location | None, *, force: bool) -> Output:
    """Check, before anything is written, that the rewritten checkpoint can be written to a location.

    A `location` of None is standard output.

    Raises:
        OutputError: it exists (or is the input) and may not be replaced, or it cannot be written.
        UsageError: the checkpoint is a folder and the location standard output; or as `check_suffix`,
            `check_folder_suffix` or `check_output`.
    """
    if not checkpoint.is_folder:
        source = checkpoint.sources[ONLY_FILE]
        if location is None:
            return StandardOutput()
        check_suffix(location, checkpoint.format, source.location)
        return with_mode_of(check_output(location, force=force, source=source), source.mode)
    folder = check_folder_output(location, force=force, source=checkpoint.path, replaceable=holds_checkpoint)
    if location is not None:
        check_folder_suffix(location, checkpoint.path)
    return folder


def check_folder_output(
    location: Location | None, *, force: bool, source: Location | None, replaceable: Callable[[Location], bool]
) -> "LocalFolder | RemoteFolder":
    """Check, before anything is written, that a folder can be written to a location; `source` is the input folder.

    With `force`, a folder there is replaced if it is `replaceable`.

    Raises:
        OutputError: it exists and may not be replaced, or it cannot be written.
        UsageError: the location is standard output, or the protocol is unknown or its package is not installed.
    """
    if location is None:
        raise UsageError(f"a folder of shards cannot be streamed; give {OUTPUT} a path")
    may = force and replaceable(location)
    if isinstance(location, Url):
        from prunecli.formats.outputs.remote import check_remote_folder

        return check_remote_folder(location, force=force, source=source, replaceable=may)
    return check_folder(location, force=force, source=source, replaceable=may)


def private_output(output: Output, readers: int | None) -> Output:
    """Return the output of a checkpoint, closed to everybody who may not read another input (see `readers_of`)."""
    if isinstance(output, LocalFolder):
        return output if readers is None else replace(output, readers=readers)
    return private_as(output, readers) if isinstance(output, LocalFile) else output


def write_parts(target: FileOutput, parts: Iterable[bytes]) -> None:
    """Write a file from parts that are made one after the other; only an upload needs all of them at once.

    Raises:
        OutputError: as `write_output`.
    """
    if not isinstance(target, LocalFile):
        write_output(target, b"".join(parts))
        return
    with target.new(None) as sink:
        at = 0
        for part in parts:
            sink.write(memoryview(part), at)
            at += len(part)


def write_output(target: FileOutput, data: bytes) -> None:
    """Write a file that is already in memory, for example a report.

    Raises:
        OutputError: it was not written; an earlier file with its name is unchanged.
    """
    with target.new(len(data)) as sink:
        sink.write(memoryview(data), 0)
