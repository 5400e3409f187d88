"""Open any checkpoint that a user names: a file, standard input, or a folder of files.

The readers of folders are imported only for a folder: a command starts a tenth faster.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prunecli.errors import PrunecliError, UnsupportedError, show
from prunecli.formats.base import AS_FOUND, AnyCheckpoint, ReadOptions
from prunecli.formats.detect import open_checkpoint, read_checkpoint
from prunecli.formats.folders.files import METADATA
from prunecli.formats.folders.weights import folder_of_index, is_index, weights_among
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.remote import look_at, open_found
from prunecli.formats.packed.names import is_packed_folder

if TYPE_CHECKING:
    from prunecli.formats.folders.base import Folder
    from prunecli.formats.folders.reader import Listing

__all__ = ["AnyCheckpoint", "check_unchanged", "fingerprint", "holds_checkpoint", "open_any", "open_any_folder"]


@contextmanager
def open_any(location: Location | None, reading: ReadOptions = AS_FOUND) -> Iterator[AnyCheckpoint]:
    """Open a checkpoint and read its layout; None stands for standard input, an index file for its shards.

    Raises:
        PrunecliError: as for `open_checkpoint` and `open_any_folder`.
    """
    folder = None if location is None else folder_of_index(location)
    if location is not None and folder is not None:
        from prunecli.formats.folders.sharded import open_folder

        with open_folder(folder, reading, index=location.name) as shards:
            yield shards
        return
    if isinstance(location, Url):
        store, found = look_at(location)
        if found.get("type") != "directory":
            yield read_checkpoint(open_found(store, found), reading)
            return
    if location is not None and (isinstance(location, Url) or _is(location, Path.is_dir)):
        with open_any_folder(location, reading) as opened:
            yield opened
    else:
        with open_checkpoint(location, reading) as checkpoint:
            yield checkpoint


def holds_checkpoint(location: Location) -> bool:
    """Whether a folder holds at least one checkpoint that can be read."""
    places = [location]
    if not isinstance(location, Url):
        with contextlib.suppress(OSError):
            places += [location / name for name in weights_among(each.name for each in location.iterdir())]
    for place in places:
        try:
            with open_any(place, ReadOptions(foreign=True, follow_links=True)):
                return True
        except PrunecliError:
            continue
    return False


def check_unchanged(opened: AnyCheckpoint) -> None:
    """Check, after everything has been read, that no file has changed since it was opened.

    Raises:
        UnreadableError: a file has changed.
    """
    for source in opened.sources.values():
        source.check_unchanged()


@contextmanager
def open_any_folder(location: Location, reading: ReadOptions = AS_FOUND) -> "Iterator[Folder]":
    """Open a folder of components, shards or slices, or, on this machine, one of torch.distributed.checkpoint.

    Raises:
        UnsupportedError: it is both.
        PrunecliError: as for `open_folder` and `open_dcp_folder`.
    """
    from prunecli.formats.folders.dcp.folder import open_dcp_folder
    from prunecli.formats.folders.reader import list_folder

    if isinstance(location, Url) or not _is(location / METADATA, Path.is_file):
        with _open_listed(list_folder(location, follow_links=reading.follow_links), reading) as folder:
            yield folder
        return
    index = next((each.name for each in sorted(location.glob("*.json")) if is_index(each.name)), None)
    if index is not None:
        raise UnsupportedError(
            f"{show(location)} holds several checkpoints ({METADATA}, {show(index)}); move one of them elsewhere"
        )
    with open_dcp_folder(list_folder(location, follow_links=reading.follow_links), reading) as folder:
        yield folder


def _open_listed(listing: "Listing", reading: ReadOptions) -> "AbstractContextManager[Folder]":
    from prunecli.formats.folders.component_names import find_components
    from prunecli.formats.folders.components import open_components
    from prunecli.formats.folders.sharded import open_folder
    from prunecli.formats.folders.slices import open_slices, slice_files

    if is_packed_folder(listing.files):
        from prunecli.formats.folders.dcp.folder import open_dcp_folder
        from prunecli.formats.folders.packed import original_listing

        listing = original_listing(listing)
        if METADATA in listing.files:
            return open_dcp_folder(listing, reading)
    components = find_components(listing)
    if components is not None:
        return open_components(listing, components, reading)
    names = slice_files(listing)
    return open_slices(listing, names, reading) if names else open_folder(listing.location, reading, listing)


def _is(path: Path, kind: Callable[[Path], bool]) -> bool:
    """Return `kind(path)`; False if the path cannot be examined, in which case opening it raises the error."""
    try:
        return kind(path)
    except OSError:
        return False


def fingerprint(*checkpoints: AnyCheckpoint) -> str:
    """Return a digest of the state of some checkpoints: their tensors, and the states of their files."""
    digest = hashlib.blake2b(digest_size=16)
    for opened in checkpoints:
        for name, source in opened.sources.items():
            digest.update(repr((name, source.size, source.state)).encode("utf-8", "surrogatepass"))
        for tensor in opened.tensors.values():
            what = (tensor.name, tensor.dtype.name, tensor.shape, tensor.storage.key, tensor.storage.offset)
            digest.update(repr(what).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
