"""An output folder appears whole under its name, or not at all.

It is made in a hidden place beside it (`partial`), synced, and gets its name in one step. What is carried along
unchanged takes no space where the file system can share it.
"""

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prunecli.errors import OutputError, show
from prunecli.formats.folders.files import NOT_THE_MODEL
from prunecli.formats.outputs.commit import sync_folder, sync_path, write_failure
from prunecli.formats.outputs.temp_files import hidden_prefix, umask
from prunecli.formats.source import FileSource, open_source

__all__ = ["FolderTarget", "check_folder", "naming", "publish_folder", "share_file"]

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h: flags of renameat2
_AT_FDCWD = -100  # linux/fcntl.h
_BUFFER = 4 << 20
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_NO_LINK = _CANNOT | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES}


@dataclass(frozen=True)
class FolderTarget:
    """A folder that was looked at and found fit to be written; `mode` is that of the one it replaces, or new."""

    path: Path  # as the user named it
    final: Path  # symlinks resolved: what will be created or replaced
    mode: int
    replaces: bool


def check_folder(path: Path, *, force: bool, source: Path | None, replaceable: bool) -> FolderTarget:
    """Look, before anything is written, whether a folder can stand at `path`; `source` is the input folder.

    `replaceable` tells that what stands there is a checkpoint: nothing else is ever replaced, as it goes with all that
    is in it.

    Raises:
        OutputError: something is there and may not be replaced, it lies in the input or around it, or its parent is
            missing or not writable.
    """
    final = Path(os.path.realpath(path))
    inside = None if source is None else Path(os.path.realpath(source))
    if inside is not None and final != inside and (final.is_relative_to(inside) or inside.is_relative_to(final)):
        raise OutputError(f"{show(path)} and the input lie in each other; name another output with -o")
    try:
        old = final.lstat()
    except FileNotFoundError:
        old = None
    except OSError as error:
        raise write_failure(path, error) from error
    if old is not None:
        if not stat.S_ISDIR(old.st_mode):
            raise OutputError(f"cannot write {show(path)}: it is no folder, and the checkpoint is one; name another")
        if not force:
            what = "is the input itself" if final == inside else "exists"
            raise OutputError(f"{show(path)} {what}; name another output with -o, or replace it with --force")
        if not replaceable:
            raise OutputError(f"{show(path)} is a folder that holds no checkpoint; it is not replaced, remove it first")
        books = next((name for name in NOT_THE_MODEL if os.path.lexists(final / name)), None)
        if books is not None:
            raise OutputError(f"{show(path)} holds {books}, which would go with it; name another output with -o")
    if not os.access(final.parent, os.W_OK | os.X_OK):
        reason = "its parent folder is not writable" if final.parent.is_dir() else "its parent folder is missing"
        raise OutputError(f"cannot write {show(path)}: {reason}; write elsewhere with -o")
    mode = 0o777 & ~umask() if old is None else stat.S_IMODE(old.st_mode)
    return FolderTarget(path, final, mode, replaces=old is not None)


@contextmanager
def naming(target: Path, root: Path) -> Iterator[None]:
    """Turn an OSError about files below `root`, or about none, into the error that says why `target` was not written.

    Raises:
        OutputError: instead of such an OSError.
    """
    try:
        yield
    except OSError as error:
        names = [os.fsdecode(each) for each in (error.filename, error.filename2) if isinstance(each, str | bytes)]
        if isinstance(error, BrokenPipeError) or (names and not any(name.startswith(str(root)) for name in names)):
            raise
        raise write_failure(target, error) from error


def share_file(old: Path, place: Path) -> None:
    """Carry a file along: share its extents, or link it, or copy it, whichever comes first that can be done.

    A link is the same file under two names: who writes into one of them later, instead of replacing it, changes both.
    A file that is there already was carried along by an earlier run.

    Raises:
        UnreadableError: the file cannot be read.
    """
    temp = place.with_name(f"{hidden_prefix(place)}carried")
    temp.unlink(missing_ok=True)
    if place.exists():
        return
    with open_source(old) as source:
        if not _clone(source.descriptor, temp) and not _link(old, temp):
            _copy(source, temp)
    temp.rename(place)


def _copy(source: FileSource, place: Path) -> None:
    buffer = memoryview(bytearray(_BUFFER))
    with place.open("xb", buffering=0) as copy:
        for at in range(0, source.size, _BUFFER):
            part = buffer[: min(_BUFFER, source.size - at)]
            source.read_into(at, part)
            while part:
                part = part[copy.write(part) :]
        os.fchmod(copy.fileno(), source.status.st_mode & 0o777)
        os.fsync(copy.fileno())


def _clone(source: int, place: Path) -> bool:
    fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.ioctl(fd, _FICLONE, source)
        os.fchmod(fd, os.fstat(source).st_mode & 0o777)
        os.fsync(fd)
    except OSError:
        place.unlink()
        return False
    finally:
        os.close(fd)
    return True


def _link(old: Path, place: Path) -> bool:
    try:
        os.link(os.path.realpath(old), place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def publish_folder(made: Path, target: FolderTarget) -> None:
    """Sync a folder and all below it, and give it its mode and its final name; what stood there is gone then.

    Raises:
        OutputError: another folder appeared there meanwhile.
        OSError: anything else; what stood there is as it was.
    """
    _sync_tree(made)
    made.chmod(target.mode)
    _publish(made, target)
    sync_folder(target.final.parent, target.path)


def _sync_tree(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        sync_path(Path(folder))


def _publish(made: Path, target: FolderTarget) -> None:
    """Give the folder its name; what stood there has the old name then, and is for the caller to remove."""
    if target.replaces:
        if not _rename(made, target.final, _EXCHANGE):
            aside = made.with_suffix(".old")
            target.final.rename(aside)
            try:
                made.rename(target.final)
            except OSError:
                aside.rename(target.final)
                raise
        return
    try:
        if not _rename(made, target.final, _NOREPLACE):
            made.rename(target.final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise OutputError(f"{show(target.path)} appeared meanwhile; replace it with --force") from error
        raise


def _rename(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags that Python does not know; False if the system does not know them either."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT:
        return False
    raise OSError(code, os.strerror(code), str(old))
