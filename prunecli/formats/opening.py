"""Open whatever a user names: a file, standard input, or a folder of shards."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunecli.formats.base import AS_FOUND, Checkpoint, Reading
from prunecli.formats.detect import open_checkpoint, read_checkpoint
from prunecli.formats.folder import Folder
from prunecli.formats.locations import Location, Url
from prunecli.formats.remote import look_at, open_found
from prunecli.formats.sharded import open_folder

__all__ = ["Opened", "confirm", "fingerprint", "open_any"]

Opened = Checkpoint | Folder


@contextmanager
def open_any(location: Location | None, reading: Reading = AS_FOUND) -> Iterator[Opened]:
    """Open a checkpoint and read its layout; None stands for standard input.

    Raises:
        PrunecliError: as `open_checkpoint` and `open_folder`.
    """
    if isinstance(location, Url):
        store, found = look_at(location)
        if found.get("type") != "directory":
            yield read_checkpoint(open_found(store, found), reading)
            return
    if location is not None and (isinstance(location, Url) or _is_folder(location)):
        with open_folder(location, reading) as folder:
            yield folder
    else:
        with open_checkpoint(location, reading) as checkpoint:
            yield checkpoint


def confirm(opened: Opened) -> None:
    """Look, once all is read, whether every file was the same all the while.

    Raises:
        UnreadableError: one was not.
    """
    for source in opened.sources.values() if isinstance(opened, Folder) else [opened.source]:
        source.confirm()


def _is_folder(path: Path) -> bool:
    """Whether it is a folder; what cannot be looked at is for those to name who try to open it."""
    try:
        return path.is_dir()
    except OSError:
        return False


def fingerprint(opened: Opened) -> str:
    """Return what tells this state of a checkpoint from others: its tensors, and the state of its files."""
    digest = hashlib.blake2b(digest_size=16)
    sources = opened.sources if isinstance(opened, Folder) else {"": opened.source}
    for name, source in sources.items():
        digest.update(repr((name, source.size, source.state)).encode("utf-8", "surrogatepass"))
    for tensor in opened.tensors.values():
        what = (tensor.name, tensor.dtype.name, tensor.shape, tensor.storage.key, tensor.storage.offset)
        digest.update(repr(what).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
