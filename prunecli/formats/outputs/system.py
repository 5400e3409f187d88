"""What operating systems do in different ways: syncing, reserving space, sharing blocks, renaming on a condition.

Everything else in this package is POSIX. Linux has calls of its own for these; where they are not there, on macOS, or
the file system does not know them, the caller is told so and goes another way.
"""

import ctypes
import errno
import fcntl
import os
import sys
from pathlib import Path

__all__ = ["UNSUPPORTED", "allocate", "clone", "rename_new", "swap", "sync"]

UNSUPPORTED = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.ENOTTY})
"""What file systems say of what they do not know. On macOS, EOPNOTSUPP and ENOTSUP are two."""

_FICLONE = 0x40049409  # linux/fs.h: share the extents of another file
_NOREPLACE, _EXCHANGE = 1, 2  # linux/fs.h: flags of renameat2
_AT_FDCWD = -100  # linux/fcntl.h


def sync(descriptor: int) -> None:
    """Put a file, or the names in a folder, on the disk: on macOS, fsync alone leaves them in the drive's cache.

    Raises:
        OSError: it could not be done.
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
    """Reserve the space of a file, if the system and the file system can do that.

    Raises:
        OSError: there is not enough.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)  # measured: never slower than growing the file write by write
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise


def clone(source: int, copy: int) -> bool:
    """Make an empty file share the blocks of another (a reflink); False if that cannot be."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError:
        return False
    return True


def swap(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False if the system cannot do that.

    Raises:
        OSError: it failed otherwise.
    """
    return _rename(one, other, _EXCHANGE)


def rename_new(old: Path, new: Path) -> bool:
    """Rename, unless there is something under the new name; False if the system cannot do that.

    Raises:
        OSError: there is something, or it failed otherwise.
    """
    return _rename(old, new, _NOREPLACE)


def _rename(old: Path, new: Path, flags: int) -> bool:
    """Rename with flags that Python does not know."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(old))
