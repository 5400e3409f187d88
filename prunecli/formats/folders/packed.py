"""A folder of packed files, read as the folder that it was made from."""

from collections.abc import Iterator
from contextlib import contextmanager

from prunecli.errors import UnsupportedError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.folders.files import METADATA
from prunecli.formats.folders.reader import FolderFiles, Listing
from prunecli.formats.io.source import Source
from prunecli.formats.packed.names import SUFFIX, original_name
from prunecli.formats.packed.source import unpacked_source
from prunecli.formats.safetensors.read import read_safetensors

__all__ = ["original_listing"]


def original_listing(listing: Listing) -> Listing:
    """Return the listing of the folder from which a packed one was made; its files are unpacked as they are read.

    Raises:
        UnsupportedError: it is one of torch.distributed.checkpoint, which is only read unpacked.
    """
    folder = _PackedFiles(listing.folder)
    files = {each.name: each for each in folder.listed()}
    if METADATA in files:
        raise UnsupportedError(
            f"{show(listing.location)} is a packed folder of torch.distributed.checkpoint; unpack it first"
        )
    return Listing(listing.location, folder, files)


class _PackedFiles(FolderFiles):
    """The files of a packed folder under their original names."""

    def __init__(self, packed: FolderFiles) -> None:
        self._packed = packed

    def listed(self) -> Iterator[PassthroughFile]:
        """Yield the files, with the sizes of the packed ones."""
        for each in self._packed.listed():
            parent, slash, last = each.name.rpartition("/")
            name = original_name(last)
            if name is not None:
                yield PassthroughFile(parent + slash + name, each.path, each.size)

    @contextmanager
    def open(self, name: str) -> Iterator[Source]:
        """Open one of the files."""
        with self._packed.open(name + SUFFIX) as source:
            yield unpacked_source(source, read_safetensors(source).tensors)
