"""Files that are carried into an output folder unchanged: as a reflink (shared blocks), a copy or a hard link.

Users may write into an output, and that must not change the input. A reflink and a copy ensure this. A hard link does
not, and is made only on request.
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prunecli.errors import UnreadableError, raised_in, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.detect import open_location
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.pieces import Copy
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.io.source import FileSource, Source, open_source
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.outputs.base import Transfer
from prunecli.formats.outputs.file import finish, reserve
from prunecli.formats.outputs.system import UNSUPPORTED, clone
from prunecli.formats.outputs.temp_files import hidden_prefix

__all__ = ["bytes_to_copy", "carry"]

_NO_LINK = UNSUPPORTED | {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES}


def carry(file: PassthroughFile, place: Path, output: Path, transfer: Transfer) -> None:
    """Put a file into its place, and sync it; if an earlier run has put a local file there, keep that.

    `output` is the name of the output in messages.

    Raises:
        UnreadableError: the file cannot be read.
        DamagedError: it ends early.
        OutputError, OSError: the place cannot be written.
    """
    temp = place.with_name(f"{hidden_prefix(place)}carried")
    temp.unlink(missing_ok=True)
    if _is_done(file.path, place, transfer.link):
        transfer.count(file.size)
        return
    with open_location(file.path) as source:
        if _cloned(source, temp) or (transfer.link and _linked(file.path, temp)):
            transfer.count(file.size)
        else:
            _copy(source, temp, output, transfer)
    temp.replace(place)


def _is_done(location: Location, place: Path, link: bool) -> bool:
    if isinstance(location, Url):
        return False  # the file at the URL may have changed
    try:
        return place.lstat().st_nlink == 1 or link
    except FileNotFoundError:
        return False


def _copy(source: Source, place: Path, output: Path, transfer: Transfer) -> None:
    descriptor = _new(place)
    try:
        with raised_in(show(output)):
            reserve(descriptor, source.size)
        copy = [Copy(0, source.size)]
        run_pieces(copy, source, FileSink(descriptor), jobs=transfer.threads, progress=transfer.progress)
        source.check_unchanged()
        finish(descriptor, source.mode)
    finally:
        os.close(descriptor)


def bytes_to_copy(files: Iterable[PassthroughFile], folder: Path, *, link: bool) -> int:
    """Return the bytes of the files that will need space in a folder, because they cannot share blocks or be linked.

    One file of each file system is tried.
    """
    shared: dict[int, bool] = {}
    size = 0
    for each in files:
        if isinstance(each.path, Url):
            size += each.size
            continue
        with suppress(OSError):  # `carry` will report it
            device = each.path.stat().st_dev
            if device not in shared:
                shared[device] = _can_share(each.path, folder / "probe", link)
            size += 0 if shared[device] else each.size
    return size


def _can_share(path: Path, probe: Path, link: bool) -> bool:
    try:
        with open_source(path) as source:
            return _cloned(source, probe) or (link and _linked(path, probe))
    except UnreadableError:
        return False
    finally:
        probe.unlink(missing_ok=True)


def _new(place: Path) -> int:
    return os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _cloned(source: Source, place: Path) -> bool:
    if not isinstance(source, FileSource):
        return False
    descriptor = _new(place)
    try:
        done = clone(source.descriptor, descriptor)
        if done:
            finish(descriptor, source.mode)
    finally:
        os.close(descriptor)
    if not done:
        place.unlink()
    return done


def _linked(old: Location, place: Path) -> bool:
    if isinstance(old, Url):
        return False
    try:
        os.link(os.path.realpath(old), place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True
