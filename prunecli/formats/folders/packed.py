"""A folder of packed files, read as the folder that it was made from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prunecli.errors import DamagedError, UnsafeError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.folders.files import NOT_THE_MODEL
from prunecli.formats.folders.reader import FolderFiles, Listing
from prunecli.formats.packed.manifest import Original, read_manifest
from prunecli.formats.packed.names import MANIFEST, SUFFIX
from prunecli.formats.packed.source import PackedSource, unpacked_source
from prunecli.formats.safetensors.read import read_safetensors

__all__ = ["PackedFiles", "original_listing", "packed_files"]


def original_listing(listing: Listing) -> Listing:
    """Return the listing of the folder from which a packed one was made; its files are unpacked as they are read.

    Raises:
        PrunecliError: as `packed_files`.
    """
    folder = packed_files(listing)
    return Listing(listing.location, folder, {each.name: each for each in folder.listed()})


def packed_files(listing: Listing) -> "PackedFiles":
    """Return the reader of the originals in a packed folder; files that are not packed are passed over.

    Raises:
        DamagedError: it has no list of its files, or a packed file is missing or not listed.
        UnsafeError: the list has a name that leads out of the folder.
        PrunecliError: as `read_manifest`.
    """
    where = show(listing.location)
    if MANIFEST not in listing.files:
        raise DamagedError(
            f"{where} has packed files, and no {MANIFEST}, which is written last: it was packed or copied in part; do "
            "that again, or unpack its files one by one"
        )
    with listing.folder.open(MANIFEST) as source:
        originals = read_manifest(source)
    for name in originals:
        if any(part in ("", ".", "..", *NOT_THE_MODEL) for part in name.split("/")):
            raise UnsafeError(f"{where}: {MANIFEST} lists {show(name)}, which no checkpoint has; fetch it again")
    expected = {name + SUFFIX for name in originals}
    missing = sorted(expected - listing.files.keys())
    if missing:
        raise DamagedError(f"{where} lacks {show(missing[0])}, which {MANIFEST} lists; fetch it again")
    more = sorted(name for name in listing.files if name.endswith(SUFFIX) and name not in expected)
    if more:
        raise DamagedError(f"{where} contains {show(more[0])}, which {MANIFEST} does not list; take it out")
    return PackedFiles(listing, originals)


class PackedFiles(FolderFiles):
    """The files of a packed folder under their original names."""

    def __init__(self, packed: Listing, originals: Mapping[str, Original]) -> None:
        self._packed = packed
        self._originals = originals

    def listed(self) -> Iterator[PassthroughFile]:
        """Yield the files, with the sizes of the originals and the paths of the packed files."""
        for name, (size, _) in self._originals.items():
            yield PassthroughFile(name, self._packed.files[name + SUFFIX].path, size)

    @contextmanager
    def open(self, name: str) -> Iterator[PackedSource]:
        """Open one of the files.

        Raises:
            DamagedError: it is another file than was packed under this name.
        """
        with self._packed.folder.open(name + SUFFIX) as source:
            found = unpacked_source(source, read_safetensors(source).tensors)
            if (found.size, found.directory.crc) != self._originals[name]:
                raise DamagedError(
                    f"{source.label} is another file than the one that {MANIFEST} lists; fetch both again"
                )
            yield found

    @property
    def passed_over(self) -> list[str]:
        """The names of files in the folder that are not packed."""
        return [name for name in self._packed.files if name != MANIFEST and not name.endswith(SUFFIX)]
