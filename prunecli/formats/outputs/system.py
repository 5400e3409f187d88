"""System calls that differ between operating systems: sync, reserve space, share blocks, rename on a condition.

Everything else in this package is POSIX. Linux has its own calls for these operations. If a call is missing (on macOS)
or the file system does not support it, `clone`, `swap` and `rename_new` return False, and the caller uses another way.
"""

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path

__all__ = ["UNSUPPORTED", "allocate", "clone", "rename_new", "swap", "sync", "sync_path"]

UNSUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY})
"""Errors for operations that a file system does not support. On macOS, EOPNOTSUPP and ENOTSUP differ."""

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h: flags of renameat2
_AT_FDCWD = -100  # linux/fcntl.h


def sync(descriptor: int) -> None:
    """Write a file, or the names in a folder, to the disk: on macOS, fsync alone leaves them in the drive's cache.

    Raises:
        OSError: it failed.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        else:
            return
    os.fsync(descriptor)


def allocate(descriptor: int, size: int) -> None:
    """Reserve the space of a file, if the system and the file system support that.

    Raises:
        OSError: the disk has too little space.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)  # measured: never slower than growing the file write by write
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise


def clone(source: int, copy: int) -> bool:
    """Make an empty file share the blocks of another (a reflink); return False if that is not possible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError:
        return False
    return True


def swap(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False if the system does not support that.

    Raises:
        OSError: it failed for another reason.
    """
    return _rename(one, other, _EXCHANGE)


def rename_new(old: Path, new: Path) -> bool:
    """Rename, unless the new name exists; return False if the system does not support that.

    Raises:
        OSError: the new name exists, or it failed for another reason.
    """
    return _rename(old, new, _NOREPLACE)


def _rename(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags that Python does not support; return False if the system does not either."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(old))


def sync_path(path: Path) -> None:
    """Sync the data and size of a file, or the names in a folder.

    Raises:
        OSError: it failed.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)
