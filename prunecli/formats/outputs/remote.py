"""Outputs at a URL: all files are sent first, then all get their names, the index of a folder last.

An object store cannot name many objects in one step. Between the first and the last of these names, the folder lacks
its index, so readers do not treat it as a checkpoint; a failure there removes the files that already have their names.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import ClassVar

from prunecli.errors import OutputError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.detect import open_location
from prunecli.formats.folders.reader import files_in
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.pieces import Copy
from prunecli.formats.io.stores import Store, connect, connect_to_write, failures, translated
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.outputs.base import (
    OutputContents,
    OutputFile,
    SingleFileOutput,
    Transfer,
    exists_already,
)
from prunecli.formats.outputs.upload import Upload, Uploads
from prunecli.lean import dataclass
from prunecli.terms import FORCE, OUTPUT

__all__ = ["FolderWriter", "RemoteFile", "RemoteFolder", "check_remote_file", "check_remote_folder"]


@dataclass(frozen=True)
class RemoteFile(SingleFileOutput):
    """A URL that has been checked and can be written."""

    final: Url
    store: Store
    force: bool
    resumable: ClassVar[bool] = False

    @contextmanager
    def new(self, size: int) -> Iterator[Upload]:
        """Return a sink for the file, to be written in order.

        Raises:
            OutputError: it was not written.
        """
        with Uploads() as uploads:
            upload = uploads.begin(self.store, size)
            yield upload
            uploads.run(upload.finish)
            uploads.commit(upload, force=self.force)


def check_remote_file(url: Url, *, force: bool, source: Location | None = None, option: str = OUTPUT) -> RemoteFile:
    """Check, before anything is written, that a file can be written to a URL; arguments as for `check_output`.

    Raises:
        OutputError: it exists (or is the input) and `force` is not given, or it cannot be written.
        UsageError: the protocol is unknown, or its package is not installed.
    """
    store = connect_to_write(url, option)
    with translated(url, OutputError, "look whether {} exists"):
        found = store.look()
    if found is not None and found.get("type") == "directory":
        raise OutputError(f"cannot write {show(url)}: it is a folder; name a file in it")
    if found is not None and not force:
        raise exists_already(show(url), is_input=url == source, option=option)
    return RemoteFile(url, store, force)


@dataclass(frozen=True)
class RemoteFolder:
    """A URL that has been checked and to which a folder can be written; `old` are the files it replaces."""

    final: Url
    store: Store
    old: tuple[str, ...]
    resumable: ClassVar[bool] = False

    @contextmanager
    def begin(self, contents: OutputContents, transfer: Transfer) -> Iterator["FolderWriter"]:
        """Return a writer for the folder.

        Raises:
            OutputError: it was not written.
        """
        with Uploads() as uploads:
            writer = FolderWriter(self, uploads, transfer)
            yield writer
            writer.commit()


def check_remote_folder(url: Url, *, force: bool, source: Location | None, replaceable: bool) -> RemoteFolder:
    """Check, before anything is written, that a folder can be written to a URL; `source` is the input folder.

    `replaceable` means that the existing folder is a checkpoint. Other folders are never replaced, because replacing
    removes everything in them.

    Raises:
        OutputError: something exists there and may not be replaced, or it lies in the input or contains it.
        UsageError: the protocol is unknown, or its package is not installed.
    """
    store = connect_to_write(url)
    here, there = f"{store.path.rstrip('/')}/", _path_in(store, source)
    itself = here == there
    if there is not None and not itself and (here.startswith(there) or there.startswith(here)):
        raise OutputError(f"{show(url)} and the input lie in each other; name another output with {OUTPUT}")
    with translated(url, OutputError, "look whether {} exists"):
        found = store.look()
    if found is None:
        return RemoteFolder(url, store, ())
    if found.get("type") != "directory":
        raise OutputError(f"cannot write {show(url)}: it is not a folder, and the checkpoint is one; name another")
    old = tuple(each.name for each in files_in(url).listed())
    if old and not force:
        raise exists_already(show(url), is_input=itself)
    if old and not replaceable:
        raise OutputError(f"{show(url)} is a folder that holds no checkpoint; it is not replaced, remove it first")
    return RemoteFolder(url, store, old)


def _path_in(store: Store, source: Location | None) -> str | None:
    """Return the path of the input in a store, with a slash at the end; None if it lies elsewhere."""
    origin = None if source is None else _store_of(source)
    return f"{origin.path.rstrip('/')}/" if origin is not None and origin.files is store.files else None


class FolderWriter:
    """A writer that sends the files of a folder, or has the store copy them."""

    def __init__(self, target: RemoteFolder, uploads: Uploads, transfer: Transfer) -> None:
        self._target = target
        self._uploads = uploads
        self._transfer = transfer
        self._made: dict[str, Upload] = {}
        self._closing: dict[str, Upload] = {}
        self._copies: dict[str, Store] = {}
        self._named: list[str] = []

    @contextmanager
    def sink(self, file: OutputFile) -> Iterator[Upload]:
        """Return a sink for one of its files, to be written in order."""
        with self.upload(file.name, file.size, closing=file.closing) as upload:
            yield upload

    @contextmanager
    def upload(self, name: str, size: int, *, closing: bool = False) -> Iterator[Upload]:
        """Return a sink for a file of a name and size; a closing file gets its name after all others."""
        upload = self._uploads.begin(self._target.store.child(name), size)
        yield upload
        self._uploads.run(upload.finish)
        (self._closing if closing else self._made)[name] = upload

    def keep(self, file: PassthroughFile) -> None:
        """Put a file into the folder: if it lies in the same store, the store copies it; else it is sent."""
        store = _store_of(file.path)
        if store is not None and store.files is self._target.store.files:
            self._copies[file.name] = store
            self._transfer.count(file.size)
            return
        # The size is read again: for a link, the listing contains the size of the link itself.
        with open_location(file.path) as source, self.upload(file.name, source.size) as upload:
            run_pieces([Copy(0, source.size)], source, upload, jobs=1, progress=self._transfer.progress)
            source.check_unchanged()

    def commit(self) -> None:
        """Give all files their names, and remove all other files from the folder.

        Raises:
            OutputError: not all files could be named. Those with names are removed again, unless they replaced others.
        """
        target, files = self._target, {**self._made, **self._closing}
        try:
            with translated(target.final, OutputError, "write {}"):
                if target.old:
                    # From here on the old folder lacks its index, so readers do not mix it with the new one.
                    self._remove(name for name in self._closing if name in target.old)
                elif target.store.look() is not None and self._listed(files):
                    raise OutputError(f"{show(target.final)} appeared meanwhile; replace it with {FORCE}")
                for name, store in self._copies.items():
                    self._uploads.run(partial(self._copy, name, store))
            for name, upload in files.items():
                self._named.append(name)
                self._uploads.commit(upload, force=True)
        except BaseException as error:
            with suppress(*failures()):
                self._remove(name for name in self._named if name not in target.old)
            if target.old and isinstance(error, OutputError):
                raise OutputError(f"{error}; what stood there is replaced in part, run again") from error
            raise
        with translated(target.final, OutputError, "remove what is old in {}"):
            self._remove(name for name in target.old if name not in files and name not in self._copies)

    def _listed(self, files: Mapping[str, Upload]) -> bool:
        """Whether the folder contains anything but this run's files, which still have temporary names."""
        own = {upload.aside for upload in files.values()}
        listed = files_in(self._target.final).listed()
        return any(self._target.store.child(each.name).path not in own for each in listed)

    def _copy(self, name: str, store: Store) -> None:
        place = self._target.store.child(name)
        if store.path != place.path:
            self._named.append(name)
            with store.turn:
                store.files.cp_file(store.path, place.path)

    def _remove(self, names: Iterable[str]) -> None:
        stores = [self._target.store.child(name) for name in names]

        def act() -> None:
            for each in stores:
                with each.turn, suppress(FileNotFoundError):
                    each.files.rm_file(each.path)

        self._uploads.run(act)


def _store_of(location: Location) -> Store | None:
    """Return the store that contains a file, None if the file is on this machine."""
    return connect(location) if isinstance(location, Url) else None
