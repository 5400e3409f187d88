"""The input behind a URL: a file that is read in ranges, never fetched whole."""

import bisect
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prunecli.errors import DamagedError, UnreadableError, show
from prunecli.formats.io.locations import Url
from prunecli.formats.io.source import Source
from prunecli.formats.io.stores import Store, connect, translated

__all__ = ["RemoteSource", "look_at", "open_found", "open_remote"]

_EDGE = 64 << 10
"""Bytes fetched by the first read at the beginning or the end of a file, for headers and zip directories."""

_NEAR = 4 << 10
"""The least bytes that a read elsewhere fetches."""

_KEPT = 32 << 20
"""The most bytes of fetched runs that are kept."""

_MOST = 1 << 20
"""The most bytes of several runs that are joined into one request."""

_AT_ONCE = 16
"""The most requests in flight."""

_VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "blob_id",
    "oid",
    "mtime",
    "modified",
    "last_modified",
    "LastModified",
    "created",
)
"""Fields that differ between two states of an object, the best first."""


class RemoteSource(Source):
    """A file behind a URL. What `read` fetches is cached for a while, because headers are read more than once."""

    def __init__(self, store: Store, found: Mapping[str, Any]) -> None:
        size = found.get("size")
        self.label = show(store.url)
        self.name = str(store.url)
        if not isinstance(size, int):
            raise UnreadableError(f"cannot open {self.label}: its server does not report its size; fetch it first")
        self.size = size
        self.store = store
        self._version = _version(found)
        self._windows = _Windows()

    @property
    def location(self) -> Url:
        """Its URL."""
        return self.store.url

    @property
    def state(self) -> str:
        """An identifier of this state of the file, as far as its store has one."""
        return repr(self._version)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on, from the cache if it contains them.

        Raises:
            DamagedError: the file ends too early, from the start or because it was truncated since it was opened.
            UnreadableError: it cannot be read.
        """
        if offset + length > self.size:
            raise DamagedError(f"{self.label} ends at byte {self.size}, in the middle of its data")
        start, data = self._windows.find(offset)
        have = start + len(data)
        if offset + length > have:
            stop = max(offset + length, min(offset + _NEAR, self.size))
            if offset < have:
                data += self._fetch(have, stop)
            else:
                start, stop = self._edge(offset, length) or (offset, stop)
                data = self._fetch(start, stop)
            self._windows.add(start, data)
        return data[offset - start : offset - start + length]

    def _edge(self, offset: int, length: int) -> tuple[int, int] | None:
        """Return the range of the beginning or the end of the file, if the run is there; else None."""
        if offset + length <= _EDGE:
            return 0, min(_EDGE, self.size)
        return (self.size - _EDGE, self.size) if offset >= self.size - _EDGE else None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on, by one request.

        Raises:
            DamagedError: the file ends too early, from the start or because it was truncated since it was opened.
            UnreadableError: it cannot be read.
        """
        if len(buffer):
            buffer[:] = self._fetch(offset, offset + len(buffer))

    def prefetch(self, runs: Iterable[tuple[int, int]]) -> None:
        """Fetch runs that will be read soon: neighbouring runs in one request, several requests at a time.

        Raises:
            DamagedError: the file ends too early, because it was truncated since it was opened.
            UnreadableError: they cannot be read.
        """
        if not self.store.files.async_impl:
            return
        room, missing = _KEPT // 2, []
        for start, stop in _gathered((max(0, at), min(at + length, self.size)) for at, length in runs):
            room -= stop - start
            first, data = self._windows.find(start)
            if room > 0 and stop > first + len(data):
                missing.append((start, stop))
        with translated(self.store.url, UnreadableError, "read {}"):
            found = self.store.files.cat_ranges(
                [self.store.path] * len(missing),
                [start for start, _ in missing],
                [stop for _, stop in missing],
                batch_size=_AT_ONCE,
                on_error="raise",
            )
        for (start, stop), data in zip(missing, found, strict=True):
            self._windows.add(start, self._checked(bytes(data), start, stop))

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was opened.

        Raises:
            UnreadableError: it has changed, or cannot be examined.
        """
        with translated(self.store.url, UnreadableError, "look at {} again"):
            found = self.store.look()
        if found is None or found.get("size") != self.size or _version(found) != self._version:
            raise UnreadableError(f"{self.label} was changed while it was read; run again")

    def _fetch(self, start: int, stop: int) -> bytes:
        if start == stop:
            return b""
        store = self.store
        with translated(store.url, UnreadableError, f"read {{}} at byte {start}"), store.turn:
            data = bytes(store.files.cat_file(store.path, start=start, end=stop))
        return self._checked(data, start, stop)

    def _checked(self, data: bytes, start: int, stop: int) -> bytes:
        if len(data) < stop - start:
            raise DamagedError(f"{self.label} ends at byte {start + len(data)}, in the middle of its data")
        if len(data) > stop - start:
            raise UnreadableError(f"cannot read {self.label} in parts: its server sends it whole; fetch it first")
        return data


def _gathered(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return runs (start and stop), joined if the gap between them costs less than another request."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(run for run in runs if run[0] < run[1]):
        if joined and start - joined[-1][1] < _EDGE and stop - joined[-1][0] <= _MOST:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


class _Windows:
    """A cache of runs of the file that were fetched recently, by their offsets."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._runs: dict[int, bytes] = {}
        self._size = 0
        self._lock = threading.Lock()

    def find(self, offset: int) -> tuple[int, bytes]:
        """Return the last run that begins at or before an offset, as its start and bytes; `(0, b"")` if none does."""
        with self._lock:
            at = bisect.bisect_right(self._starts, offset)
            return (self._starts[at - 1], self._runs[self._starts[at - 1]]) if at else (0, b"")

    def add(self, start: int, data: bytes) -> None:
        """Add a run. It replaces a run with the same start; if the cache would get too large, it is emptied first."""
        with self._lock:
            if self._size + len(data) > _KEPT:
                self._starts.clear()
                self._runs.clear()
                self._size = 0
            if start not in self._runs:
                bisect.insort(self._starts, start)
            else:
                self._size -= len(self._runs[start])
            self._runs[start] = data
            self._size += len(data)


def _version(found: Mapping[str, Any]) -> object:
    return next((found[name] for name in _VERSIONS if found.get(name) is not None), None)


def look_at(url: Url) -> tuple[Store, Mapping[str, Any]]:
    """Return the store of a URL, and what its file system records (`type` is "file" or "directory").

    Raises:
        UnreadableError: it is missing, forbidden, or its host cannot be reached.
        UsageError: the protocol is unknown, or its package is not installed.
    """
    store = connect(url)
    return store, _look(store)


def _look(store: Store) -> Mapping[str, Any]:
    with translated(store.url, UnreadableError, "open {}"):
        found = store.look()
    if found is None:
        raise UnreadableError(f"cannot open {show(store.url)}: no such object")
    return found


def open_found(store: Store, found: Mapping[str, Any]) -> RemoteSource:
    """Return a source for a file that `look_at` found; it fetches nothing yet, and need not be closed.

    Raises:
        UnreadableError: it is a folder, or its size is not known.
    """
    if found.get("type") == "directory":
        raise UnreadableError(f"{show(store.url)} is a folder; name one checkpoint file in it")
    return RemoteSource(store, found)


@contextmanager
def open_remote(place: Url | Store) -> Iterator[RemoteSource]:
    """Open a file behind a URL.

    Raises:
        UnreadableError: it is missing, forbidden, or a folder.
        UsageError: as for `look_at`.
    """
    store = connect(place) if isinstance(place, Url) else place
    yield open_found(store, _look(store))
