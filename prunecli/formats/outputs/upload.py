"""Uploads to URLs: files are sent in blocks, and do not exist under their names before the commit.

File systems differ in how they hold back a file. S3 and Google Cloud Storage take parts and join them on request; Azure
and Hugging Face join them when the file is closed. On file systems that are not listed here, the file has another name
before the commit.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from prunecli.errors import OutputError, PrunecliError, show
from prunecli.formats.io.stores import Store, failures, translated

__all__ = ["Upload", "Uploads"]

_BLOCK = 16 << 20
_MOST_BLOCKS = 9_000
"""The most blocks of a file; S3 takes 10,000 parts."""

_HELD = frozenset({"ftp", "gcs", "gs", "memory", "s3", "s3a", "sftp", "smb", "ssh"})
"""Protocols whose files can be complete without a name: they have their own commit and discard."""

_LATE = frozenset({"abfs", "az", "hf", "oci", "oss"})
"""Protocols that name a file when it is closed."""

_PATIENCE = 60.0
"""The most seconds for discarding files after a failure or an interrupt."""


class Upload:
    """A sink for one file that takes its bytes in order. Only the thread of its `Uploads` accesses the file itself.

    `aside` is the path of the file before the commit, None if it has no name until then.
    """

    ordered = True

    def __init__(self, store: Store, size: int, run: Callable[[Callable[[], None]], None]) -> None:
        self.store = store
        # All blocks have the same size, because some stores require that (Cloudflare R2).
        self._block = max(_BLOCK, -(-size // (_MOST_BLOCKS << 20)) << 20)
        self._run = run
        self._held = store.url.protocol in _HELD
        self._late = store.url.protocol in _LATE
        self._at = 0
        self._done = False
        self._file: Any = None
        self.aside: str | None = None

    def write(self, data: memoryview, offset: int) -> None:
        """Append all of `data`; `offset` is the number of bytes written so far.

        Raises:
            OutputError: it could not be sent.
        """
        self._run(lambda: self._append(data))

    def begin(self) -> None:
        """Open the file, without sending anything."""
        files, path = self.store.files, self.store.path
        with translated(self.store.url, OutputError, "write {}"), self.store.turn:
            if self._held:
                self._file = self._open_held()
                return
            if not self._late:
                folder, _, name = path.rpartition("/")
                path = self.aside = f"{folder}/.{name[:80]}.prunecli-{secrets.token_hex(8)}.tmp"
            self._file = files.open(path, "wb", block_size=self._block)

    def _open_held(self) -> Any:
        """Open the file in a transaction, which is how fsspec opens files that it does not commit.

        The commit of a transaction has no defined order and cannot be undone, so this module commits the files itself.
        """
        files = self.store.files
        files.start_transaction()
        try:
            return files.open(self.store.path, "wb", block_size=self._block)
        finally:
            files.transaction.files.clear()
            files.end_transaction()

    def finish(self) -> None:
        """Send the remaining bytes; the file is then complete, but not visible yet."""
        with translated(self.store.url, OutputError, "write {}"), self.store.turn:
            if not self._late:
                self._file.close()

    def commit(self, *, force: bool) -> None:
        """Give the file its name.

        Raises:
            OutputError: it failed, or the name exists and `force` is not given.
        """
        store = self.store
        with translated(store.url, OutputError, "write {}"):
            if not force and store.look() is not None:
                raise OutputError(f"{show(store.url)} appeared meanwhile; replace it with --force")
            with store.turn:
                if self._held:
                    self._file.commit()
                elif self._late:
                    self._file.close()
                else:
                    store.files.mv(self.aside, store.path)
        self._done = True

    def discard(self) -> None:
        """Discard the file and the bytes that were sent. Nothing gets the name of the file even if this fails."""
        done, self._done = self._done, True
        if done or self._file is None:
            return
        with suppress(*failures()), self.store.turn:
            if self.aside is not None:
                self._file.close()
                self.store.files.rm_file(self.aside)
                return
            with suppress(AttributeError):  # of an io.BytesIO; other files would send the rest when garbage-collected
                self._file.closed = True
            if self._held:
                self._file.discard()
            aside = getattr(self._file, "temp_file", None)  # the local file with the bytes that hf has not sent
            if aside is not None:
                aside.close()
                Path(aside.name).unlink(missing_ok=True)

    def _append(self, data: memoryview) -> None:
        if self._done:
            raise OutputError(f"cannot write {show(self.store.url)}: it is given up")
        with translated(self.store.url, OutputError, "write {}"), self.store.turn:
            while data:
                room = self._block - self._at % self._block
                self._at += self._file.write(data[:room])
                data = data[room:]


class Uploads:
    """The files of one output. One thread performs all operations on them, one after the other.

    Signals interrupt the main thread, so they never interrupt a request whose answer is needed to undo it.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="prunecli-upload")
        self._files: list[Upload] = []

    def begin(self, store: Store, size: int) -> Upload:
        """Begin a file of `size` bytes.

        Raises:
            OutputError: the file system does not accept files.
        """
        upload = Upload(store, size, self.run)
        self._files.append(upload)
        self.run(upload.begin)
        return upload

    def run(self, act: Callable[[], None]) -> None:
        """Run a function in the thread of the files, and wait for it."""
        self._worker.submit(act).result()

    def commit(self, upload: Upload, *, force: bool) -> None:
        """Give a file its name.

        Raises:
            OutputError: it could not be named.
        """
        self.run(partial(upload.commit, force=force))

    def __enter__(self) -> "Uploads":
        return self

    def __exit__(self, *_: object) -> None:
        """Discard the files that were not committed, and end the thread."""
        with suppress(TimeoutError, PrunecliError):
            self._worker.submit(self._discard).result(_PATIENCE)
        self._worker.shutdown(wait=False)

    def _discard(self) -> None:
        for each in self._files:
            each.discard()
