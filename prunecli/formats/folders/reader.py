"""The files of a folder, on this machine or at a URL: listed, and opened by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from prunecli.errors import UnreadableError, UnsafeError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.folders.files import DEEP, ENTRIES, NOT_THE_MODEL, list_files, too_many
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.remote import open_remote
from prunecli.formats.io.source import Source, open_source
from prunecli.formats.io.stores import Store, connect, translated
from prunecli.lean import dataclass

__all__ = ["FolderFiles", "Listing", "files_in", "list_folder"]


class FolderFiles(ABC):
    """A reader of the files in a folder."""

    @abstractmethod
    def listed(self) -> Iterator[PassthroughFile]:
        """Yield the regular files below the folder, with names relative to it.

        Raises:
            UnreadableError: a folder cannot be listed, is very large, or contains a pipe or a device.
            UnsafeError: a link or a name leads out of it.
        """

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[Source]:
        """Open one of the files.

        Raises:
            UnreadableError: it is missing, forbidden, or not a regular file.
        """


def files_in(location: Location, *, follow_links: bool = False) -> FolderFiles:
    """Return the reader of a folder; `follow_links` allows links that lead out of it.

    Raises:
        UsageError: the protocol of a URL is unknown, or its package is not installed.
    """
    return _RemoteFiles(connect(location)) if isinstance(location, Url) else _LocalFiles(location, follow_links)


@dataclass(frozen=True)
class Listing:
    """A listed folder: its location, its reader, and its files by name relative to it."""

    location: Location
    folder: FolderFiles
    files: Mapping[str, PassthroughFile]


def list_folder(location: Location, *, follow_links: bool = False) -> Listing:
    """List a folder.

    Raises:
        PrunecliError: as `files_in` and `FolderFiles.listed`.
    """
    folder = files_in(location, follow_links=follow_links)
    return Listing(location, folder, {each.name: each for each in folder.listed()})


class _LocalFiles(FolderFiles):
    def __init__(self, root: Path, follow_links: bool) -> None:
        self._root = root
        self._follow_links = follow_links

    def listed(self) -> Iterator[PassthroughFile]:
        """Yield the files. A link may lead into the blobs of the same repository of a Hugging Face cache."""
        return list_files(self._root, follow_links=self._follow_links)

    def open(self, name: str) -> AbstractContextManager[Source]:
        """Open a file."""
        return open_source(self._root / name)


class _RemoteFiles(FolderFiles):
    def __init__(self, store: Store) -> None:
        self._store = store

    def open(self, name: str) -> AbstractContextManager[Source]:
        """Open a file."""
        return open_remote(self._store.child(name))

    def listed(self) -> Iterator[PassthroughFile]:
        """Yield the files; object stores have only regular ones."""
        root = self._store
        todo, seen = [(root, "")], 0
        while todo:
            folder, prefix = todo.pop()
            with translated(folder.url, UnreadableError, "list {}"):
                entries = folder.listed()
            for entry in sorted(entries, key=lambda each: str(each["name"])):
                seen += 1
                name = _own_name(folder, entry)
                if seen > ENTRIES or prefix.count("/") > DEEP:
                    raise too_many(root.url)
                if entry["type"] == "directory":
                    if name not in (*NOT_THE_MODEL, ""):
                        todo.append((folder.child(name), f"{prefix}{name}/"))
                elif name:  # an entry without a name marks a folder; some tools leave such entries
                    yield PassthroughFile(prefix + name, folder.child(name).url, int(entry["size"]))


def _own_name(folder: Store, entry: dict[str, Any]) -> str:
    """Return the name of an entry within its folder, and check it: keys with `//` in a store give more than a name."""
    place = str(entry["name"]).rstrip("/")
    name = place.removeprefix(folder.path.rstrip("/")).removeprefix("/")
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UnsafeError(f"{show(folder.url)} holds {show(place)}, whose name leads elsewhere; remove it")
    return name
