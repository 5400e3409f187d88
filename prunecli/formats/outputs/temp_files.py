"""Temp files and folders beside an output: their names, and the removal of those left by killed runs."""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["hidden_prefix", "remove_path", "remove_stale", "temp_beside", "umask"]

_NAME_BYTES = 80  # of the output's name in the temp name: the whole stays below 143, eCryptfs' limit, and so below 255
_in_flight: set[Path] = set()  # temp files of this process


@contextmanager
def temp_beside(final: Path) -> Iterator[Path]:
    """Return a name for a temp file or folder beside `final`; what has this name at the end is removed."""
    temp = final.with_name(f"{hidden_prefix(final)}{os.getpid()}-{_boot_id()}-{secrets.token_hex(8)}.tmp")
    try:  # before the file exists, so that it is removed after an interrupt at any point
        _in_flight.add(temp)
        yield temp
    finally:
        # Twice: an interrupt may stop the first call. It is raised only once (cli/signals.py).
        try:
            remove_path(temp)
        finally:
            remove_path(temp)


def remove_stale(final: Path) -> None:
    """Remove the temp files that killed runs left for this output. Errors are ignored."""
    shape = re.compile(re.escape(hidden_prefix(final)) + r"([1-9]\d{0,8})-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for path in list(final.parent.iterdir()):
            found = shape.fullmatch(path.name)
            if found and (found[2] != _boot_id() or not _is_running(int(found[1]), path)):
                remove_path(path)


def hidden_prefix(final: Path) -> str:
    """Return the start of a temp file's name: hidden, with the output's name, short enough for every file system."""
    raw = os.fsencode(final.name)
    name = final.name if len(raw) <= _NAME_BYTES else raw[:_NAME_BYTES].decode(errors="ignore")
    return f".{name}.prunecli-"


def umask() -> int:
    """Return the umask, from /proc if possible: os.umask changes it for a moment, which other threads could see."""
    with suppress(OSError):
        if found := re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.MULTILINE):
            return int(found[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _boot_id() -> str:
    """Return an id of this boot: a pid is meaningless after a restart, or on another host of a shared folder."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return "00000000"


def _is_running(pid: int, temp: Path) -> bool:
    if pid == os.getpid():  # in a container every run may have pid 1, so a dead run may have had our pid
        return temp in _in_flight
    try:
        os.kill(pid, 0)
    except OSError as exc:
        return exc.errno != errno.ESRCH
    return True


def remove_path(path: Path) -> None:
    """Remove a file, or a folder and everything below it, as far as possible."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    _in_flight.discard(path)
