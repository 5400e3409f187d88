"""An output folder behind a URL: every file is sent first, and then all get their names, the index last.

An object store cannot name many objects in one step. What stands between the first and the last of these names is a
folder without its index, which readers take for no checkpoint; a failure there removes what was named already.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from prunecli.errors import OutputError, show
from prunecli.formats.detect import open_location
from prunecli.formats.folders.reader import files_in
from prunecli.formats.io.locations import Location, Url
from prunecli.formats.io.pieces import Copy
from prunecli.formats.io.stores import Store, connect, connect_to_write, failures, translated
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.outputs.upload import Upload, Uploads

__all__ = ["RemoteFolder", "RemoteFolderTarget", "check_remote_folder", "new_remote_folder"]


@dataclass(frozen=True)
class RemoteFolderTarget:
    """A place behind a URL that was looked at and found fit to hold a folder; `old` are the files it replaces."""

    final: Url
    store: Store
    old: tuple[str, ...]

    @property
    def replaces(self) -> bool:
        """Whether a folder stands there."""
        return bool(self.old)


def check_remote_folder(url: Url, *, force: bool, source: Location | None, replaceable: bool) -> RemoteFolderTarget:
    """Look, before anything is written, whether a folder can stand behind a URL; `source` is the input folder.

    `replaceable` tells that what stands there is a checkpoint: nothing else is ever replaced, as it goes with all that
    is in it.

    Raises:
        OutputError: something is there and may not be replaced, or it lies in the input or around it.
        UsageError: the protocol is not known, or not installed.
    """
    store = connect_to_write(url)
    here, there = f"{store.path.rstrip('/')}/", _path_in(store, source)
    itself = here == there
    if there is not None and not itself and (here.startswith(there) or there.startswith(here)):
        raise OutputError(f"{show(url)} and the input lie in each other; name another output with -o")
    with translated(url, OutputError, "look whether {} exists"):
        found = store.look()
    if found is None:
        return RemoteFolderTarget(url, store, ())
    if found.get("type") != "directory":
        raise OutputError(f"cannot write {show(url)}: it is no folder, and the checkpoint is one; name another")
    old = tuple(each.name for each in files_in(url).listed())
    if old and not force:
        what = "is the input itself" if itself else "exists"
        raise OutputError(f"{show(url)} {what}; name another output with -o, or replace it with --force")
    if old and not replaceable:
        raise OutputError(f"{show(url)} is a folder that holds no checkpoint; it is not replaced, remove it first")
    return RemoteFolderTarget(url, store, old)


def _path_in(store: Store, source: Location | None) -> str | None:
    """Return what a store calls the input, with a slash behind it, None if it lies elsewhere."""
    origin = connect(source) if isinstance(source, Url) else None
    return f"{origin.path.rstrip('/')}/" if origin is not None and origin.files is store.files else None


class RemoteFolder:
    """A folder in the making: files are sent, or carried along from elsewhere."""

    def __init__(self, target: RemoteFolderTarget) -> None:
        self._target = target
        self._uploads = Uploads()
        self._kept: list[Upload] = []
        self._made: list[Upload] = []
        self._closing: list[Upload] = []
        self._copies: dict[str, Store] = {}
        self._named: list[str] = []

    @contextmanager
    def file(self, name: str, size: int) -> Iterator[Upload]:
        """Give a sink, in order, to fill a new file of `size` bytes with."""
        upload = self._uploads.begin(self._target.store.child(name), size)
        yield upload
        self._uploads.run(upload.finish)
        self._made.append(upload)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file that makes the folder a checkpoint: it gets its name when all others have theirs."""
        with self.file(name, len(data)) as upload:
            upload.write(memoryview(data), 0)
        self._closing.append(self._made.pop())

    def keep(self, name: str, location: Location) -> None:
        """Carry a file along: copied by the store itself where it lies in the same, else sent like the others."""
        if isinstance(location, Url):
            store = connect(location)
            if store.files is self._target.store.files:
                self._copies[name] = store
                return
        # Its size is asked for again: what a listing says of a link is the link's own.
        with open_location(location) as source, self.file(name, source.size) as upload:
            run_pieces([Copy(0, source.size)], source, upload, jobs=1)
            source.check_unchanged()
        self._kept.append(self._made.pop())

    def commit(self) -> None:
        """Give all files their names, and remove what else stood in the folder.

        Raises:
            OutputError: not all could be named. Those that were are removed again, unless they replaced others.
        """
        target = self._target
        try:
            with translated(target.final, OutputError, "write {}"):
                if target.replaces:
                    # Without its index, the old folder is none from here on, and no reader mixes it with the new one.
                    self._remove([each.store for each in self._closing if self._name(each) in target.old])
                elif target.store.look() is not None and self._listed():
                    raise OutputError(f"{show(target.final)} appeared meanwhile; replace it with --force")
                for name, store in self._copies.items():
                    self._uploads.run(partial(self._copy, name, store))
            for upload in (*self._kept, *self._made, *self._closing):
                self._named.append(self._name(upload))
                self._uploads.commit([upload], force=True)
        except BaseException as error:
            with suppress(*failures()):
                self._remove([target.store.child(name) for name in self._named if name not in target.old])
            if target.replaces and isinstance(error, OutputError):
                raise OutputError(f"{error}; what stood there is replaced in part, run again") from error
            raise
        new = {*self._copies, *map(self._name, (*self._kept, *self._made, *self._closing))}
        with translated(target.final, OutputError, "remove what is old in {}"):
            self._remove([target.store.child(name) for name in target.old if name not in new])

    def end(self) -> None:
        """Discard what was not committed."""
        self._uploads.end()

    def _listed(self) -> bool:
        """Whether there is anything but what this run has put there under other names."""
        own = {upload.aside for upload in (*self._kept, *self._made, *self._closing)}
        listed = files_in(self._target.final).listed()
        return any(self._target.store.child(each.name).path not in own for each in listed)

    def _name(self, upload: Upload) -> str:
        return upload.store.path.removeprefix(self._target.store.path.rstrip("/") + "/")

    def _copy(self, name: str, store: Store) -> None:
        place = self._target.store.child(name)
        if store.path != place.path:
            self._named.append(name)
            with store.turn:
                store.files.cp_file(store.path, place.path)

    def _remove(self, stores: list[Store]) -> None:
        def act() -> None:
            for each in stores:
                with each.turn, suppress(FileNotFoundError):
                    each.files.rm_file(each.path)

        self._uploads.run(act)


@contextmanager
def new_remote_folder(target: RemoteFolderTarget) -> Iterator[RemoteFolder]:
    """Give a folder to fill; its files get their names when the block ends without an exception.

    Raises:
        OutputError: it was not written.
    """
    folder = RemoteFolder(target)
    try:
        yield folder
        folder.commit()
    finally:
        folder.end()
