"""An output folder appears whole under its name, or not at all.

Files are made in a hidden sibling folder, each synced; then the folder gets its name in one step. What is carried along
unchanged takes no space where the file system can share it.
"""

import ctypes
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prunecli.errors import OutputError, show
from prunecli.formats.commit import reserve, sync_folder, write_failure
from prunecli.formats.temp_files import remove_stale, temp_beside, umask

__all__ = ["FolderTarget", "NewFolder", "check_folder", "new_folder"]

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h: flags of renameat2
_AT_FDCWD = -100  # linux/fcntl.h
_CANNOT = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
_FREE_SOME = "free some, or write elsewhere with -o"


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
    if not os.access(final.parent, os.W_OK | os.X_OK):
        reason = "its parent folder is not writable" if final.parent.is_dir() else "its parent folder is missing"
        raise OutputError(f"cannot write {show(path)}: {reason}; write elsewhere with -o")
    mode = 0o777 & ~umask() if old is None else stat.S_IMODE(old.st_mode)
    return FolderTarget(path, final, mode, replaces=old is not None)


class NewFolder:
    """A folder in the making: files are written into it, or carried along from elsewhere."""

    def __init__(self, root: Path, target: FolderTarget) -> None:
        self._root = root
        self._target = target

    @contextmanager
    def file(self, name: str, size: int, mode: int | None = None) -> Iterator[int]:
        """Give a descriptor (read and write) to fill a new file of `size` bytes with; it is synced at the end."""
        path = self._place(name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            reserve(fd, size, self._target.path / name)
            yield fd
            os.fchmod(fd, 0o666 & ~umask() if mode is None else mode)
            os.fsync(fd)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with self.file(name, len(data)) as fd:
            while data:
                data = data[os.write(fd, data) :]

    def keep(self, name: str, path: Path) -> None:
        """Carry a file along: share its extents, or link it, or copy it, whichever comes first that can be done."""
        place = self._place(name)
        if self._clone(path, place):
            return
        try:
            os.link(os.path.realpath(path), place)
        except OSError as error:
            if error.errno not in _CANNOT | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES}:
                raise
            with path.open("rb") as old:
                status = os.fstat(old.fileno())
                with (
                    self.file(name, status.st_size, status.st_mode & 0o777) as fd,
                    open(fd, "wb", closefd=False) as new,
                ):
                    shutil.copyfileobj(old, new, 1 << 20)

    def _clone(self, path: Path, place: Path) -> bool:
        with path.open("rb") as old:
            fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.ioctl(fd, _FICLONE, old.fileno())
                os.fchmod(fd, _mode(old.fileno()))
                os.fsync(fd)
            except OSError:
                place.unlink()
                return False
            finally:
                os.close(fd)
        return True

    def _place(self, name: str) -> Path:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _mode(fd: int) -> int:
    return os.fstat(fd).st_mode & 0o777


@contextmanager
def new_folder(target: FolderTarget, size: int) -> Iterator[NewFolder]:
    """Give a folder to fill; it gets its name when the block ends without an exception.

    `size` is what will be written into it, without what is carried along. Any exception leaves what stood there as it
    was, and nothing else.

    Raises:
        OutputError: instead of an OSError about this output, as `commit.new_file` does.
    """
    remove_stale(target.final)
    with temp_beside(target.final) as temp:
        try:
            temp.mkdir(0o700)
            _check_space(temp, size, target.path)
            yield NewFolder(temp, target)
            _sync_tree(temp)
            temp.chmod(target.mode)
            _publish(temp, target)
        except OSError as error:
            names = [os.fsdecode(each) for each in (error.filename, error.filename2) if isinstance(each, str | bytes)]
            if isinstance(error, BrokenPipeError) or (names and not any(name.startswith(str(temp)) for name in names)):
                raise
            raise write_failure(target.path, error) from error
    sync_folder(target.final.parent, target.path)


def _check_space(folder: Path, size: int, path: Path) -> None:
    disk = os.statvfs(folder)
    free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
    if disk.f_blocks and size > free:
        raise OutputError(f"cannot write {show(path)}: it needs {size} bytes, its disk has {free}; {_FREE_SOME}")


def _sync_tree(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _publish(temp: Path, target: FolderTarget) -> None:
    """Give the folder its name; what stood there has the temp name then, and goes."""
    if target.replaces:
        if not _rename(temp, target.final, _EXCHANGE):
            aside = temp.with_suffix(".old")
            target.final.rename(aside)
            try:
                temp.rename(target.final)
            except OSError:
                aside.rename(target.final)
                raise
            aside.rename(temp)
        return
    try:
        if not _rename(temp, target.final, _NOREPLACE):
            temp.rename(target.final)
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
