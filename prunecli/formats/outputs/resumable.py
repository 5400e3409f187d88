"""An unfinished output that a later run can resume: a hidden folder beside the output, with a journal of finished work.

The name of the folder depends only on the output, so that a later run finds what an earlier one left. The run that
works in the folder locks it. It contains `output/` (which will get the final name), `journal/` (one small file for each
finished unit of work, renamed into place after the unit's bytes were synced) and `job.json` (a description of the job).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from prunecli.errors import OutputError, raised_in, show
from prunecli.formats.outputs.locks import LOCK, NO_LOCKS, WORKERS, lock_folder, locked_by_another, remove_unused
from prunecli.formats.outputs.system import sync, sync_path
from prunecli.formats.outputs.temp_files import hidden_prefix, remove_path, remove_stale, temp_beside
from prunecli.lean import dataclass

__all__ = ["Partial", "discard_partial", "partial_of", "partial_output"]


@dataclass(frozen=True, slots=True)
class Partial:
    """A folder, `root`, with an unfinished output, which will get the name `final`."""

    root: Path
    final: Path

    @property
    def output(self) -> Path:
        """The path of the output within the folder."""
        return self.root / "output"

    def path_of(self, name: str) -> Path:
        """Return the path at which a file of the output is written. Create its folders, but never the output itself.

        Raises:
            OSError: a folder cannot be created, usually because the leader has removed the output meanwhile.
        """
        place = self.output / name
        for parent in reversed(Path(name).parents[:-1]):
            (self.output / parent).mkdir(exist_ok=True)
        return place

    @property
    def replaced(self) -> Path:
        """The temporary path of the replaced folder, used if the system cannot exchange two folders in one step."""
        return self.output.with_suffix(".old")

    def restore(self, final: Path) -> None:
        """Move a replaced folder back to its name, if a run was killed before the new folder got that name."""
        if self.replaced.exists() and not os.path.lexists(final):
            self.replaced.rename(final)

    def job(self) -> Mapping[str, Any] | None:
        """Return the earlier run's description of its job; None if there is none, or it is unreadable or published.

        A run that is killed right after publishing leaves the replaced folder in `output/`. That is not the folder in
        which the job was begun, and it may share its files with the input.
        """
        noted = _read_json(self.root / "job.json")
        if noted is None or noted.get("folder") != self._folder():
            return None
        return {field: value for field, value in noted.items() if field != "folder"}

    def begin(self, job: Mapping[str, Any]) -> None:
        """Empty the folder for a new job."""
        for old in list(self.root.iterdir()):
            if old.name not in (LOCK, WORKERS):
                remove_path(old)
        self.output.mkdir()
        (self.root / "journal").mkdir()
        _write_json(self.root / "job.json", {**job, "folder": self._folder()})

    def _folder(self) -> int | None:
        """Return the inode of the output folder, which distinguishes it from other folders; None if it is missing."""
        try:
            return self.output.lstat().st_ino
        except OSError:
            return None

    def break_links(self, names: Iterable[str]) -> None:
        """Make files of the output writable, and remove those with other hard links, which are other files, too."""
        for place in (self.output / name for name in names):
            with suppress(FileNotFoundError):
                if place.lstat().st_nlink != 1:
                    place.unlink()
                else:
                    place.chmod(0o600)  # an interrupted commit may have set the mode of a read-only input

    def entries(self) -> dict[int, Mapping[str, Any]]:
        """Return the journal: the entry of each finished unit, by number."""
        found = {}
        with suppress(OSError):
            for path in sorted((self.root / "journal").iterdir()):
                entry = _read_json(path) if path.suffix == ".json" and path.stem.isdecimal() else None
                if entry is not None:
                    found[int(path.stem)] = entry
        return found

    def record_unit(self, number: int, entry: Mapping[str, Any]) -> None:
        """Write a unit into the journal; the caller has synced its bytes."""
        _write_json(self.root / "journal" / f"{number}.json", entry)

    def write_token(self, token: str) -> None:
        """Write a token by which other processes recognise this folder."""
        (self.root / "token").write_text(token)

    def has_token(self, token: str) -> bool:
        """Whether this folder contains the token."""
        try:
            return (self.root / "token").read_text() == token
        except OSError:
            return False

    def announce_failure(self) -> None:
        """Make the other processes that work in this folder stop."""
        with suppress(OSError):
            (self.root / "failed").touch()

    @contextmanager
    def worker_lock(self) -> Iterator[None]:
        """Hold the lock that shows later runs that a worker, which may outlive the leader, is active in this folder.

        Raises:
            OSError: a later run has begun, or the folder is gone.
        """
        workers = self._workers(fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(workers)
            self.remove_abandoned()

    def exclude_workers(self) -> None:
        """Ensure that only the leader works in this folder, and that no worker of an earlier run can begin any more.

        Raises:
            BlockingIOError: a worker is active.
        """
        workers = self._workers(fcntl.LOCK_EX)
        (self.root / "token").unlink(missing_ok=True)
        (self.root / "failed").unlink(missing_ok=True)
        self._abandoned.unlink(missing_ok=True)
        os.close(workers)

    def abandon(self) -> None:
        """Mark the folder for removal by the last process that leaves it."""
        with suppress(OSError):
            self._abandoned.touch()  # empty: a full disk has space for a name
        self.announce_failure()

    def remove_abandoned(self) -> None:
        """Remove an abandoned folder, unless a process works in it."""
        if not self._abandoned.exists():
            return
        with suppress(OSError, OutputError):
            lock = lock_folder(self.root)
            try:
                os.close(self._workers(fcntl.LOCK_EX))
                _remove_whole(self)
            finally:
                os.close(lock)

    def _workers(self, kind: int) -> int:
        workers = os.open(self.root / WORKERS, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(workers, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(workers)
                raise
        return workers

    @property
    def _abandoned(self) -> Path:
        """The mark of a folder that the last process which leaves it removes."""
        return self.root / "abandoned"

    @property
    def failed(self) -> bool:
        """Whether another process has given up."""
        return (self.root / "failed").exists()


def partial_of(final: Path) -> Partial:
    """Return the folder of the unfinished output that will be `final`, whether it exists or not."""
    digest = hashlib.blake2b(os.fsencode(final.name), digest_size=4).hexdigest()
    return Partial(final.with_name(f"{hidden_prefix(final)}{digest}.partial"), final)


@contextmanager
def partial_output(final: Path, path: Path, *, keep: bool) -> Iterator[Partial]:
    """Create or find the folder of an unfinished output, and lock it; it is removed at the end.

    With `keep`, the folder stays if the block ends with an exception. Messages name the output `path`.

    Raises:
        OutputError: another run works in the folder, or a folder of another user has its name.
        OSError: it cannot be created.
    """
    remove_stale(final)
    partial = partial_of(final)
    done = False
    with raised_in(show(path)):
        lock = lock_folder(partial.root)
        try:
            partial.exclude_workers()
            partial.restore(final)
        except BaseException as error:
            remove_unused(partial.root, lock)
            os.close(lock)
            if isinstance(error, BlockingIOError):
                raise locked_by_another() from None
            raise
    try:
        yield partial
        done = True
    finally:
        try:
            _leave(partial, done=done, keep=keep)
        finally:
            _leave(partial, done=done, keep=keep)  # twice: an interrupt may stop the first call
            os.close(lock)
            if not done and not keep:
                try:
                    partial.remove_abandoned()
                finally:
                    partial.remove_abandoned()


def discard_partial(final: Path) -> None:
    """Remove the unfinished output of an earlier run, unless a run works in it; the output will be written anew."""
    if os.path.lexists(partial_of(final).root):
        with suppress(OSError, OutputError), partial_output(final, final, keep=False):
            pass


def _leave(partial: Partial, *, done: bool, keep: bool) -> None:
    if not done:
        with suppress(OSError):
            partial.restore(partial.final)
    if done:
        _remove_whole(partial)
    elif keep:
        partial.announce_failure()
    else:
        partial.abandon()


def _read_json(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    temp = path.with_suffix(".tmp")
    with temp.open("wb") as file:
        file.write(json.dumps(content, separators=(",", ":")).encode("ascii"))
        file.flush()
        sync(file.fileno())
    temp.replace(path)


def _remove_whole(partial: Partial) -> None:
    """Rename the folder and remove it; after the rename, a thread that still works cannot write into it again.

    Raises:
        OSError: it contains a replaced folder, which cannot be moved back to its name.
    """
    partial.restore(partial.final)
    with temp_beside(partial.final) as gone:
        try:
            partial.root.rename(gone)
        except OSError:
            remove_path(partial.root)
    with suppress(OSError):  # so that it does not come back after a power cut; the output is safe without this
        sync_path(partial.root.parent)
