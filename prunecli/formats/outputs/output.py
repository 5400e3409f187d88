"""Output files, here or behind a URL: looked at first, filled through a sink, and whole under their name or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prunecli.errors import OutputError, show
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.sinks import FileSink, Sink
from prunecli.formats.io.stores import Store, connect_to_write, translated
from prunecli.formats.outputs import file
from prunecli.formats.outputs.file import Target, new_file
from prunecli.formats.outputs.upload import Uploads

__all__ = ["Output", "RemoteTarget", "check_output", "new_output", "write_output"]


@dataclass(frozen=True)
class RemoteTarget:
    """A URL that was looked at and found fit to be written."""

    final: Url
    store: Store
    force: bool


Output = Target | RemoteTarget


def check_output(
    location: Location,
    *,
    force: bool,
    source: os.stat_result | Url | None = None,
    option: str = "-o",
) -> Output:
    """Look, before anything is written, whether an output can stand at a place; `source` is the input.

    `option` is the one that names this output, for the message.

    Raises:
        OutputError: it exists (or is the input) and `force` is not given, or cannot be written.
        UsageError: no such protocol, or its package is not installed.
    """
    if not isinstance(location, Url):
        status = None if isinstance(source, Url) else source
        return file.check_target(location, force=force, source=status, option=option)
    store = connect_to_write(location, option)
    with translated(location, OutputError, "look whether {} exists"):
        found = store.look()
    if found is not None and found.get("type") == "directory":
        raise OutputError(f"cannot write {show(location)}: it is a folder; name a file in it")
    if found is not None and not force:
        what = "is the input itself" if location == source else "exists"
        raise OutputError(f"{show(location)} {what}; name another output with {option}, or replace it with --force")
    return RemoteTarget(location, store, force)


@contextmanager
def new_output(target: Output, size: int) -> Iterator[Sink]:
    """Give a sink to fill; the file gets its name when the block ends without an exception.

    Raises:
        OutputError: it was not written; what stood under its name is as it was.
    """
    if isinstance(target, Target):
        with new_file(target, size) as descriptor:
            yield FileSink(descriptor)
        return
    uploads = Uploads()
    try:
        upload = uploads.begin(target.store, size)
        yield upload
        uploads.run(upload.finish)
        uploads.commit([upload], force=target.force)
    finally:
        uploads.end()


def write_output(target: Output, data: bytes) -> None:
    """Write a file that is in memory already, such as a report, by the rules of `new_output`."""
    if isinstance(target, Target):
        file.write_small(target, data)
        return
    with new_output(target, len(data)) as sink:
        sink.write(memoryview(data), 0)
