"""Functions that pack and unpack checkpoints."""

from collections.abc import Sequence
from typing import Literal

from prunecli.errors import messages_for
from prunecli.files.arguments import PathLike, run_with, text_of
from prunecli.formats.base import ReadOptions
from prunecli.surgery.listing import Listener
from prunecli.surgery.pack import PackOptions, packed_location
from prunecli.surgery.pack_folder import pack_checkpoint
from prunecli.surgery.packing import PackedFile
from prunecli.surgery.places import checkpoint_location, input_location
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.unpack import unpacked_location
from prunecli.surgery.unpack_folder import unpack_checkpoint
from prunecli.terms import FROM_REPORT, Interface

__all__ = ["pack", "unpack"]


@messages_for(Interface.FILES)
def pack(
    path: PathLike,
    *,
    from_report: Sequence[PathLike] | PathLike = (),
    key: str | None = None,
    follow_links: bool = False,
    output: PathLike | None = None,
    codec: Literal["zstd", "raw"] = "zstd",
    verify: bool = False,
    force: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> PackedFile:
    """Pack a checkpoint into a smaller file or folder, as `prunecli pack` does, and return what was written.

    `from_report` is a report, or a list of the reports of several rounds.

    Raises:
        PrunecliError: the checkpoint or a report cannot be read, or the file cannot be written.
    """
    source, run = checkpoint_location(text_of(path)), run_with(jobs, resume=resume)
    named = [from_report] if isinstance(from_report, str) or not isinstance(from_report, Sequence) else from_report
    reports = [input_location(text_of(each), FROM_REPORT) for each in named]
    options = PackOptions(ReadOptions(key, True, follow_links, read_only=True), reports, codec, verify, force)
    return pack_checkpoint(source, options, packed_location(source, text_of(output)), run, Listener(progress))


@messages_for(Interface.FILES)
def unpack(
    path: PathLike,
    *,
    follow_links: bool = False,
    output: PathLike | None = None,
    force: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> PackedFile:
    """Write the file or folder that was packed, as `prunecli unpack` does, and return what was written.

    Raises:
        PrunecliError: the packed file cannot be read, or is damaged, or the file cannot be written.
    """
    source, run = checkpoint_location(text_of(path)), run_with(jobs, resume=resume)
    target = unpacked_location(source, text_of(output))
    return unpack_checkpoint(source, target, run, Listener(progress), force=force, follow_links=follow_links)
