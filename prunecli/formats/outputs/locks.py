"""The lock of a folder in the making: one run at a time, and no folder left behind by one that was stopped early."""

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

from prunecli.errors import OutputError, show
from prunecli.terms import HERE

__all__ = ["LOCK", "NO_LOCKS", "WORKERS", "lock_folder", "locked_by_another", "remove_unused"]

LOCK, WORKERS = "lock", "workers"
"""Files in the folder: the lock of the run that leads, and that of the processes that work for it."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""What file systems say that have no locks."""


def locked_by_another() -> OutputError:
    return OutputError(f"another run is writing {HERE}; wait for it, or name another output")


def lock_folder(root: Path) -> int:
    """Make the folder and lock it; again if the run that had it removed it meanwhile. Returns the lock's descriptor.

    Raises:
        OutputError: another run has it, or it is somebody else's. `HERE` stands for the output.
        OSError: it cannot be made or locked; it is gone then, unless it was there before.
    """
    while True:
        try:
            _make(root)
            lock = _try_lock(root)
        except OutputError:  # it is another's
            raise
        except BaseException:
            _give_back(root)
            raise
        if lock is not None:
            return lock


def _give_back(root: Path) -> None:
    """Remove a folder that we may have made, wherever an interrupt struck, unless another run has it by now."""
    with suppress(OSError):
        root.rmdir()
    with suppress(OSError):
        lock = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        remove_unused(root, lock)
        os.close(lock)


def _make(root: Path) -> None:
    """Make the folder, unless it is there and ours."""
    made = False
    with suppress(FileExistsError):
        root.mkdir(0o700)
        made = True
    status = root.lstat()
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    # One that we have just made is ours, whatever a file system says that fixes owners and modes (vfat, WSL).
    if not stat.S_ISDIR(status.st_mode) or not (ours or made):
        raise OutputError(f"cannot write {HERE}: {show(root)} is in the way and not ours; remove it first")


def _try_lock(root: Path) -> int | None:
    """Lock the folder; None if it was removed meanwhile."""
    try:
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        _take(lock)
        if _is_there(root, lock):
            return lock
    except BlockingIOError:
        os.close(lock)
        raise locked_by_another() from None
    except BaseException:
        remove_unused(root, lock)
        os.close(lock)
        raise
    os.close(lock)
    return None


def _take(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _is_there(root: Path, lock: int) -> bool:
    """Whether a lock is still the folder's."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), (root / LOCK).stat())
    return False


def remove_unused(root: Path, lock: int) -> None:
    """Remove a folder in which nothing was begun, if its lock, a descriptor, is ours or can be had."""
    with suppress(OSError):
        _take(lock)
        names = {each.name for each in root.iterdir()}
        if _is_there(root, lock) and names <= {LOCK, WORKERS}:
            for name in sorted(names, reverse=True):  # the lock last
                (root / name).unlink()
            root.rmdir()
