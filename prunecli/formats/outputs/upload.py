"""Files in the making behind URLs: sent in blocks, and nothing stands under their names before the commit.

File systems differ in how they hold a file back. S3 and Google's take it in parts and put these together when asked to;
Azure and Hugging Face do so when it is closed; on all that are not known here it has another name first.
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
"""S3 takes 10,000 parts."""

_HELD = frozenset({"ftp", "gcs", "gs", "memory", "s3", "s3a", "sftp", "smb", "ssh"})
"""Protocols whose files can be whole and not yet named: they have a commit and a discard of their own."""

_LATE = frozenset({"abfs", "az", "hf", "oci", "oss"})
"""Protocols that name a file when it is closed."""

_PATIENCE = 60.0
"""Seconds that undoing may take when the command has failed or was interrupted."""


class Upload:
    """One file: a sink that takes its bytes in order. Only the thread of its `Uploads` touches the file itself.

    `aside` is what its file system calls it before the commit, None if it has no name until then.
    """

    ordered = True

    def __init__(self, store: Store, size: int, run: Callable[[Callable[[], None]], None]) -> None:
        self.store = store
        # In blocks of one size: some stores take no others (Cloudflare R2).
        self._block = max(_BLOCK, -(-size // (_MOST_BLOCKS << 20)) << 20)
        self._run = run
        self._held = store.url.protocol in _HELD
        self._late = store.url.protocol in _LATE
        self._at = 0
        self._done = False
        self._file: Any = None
        self.aside: str | None = None

    def write(self, data: memoryview, offset: int) -> None:
        """Append all of `data`; `offset` is where the file stands.

        Raises:
            OutputError: it could not be sent.
        """
        self._run(lambda: self._append(data))

    def begin(self) -> None:
        """Open the file; nothing is sent yet."""
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
        """Open the file as in a transaction: that is how fsspec is asked for one that is not committed.

        The rest of a transaction, that all its files are committed one after the other, knows no order and no undoing,
        and is done here.
        """
        files = self.store.files
        files.start_transaction()
        try:
            return files.open(self.store.path, "wb", block_size=self._block)
        finally:
            files.transaction.files.clear()
            files.end_transaction()

    def finish(self) -> None:
        """Send what is left; the file is whole then, and nowhere to be seen."""
        with translated(self.store.url, OutputError, "write {}"), self.store.turn:
            if not self._late:
                self._file.close()

    def commit(self, *, force: bool) -> None:
        """Give the file its name.

        Raises:
            OutputError: it could not be done, or without `force`, something has the name already.
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
        """Forget the file, and what was sent of it. What fails here leaves nothing under the name either."""
        done, self._done = self._done, True
        if done or self._file is None:
            return
        with suppress(*failures()), self.store.turn:
            if self.aside is not None:
                self._file.close()
                self.store.files.rm_file(self.aside)
                return
            with suppress(AttributeError):  # an io.BytesIO; the others would send the rest when they are collected
                self._file.closed = True
            if self._held:
                self._file.discard()
            aside = getattr(self._file, "temp_file", None)  # where hf keeps what it has not sent
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
    """The files of one output. All that touches them is done by one thread, one thing after the other.

    So a signal, which strikes the main thread, never leaves a request half done whose answer says what to undo.
    """

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="prunecli-upload")
        self._files: list[Upload] = []

    def begin(self, store: Store, size: int) -> Upload:
        """Begin a file of `size` bytes.

        Raises:
            OutputError: its file system takes none.
        """
        upload = Upload(store, size, self.run)
        self._files.append(upload)
        self.run(upload.begin)
        return upload

    def run(self, act: Callable[[], None]) -> None:
        """Do something in the thread of the files, and wait for it."""
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
        """Discard what was not committed, and end the thread."""
        with suppress(TimeoutError, PrunecliError):
            self._worker.submit(self._discard).result(_PATIENCE)
        self._worker.shutdown(wait=False)

    def _discard(self) -> None:
        for each in self._files:
            each.discard()
