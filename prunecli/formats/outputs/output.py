"""Whatever a user names as an output: looked at before anything is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from prunecli.errors import UsageError
from prunecli.formats.base import ONLY_FILE, AnyCheckpoint
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.sinks import PipeSink
from prunecli.formats.io.source import FileSource, Source
from prunecli.formats.opening import holds_checkpoint
from prunecli.formats.outputs.base import Output, SingleFileOutput
from prunecli.formats.outputs.file import LocalFile, check_file, stdout_failure
from prunecli.formats.outputs.folder import check_folder
from prunecli.formats.outputs.remote import RemoteFile, check_remote_file, check_remote_folder
from prunecli.terms import OUTPUT

__all__ = ["FileOutput", "StandardOutput", "check_checkpoint_output", "check_output", "write_output"]

FileOutput = LocalFile | RemoteFile


@dataclass(frozen=True)
class StandardOutput(SingleFileOutput):
    """Standard output, written in order."""

    final: None = None
    resumable: ClassVar[bool] = False

    @contextmanager
    def new(self, size: int) -> Iterator[PipeSink]:
        """Give a sink for it. A broken pipe goes on as it is."""
        try:
            yield PipeSink(1)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise stdout_failure(error) from error


def check_output(location: Location, *, force: bool, source: Source | None = None, option: str = OUTPUT) -> FileOutput:
    """Look, before anything is written, whether an output file can stand at a place; `source` is the input.

    `option` is the one that names this output, for the message.

    Raises:
        OutputError: it exists (or is the input) and `force` is not given, or cannot be written.
        UsageError: no such protocol, or its package is not installed.
    """
    if isinstance(location, Url):
        return check_remote_file(location, force=force, source=source.location if source else None, option=option)
    status = source.status if isinstance(source, FileSource) else None
    return check_file(location, force=force, source=status, option=option)


def check_checkpoint_output(checkpoint: AnyCheckpoint, location: Location | None, *, force: bool) -> Output:
    """Look, before anything is written, whether a checkpoint made of another can stand at a place.

    None is standard output.

    Raises:
        OutputError: it exists, is the input, or cannot be written.
        UsageError: a folder was asked for on standard output; or as `check_output`.
    """
    if not checkpoint.is_folder:
        source = checkpoint.sources[ONLY_FILE]
        return StandardOutput() if location is None else check_output(location, force=force, source=source)
    if location is None:
        raise UsageError(f"a folder of shards cannot be streamed; give {OUTPUT} a path")
    replaceable = force and holds_checkpoint(location)
    if isinstance(location, Url):
        return check_remote_folder(location, force=force, source=checkpoint.path, replaceable=replaceable)
    return check_folder(location, force=force, source=checkpoint.path, replaceable=replaceable)


def write_output(target: FileOutput, data: bytes) -> None:
    """Write a file that is in memory already, such as a report.

    Raises:
        OutputError: it was not written; what stood under its name is as it was.
    """
    with target.new(len(data)) as sink:
        sink.write(memoryview(data), 0)
