"""The lock of a folder under construction: one run at a time, and a run that stops early leaves no folder behind."""

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
"""Files in the folder: the lock of the run's leader, and that of its worker processes."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""Errors of file systems without locks."""


def locked_by_another() -> OutputError:
    return OutputError(f"another run is writing {HERE}; wait for it, or name another output")


def lock_folder(root: Path) -> int:
    """Create the folder, lock it, and return the descriptor of the lock.

    If the run that had the lock removes the folder meanwhile, create it again.

    Raises:
        OutputError: another run has the lock, or the folder belongs to another user. `HERE` stands for the output.
        OSError: it cannot be created or locked; a folder created here is removed.
    """
    while True:
        try:
            _make(root)
            lock = _try_lock(root)
        except OutputError:  # the folder belongs to another run or user
            raise
        except BaseException:
            _give_back(root)
            raise
        if lock is not None:
            return lock


def _give_back(root: Path) -> None:
    """Remove a folder that this run may have created before an interrupt, unless another run has locked it."""
    with suppress(OSError):
        root.rmdir()
    with suppress(OSError):
        lock = os.open(root / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        remove_unused(root, lock)
        os.close(lock)


def _make(root: Path) -> None:
    """Create the folder, unless it exists and belongs to this user."""
    made = False
    with suppress(FileExistsError):
        root.mkdir(0o700)
        made = True
    status = root.lstat()
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    # A folder that was just created is ours, even if the file system reports a fixed owner and mode (vfat, WSL).
    if not stat.S_ISDIR(status.st_mode) or not (ours or made):
        raise OutputError(f"cannot write {HERE}: {show(root)} is in the way and not ours; remove it first")


def _try_lock(root: Path) -> int | None:
    """Lock the folder and return the descriptor of the lock; None if the folder was removed meanwhile."""
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
    """Whether a lock is still the lock file in the folder."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), (root / LOCK).stat())
    return False


def remove_unused(root: Path, lock: int) -> None:
    """Remove a folder without work in it, if this process has or gets the lock, of which `lock` is a descriptor."""
    with suppress(OSError):
        _take(lock)
        names = {each.name for each in root.iterdir()}
        if _is_there(root, lock) and names <= {LOCK, WORKERS}:
            for name in sorted(names, reverse=True):  # the lock last
                (root / name).unlink()
            root.rmdir()
