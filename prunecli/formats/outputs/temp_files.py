"""Temp files and folders beside an output: their names, and the removal of what killed runs left."""

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
_in_flight: set[Path] = set()  # temps of this very process


@contextmanager
def temp_beside(final: Path) -> Iterator[Path]:
    """Give a name for a temp file or folder in the folder of `final`; whatever has it at the end is removed."""
    temp = final.with_name(f"{hidden_prefix(final)}{os.getpid()}-{_boot_id()}-{secrets.token_hex(8)}.tmp")
    try:  # entered before the file is there: an interrupt at any point finds what to remove
        _in_flight.add(temp)
        yield temp
    finally:
        # Twice: an interrupt may strike before the first has done its work. It is raised once only (cli/signals.py).
        try:
            remove_path(temp)
        finally:
            remove_path(temp)


def remove_stale(final: Path) -> None:
    """Remove what killed runs left for this output. Tidying is no reason to fail."""
    shape = re.compile(re.escape(hidden_prefix(final)) + r"([1-9]\d{0,8})-([0-9a-f]{8})-[0-9a-f]{16}\.tmp")
    with suppress(OSError):
        for path in list(final.parent.iterdir()):
            found = shape.fullmatch(path.name)
            if found and (found[2] != _boot_id() or not _is_running(int(found[1]), path)):
                remove_path(path)


def hidden_prefix(final: Path) -> str:
    """Begin the name of a temp file: hidden, with the output's name in it, and short enough for every file system."""
    raw = os.fsencode(final.name)
    name = final.name if len(raw) <= _NAME_BYTES else raw[:_NAME_BYTES].decode(errors="ignore")
    return f".{name}.prunecli-"


def umask() -> int:
    """Read the umask, from /proc where there is one: os.umask sets it to read it, which other threads would see."""
    with suppress(OSError):
        if found := re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.MULTILINE):
            return int(found[1], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _boot_id() -> str:
    """Return an id of this boot: a pid means nothing after a restart, or on another host of a shared folder."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return "00000000"


def _is_running(pid: int, temp: Path) -> bool:
    if pid == os.getpid():  # in a container every run may be pid 1, so our own pid may be a dead run's
        return temp in _in_flight
    try:
        os.kill(pid, 0)
    except OSError as exc:
        return exc.errno != errno.ESRCH
    return True


def remove_path(path: Path) -> None:
    """Remove a file, or a folder and all below it, as far as that can be done."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    _in_flight.discard(path)
