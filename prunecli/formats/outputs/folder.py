"""An output folder on this machine, which appears complete under its name or not at all.

The output is written into a hidden folder beside its final place (`Partial`), synced, and gets its name in one step, or
in two steps if the system cannot exchange two folders.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from prunecli.errors import OutputError, raised_in, show
from prunecli.formats.folders.files import NOT_THE_MODEL
from prunecli.formats.io.locations import Location, permissions
from prunecli.formats.outputs.base import OutputContents, OutputWriter, Transfer, exists_already
from prunecli.formats.outputs.file import output_errors, sync_folder, write_failure
from prunecli.formats.outputs.permissions import closed_like
from prunecli.formats.outputs.resumable import partial_of, partial_output
from prunecli.formats.outputs.system import rename_new, swap, sync_path
from prunecli.formats.outputs.temp_files import umask
from prunecli.formats.outputs.unit_files import UnitWriter
from prunecli.lean import dataclass
from prunecli.terms import FORCE, OUTPUT

__all__ = ["LocalFolder", "check_folder"]


@dataclass(frozen=True)
class LocalFolder:
    """A folder that has been checked and can be written; `source` is the input folder, None if it is at a URL.

    Whom the mode `readers` lets read nothing may not enter it.
    """

    path: Path  # as the user gave it
    final: Path  # the folder to create or replace, with symlinks resolved
    source: Path | None
    replaces: bool
    replaces_input: bool = False
    readers: int = 0o777
    resumable: ClassVar[bool] = True

    @contextmanager
    def begin(self, contents: OutputContents, transfer: Transfer) -> Iterator[OutputWriter]:
        """Return a writer for the folder; an unfinished output of an earlier run is removed.

        Raises:
            OutputError: it was not written, or another run is writing it.
        """
        with (
            output_errors(self.path, partial_of(self.final).root),
            partial_output(self.final, self.path, keep=False) as partial,
        ):
            writer = UnitWriter(partial, self, contents, transfer)
            writer.begin({})
            yield writer
            writer.commit()

    def publish(self, made: Path) -> None:
        """Sync a folder and everything below it, and give it its modes and its final name; it replaces the old folder.

        Raises:
            OutputError: another folder got this name meanwhile.
            OSError: anything else failed; the old folder is unchanged.
        """
        for folder, _, _ in os.walk(made, topdown=False):
            place = Path(folder)
            mode = self._mode_of(place.relative_to(made))
            place.chmod(closed_like(mode, self.readers))
            sync_path(place)
        _publish(made, self)
        with raised_in(show(self.path)):
            sync_folder(self.final.parent)

    def _mode_of(self, inner: Path) -> int:
        """Return the mode of the folder, or of one below it: as in the input, but the owner can always change it.

        A replaced folder keeps its mode, as far as nobody can read more than before.
        """
        like = None if self.source is None else permissions(self.source / inner)
        if self.replaces and inner == Path():
            old = stat.S_IMODE(self.final.stat().st_mode)
            return old if like is None or self.replaces_input else closed_like(old, like)
        return (0o777 if like is None else like | 0o700) & ~umask()


def check_folder(path: Path, *, force: bool, source: Location | None, replaceable: bool) -> LocalFolder:
    """Check, before anything is written, that a folder can be written to `path`; `source` is the input folder.

    `replaceable` means that the existing folder is a checkpoint. Other folders are never replaced, because replacing
    removes everything in them.

    Raises:
        OutputError: something exists there and may not be replaced, it lies in the input or contains it, or its parent
            is missing or not writable.
    """
    final = Path(os.path.realpath(path))
    inside = Path(os.path.realpath(source)) if isinstance(source, Path) else None
    if inside is not None and final != inside and (final.is_relative_to(inside) or inside.is_relative_to(final)):
        raise OutputError(f"{show(path)} and the input lie in each other; name another output with {OUTPUT}")
    try:
        old = final.lstat()
    except FileNotFoundError:
        old = None
    except OSError as error:
        raise write_failure(path, error) from error
    if old is not None:
        if not stat.S_ISDIR(old.st_mode):
            raise OutputError(f"cannot write {show(path)}: it is not a folder, and the checkpoint is one; name another")
        if not force:
            raise exists_already(show(path), is_input=final == inside)
        if not replaceable:
            raise OutputError(f"{show(path)} is a folder that holds no checkpoint; it is not replaced, remove it first")
        books = next((name for name in NOT_THE_MODEL if os.path.lexists(final / name)), None)
        if books is not None:
            raise OutputError(f"{show(path)} holds {books}, which would go with it; name another output with {OUTPUT}")
    if not os.access(final.parent, os.W_OK | os.X_OK):
        reason = "its parent folder is not writable" if final.parent.is_dir() else "its parent folder is missing"
        raise OutputError(f"cannot write {show(path)}: {reason}; write elsewhere with {OUTPUT}")
    return LocalFolder(path, final, inside, old is not None, old is not None and final == inside)


def _publish(made: Path, target: LocalFolder) -> None:
    """Give the folder its name; a replaced folder then lies at `made` or beside it, and the caller removes it."""
    if target.replaces:
        if not swap(made, target.final):
            _replace(made, target.final)
        return
    try:
        if not rename_new(made, target.final):
            made.rename(target.final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise OutputError(f"{show(target.path)} appeared meanwhile; replace it with {FORCE}") from error
        raise


def _replace(made: Path, final: Path) -> None:
    """Replace a folder in two steps: move the old one aside, then move the new one in.

    Only a kill between the steps leaves neither in place. The old folder is then in the unfinished output, and the next
    run moves it back (`Partial.restore`).
    """
    aside = made.with_suffix(".old")
    try:
        final.rename(aside)
        made.rename(final)
    except BaseException:  # including a signal between the two steps
        if aside.exists() and not os.path.lexists(final):
            aside.rename(final)
        raise
