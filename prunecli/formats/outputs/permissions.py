"""The permissions of outputs: a checkpoint has those of its input, and nobody else may read it or a report about it.

Until an output has its name, its hidden file or folder is open to its owner alone.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from prunecli.formats.base import AnyCheckpoint
from prunecli.formats.io.locations import permissions
from prunecli.formats.outputs.file import LocalFile
from prunecli.formats.outputs.temp_files import umask

__all__ = ["FileOutput", "closed_like", "private_as", "readers_of", "with_mode_of"]

if TYPE_CHECKING:
    from prunecli.formats.outputs.remote import RemoteFile

FileOutput: TypeAlias = "LocalFile | RemoteFile"
"""An output file that is checked; one at a URL has no mode."""


def closed_like(mode: int, like: int) -> int:
    """Return a mode without the permissions of those (the group, or all others) whom another mode lets read nothing.

    >>> oct(closed_like(0o664, 0o640))
    '0o660'
    """
    for shift in (0, 3):
        if not like >> shift & 4:
            mode &= ~(7 << shift)
    return mode


def with_mode_of(output: FileOutput, mode: int | None) -> FileOutput:
    """Return a checkpoint's output with the mode of its input, None if the input has none.

    A file that is replaced keeps its mode, as far as nobody can read more than before.
    """
    if mode is None or not isinstance(output, LocalFile) or output.replaces_input:
        return output
    is_new = output.owner is None
    return replace(output, mode=mode & ~umask() if is_new else closed_like(output.mode, mode))


def private_as(output: FileOutput, readers: int | None) -> FileOutput:
    """Return the output of a report, closed to everybody who may not read the checkpoint (see `readers_of`)."""
    if readers is None or not isinstance(output, LocalFile):
        return output
    return replace(output, mode=closed_like(output.mode, readers))


def readers_of(*checkpoints: AnyCheckpoint) -> int | None:
    """Return a mode whose readers may read all of some checkpoints; None if these have no files on this machine."""
    modes = [source.mode for each in checkpoints for source in each.sources.values()]
    for each in checkpoints:
        if each.is_folder and isinstance(each.path, Path):
            folder = permissions(each.path)
            modes.append(None if folder is None else (folder & 0o111) << 2)  # who may enter it may read what is in it
    return _common(mode for mode in modes if mode is not None)


def _common(modes: Iterable[int]) -> int | None:
    found = list(modes)
    return reduce(and_, found) if found else None
