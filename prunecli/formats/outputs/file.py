"""An output file on this machine, which appears complete under its name or not at all.

`check_file` checks the location first. `new_file` writes into a hidden file beside it, syncs that, and gives it its
name in one step. If anything fails before that, the hidden file is removed; after a SIGKILL, the next run for the same
output removes it.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from prunecli.errors import OutputError, raised_in, show
from prunecli.formats.base import ONLY_FILE
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.outputs.base import SingleFileOutput, exists_already
from prunecli.formats.outputs.resumable import discard_partial
from prunecli.formats.outputs.system import UNSUPPORTED, allocate, sync, sync_path
from prunecli.formats.outputs.temp_files import remove_stale, temp_beside, umask
from prunecli.lean import dataclass
from prunecli.terms import FORCE, HERE, OUTPUT

__all__ = [
    "LocalFile",
    "check_file",
    "check_space",
    "finish",
    "new_file",
    "output_errors",
    "reserve",
    "reserve_once",
    "stdout_failure",
    "sync_folder",
    "write_failure",
]

_ELSEWHERE = "write elsewhere with"
_FREE_SOME = f"free some, or {_ELSEWHERE} {OUTPUT}"
_NO_SUCH_OWNER = frozenset({errno.EPERM, errno.EINVAL})  # EINVAL: not mapped in this user namespace
_NO_HARD_LINKS = UNSUPPORTED | {errno.EPERM, errno.EMLINK}
_REMEDIES = {
    errno.ENOSPC: "free some, or ",
    errno.EDQUOT: "free some, or ",
    errno.EFBIG: "see ulimit -f, or ",
    errno.ENOENT: "create its folder first, or ",
    errno.ENAMETOOLONG: "choose a shorter name, or ",
}


@dataclass(frozen=True)
class LocalFile(SingleFileOutput):
    """An output file that has been checked and can be written; `owner` is the user and group of the replaced file."""

    path: Path  # as the user gave it
    final: Path  # the file to create or replace, with symlinks resolved
    mode: int  # the mode of the replaced file, else 0666 & ~umask; `permissions` makes it that of the input
    owner: tuple[int, int] | None
    force: bool
    option: str = OUTPUT  # the option that names it, for messages
    replaces_input: bool = False
    resumable: ClassVar[bool] = True

    @contextmanager
    def new(self, size: int | None) -> Iterator[FileSink]:
        """Return a sink for the file, of known size or not; an unfinished output of an earlier run is removed.

        Raises:
            OutputError: as `new_file`.
        """
        discard_partial(self.final)
        with new_file(self, size) as descriptor:
            yield FileSink(descriptor)

    def publish(self, made: Path) -> None:
        """Give the only file in the folder `made` on the same disk its owner, its mode and its final name.

        Raises:
            OutputError: another file got this name meanwhile.
        """
        file = made / ONLY_FILE
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)  # it may have the mode of a read-only input
        try:
            _set_owner_and_mode(fd, self)
            sync(fd)
        finally:
            os.close(fd)
        _publish(file, self)
        with raised_in(show(self.path)):
            sync_folder(self.final.parent)


def check_file(path: Path, *, force: bool, source: os.stat_result | None = None, option: str = OUTPUT) -> LocalFile:
    """Check, before anything is written, that an output can be written to `path`; `source` is the stat of the input.

    `option` is the option that names this output, for messages.

    Raises:
        OutputError: it exists (or is the input) and `force` is not given, it is not a regular file, or its folder is
            missing or not writable.
    """
    try:
        final, old = _resolve(path)
    except OSError as exc:
        raise write_failure(path, exc, option) from exc
    if old is not None:
        with raised_in(show(path)):
            _check_old(old, force, source, option)
    if not os.access(final.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"cannot write {show(path)}: its folder is not writable; {_ELSEWHERE} {option}")
    if old is None:
        return LocalFile(path, final, 0o666 & ~umask(), None, force, option)
    # Without setuid and setgid, which a write in place would clear as well.
    mode, owner = old.st_mode & 0o777, (old.st_uid, old.st_gid)
    return LocalFile(path, final, mode, owner, force, option, source is not None and os.path.samestat(old, source))


@contextmanager
def new_file(target: LocalFile, size: int | None) -> Iterator[int]:
    """Return a descriptor (read and write) to fill; the file gets its name when the block ends without an exception.

    The caller must not close the descriptor. A known `size` is reserved at once, so that a full disk is noticed before
    the work. After any exception the old output is unchanged and the temp file is gone.

    Raises:
        OutputError: instead of an OSError in the block or in this function. A broken pipe, and an OSError that names
            another file, are raised unchanged: they are not about this output.
    """
    remove_stale(target.final)
    with temp_beside(target.final) as temp:
        try:
            fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                if size is not None:
                    with raised_in(show(target.path)):
                        reserve(fd, size)
                yield fd
                _set_owner_and_mode(fd, target)
                sync(fd)
            finally:
                os.close(fd)
            _publish(temp, target)
        except OSError as exc:
            if isinstance(exc, BrokenPipeError) or exc.filename not in (None, str(temp)):
                raise
            raise write_failure(target.path, exc, target.option) from exc
    with raised_in(show(target.path)):
        sync_folder(target.final.parent)


@contextmanager
def output_errors(target: Path, root: Path) -> Iterator[None]:
    """Turn an OSError about a file below `root`, or without a file, into the error that `target` was not written.

    Raises:
        OutputError: instead of that OSError.
    """
    try:
        yield
    except OSError as error:
        names = [os.fsdecode(each) for each in (error.filename, error.filename2) if isinstance(each, str | bytes)]
        if isinstance(error, BrokenPipeError) or (names and not any(name.startswith(str(root)) for name in names)):
            raise
        raise write_failure(target, error) from error


def _resolve(path: Path) -> tuple[Path, os.stat_result | None]:
    """Return the end of the chain of links in the last component, which need not exist, and its stat."""
    spot = path
    for _ in range(40):  # the kernel follows as many links
        folder = Path(os.path.realpath(spot.parent, strict=True))
        if folder.is_relative_to("/proc") or folder.is_relative_to("/dev/fd"):
            # /dev/stdout (/dev/fd/1 on macOS) may lead to a regular file. A redirection asks for a write into that
            # file, not for a new file in its place.
            raise OutputError(f"cannot write {show(path)}: it leads to an open descriptor; stream with {OUTPUT} -")
        spot = folder / spot.name
        try:
            old = spot.lstat()
        except FileNotFoundError:
            return spot, None
        if not stat.S_ISLNK(old.st_mode):
            return spot, old
        spot = folder / spot.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_old(old: os.stat_result, force: bool, source: os.stat_result | None, option: str) -> None:
    if not stat.S_ISREG(old.st_mode):
        what = (
            "folder; name a file in it"
            if stat.S_ISDIR(old.st_mode)
            else f"device, FIFO or socket; stream with {OUTPUT} -"
        )
        raise OutputError(f"cannot write {HERE}: it is a {what}")
    if not force:
        is_input = source is not None and os.path.samestat(old, source)
        raise exists_already(HERE, is_input=is_input, option=option)


@contextmanager
def _ignoring(errnos: Collection[int]) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno not in errnos:
            raise


def reserve(fd: int, size: int) -> None:
    """Give a new file its size, so that a full disk is noticed before the work.

    Raises:
        OutputError: the disk has too little space.
        OSError: anything else failed.
    """
    check_space(fd, size - os.fstat(fd).st_blocks * 512)
    allocate(fd, size)
    os.ftruncate(fd, size)


def reserve_once(fd: int, size: int) -> None:
    """Reserve the space of a file that several processes fill; only the first of them does so.

    If the file system cannot reserve space, the C library writes a zero into each block that it finds empty. Without
    the lock, another process might have filled the block in between.

    Raises:
        OutputError, OSError: as `reserve`.
    """
    with _ignoring(UNSUPPORTED | {errno.ENOLCK}):
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        if os.fstat(fd).st_size != size:
            reserve(fd, size)
    finally:
        with _ignoring(UNSUPPORTED | {errno.ENOLCK}):
            fcntl.flock(fd, fcntl.LOCK_UN)


def check_space(place: int | Path, size: int, remedy: str = _FREE_SOME) -> None:
    """Check that the disk of an open file or a folder has `size` bytes free.

    Raises:
        OutputError: it does not; the message ends with `remedy`.
    """
    disk = os.statvfs(place)
    free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
    if disk.f_blocks and size > free:  # some network file systems do not report sizes
        raise OutputError(f"cannot write {HERE}: it needs {size} bytes, its disk has {free}; {remedy}")


def _set_owner_and_mode(fd: int, target: LocalFile) -> None:
    mode, (user, group) = target.mode, target.owner or (-1, -1)  # -1: unchanged
    with _ignoring(_NO_SUCH_OWNER):
        os.fchown(fd, -1, group)
    if group not in (-1, os.fstat(fd).st_gid):
        mode &= ~0o070 | (mode & 0o007) << 3  # another group gets at most the permissions of everybody
    with _ignoring({errno.EPERM}):  # a file system whose mount fixes the modes (vfat)
        os.fchmod(fd, mode)
    with _ignoring(_NO_SUCH_OWNER):
        os.fchown(fd, user, -1)


def _publish(temp: Path, target: LocalFile) -> None:
    """Give the file its name. Unlike a rename, a link fails if another file got this name meanwhile."""
    if not target.force:
        try:
            os.link(temp, target.final)
            return
        except OSError as exc:
            if exc.errno == errno.EEXIST or os.path.lexists(target.final):
                raise OutputError(f"{show(target.path)} appeared meanwhile; replace it with {FORCE}") from exc
            if exc.errno not in _NO_HARD_LINKS:
                raise
    temp.replace(target.final)


def finish(descriptor: int, mode: int | None) -> None:
    """Sync a complete file and set its permissions, less the umask; `mode` None means those of any new file.

    Raises:
        OSError: it failed.
    """
    with _ignoring({errno.EPERM}):  # a file system whose mount fixes the modes (vfat)
        os.fchmod(descriptor, (0o666 if mode is None else mode) & ~umask())
    sync(descriptor)


def sync_folder(folder: Path) -> None:
    """Sync the folder in which an output got its name.

    Raises:
        OutputError: it failed; the output exists under its name all the same.
    """
    try:
        with _ignoring(UNSUPPORTED | {errno.EACCES}):  # EACCES: a folder that may be written but not read
            sync_path(folder)
    except OSError as exc:
        raise OutputError(f"{HERE} is written, but its folder not synced: {exc.strerror}") from exc


def write_failure(path: Path, exc: OSError, option: str = OUTPUT) -> OutputError:
    """Return the error for an output that was not written; `option` names the output."""
    remedy = _REMEDIES.get(exc.errno or 0, "") + f"{_ELSEWHERE} {option}"
    return OutputError(f"cannot write {show(path)}: {show(exc.strerror or exc)}; {remedy}")


def stdout_failure(exc: OSError) -> OutputError:
    """Return the error for a failed write to standard output."""
    return OutputError(f"cannot write to standard output: {show(exc.strerror or exc)}")
