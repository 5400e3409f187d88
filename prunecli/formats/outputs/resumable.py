"""An output in the making that can outlive its makers: a hidden folder beside it, with a journal of what is finished.

The folder has one name for one output, so that a later run finds what an earlier one left, and is locked by the run
that works in it. It holds `output/` (what will get the final name), `journal/` (one small file for each finished unit
of work, put there by a rename after the unit's bytes were synced) and `job.json` (what is being done).
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunecli.errors import OutputError, raised_in, show
from prunecli.formats.outputs.locks import LOCK, NO_LOCKS, WORKERS, lock_folder, locked_by_another, remove_unused
from prunecli.formats.outputs.system import sync
from prunecli.formats.outputs.temp_files import hidden_prefix, remove_path, remove_stale, temp_beside

__all__ = ["Partial", "discard_partial", "partial_of", "partial_output"]

_REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Partial:
    """A folder, `root`, that holds an unfinished output, which will be `final`."""

    root: Path
    final: Path

    @property
    def output(self) -> Path:
        """Where the output's files lie."""
        return self.root / "output"

    def path_of(self, name: str) -> Path:
        """Return where a file of the output is made. Folders within the output are made, never the output itself.

        Raises:
            OSError: they cannot be; above all, the leader has removed the output meanwhile.
        """
        place = self.output / name
        for parent in reversed(Path(name).parents[:-1]):
            (self.output / parent).mkdir(exist_ok=True)
        return place

    @property
    def replaced(self) -> Path:
        """Where the folder that the output replaces lies for a moment, where two cannot change places in one step."""
        return self.output.with_suffix(".old")

    def restore(self, final: Path) -> None:
        """Give a replaced folder its name back, if a run was killed before the new one got it."""
        if self.replaced.exists() and not os.path.lexists(final):
            self.replaced.rename(final)

    def job(self) -> Mapping[str, Any] | None:
        """Return what the earlier run wrote of its job, None if there was none, or it is unreadable, or published.

        A run that is killed right after it has published leaves in `output/` what stood there before: that folder is
        another one than the job was begun in, and may share its files with the input.
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
        """Return what sets this output folder apart from others."""
        try:
            return self.output.lstat().st_ino
        except OSError:
            return None

    def break_links(self, names: Iterable[str]) -> None:
        """Remove those files of the output that have another name as well: writing into them would change that file."""
        for name in names:
            with suppress(FileNotFoundError):
                if (self.output / name).lstat().st_nlink != 1:
                    (self.output / name).unlink()

    def entries(self) -> dict[int, Mapping[str, Any]]:
        """Return the journal: what was noted of each finished unit."""
        found = {}
        with suppress(OSError):
            for path in sorted((self.root / "journal").iterdir()):
                entry = _read_json(path) if path.suffix == ".json" and path.stem.isdecimal() else None
                if entry is not None:
                    found[int(path.stem)] = entry
        return found

    def record_unit(self, number: int, entry: Mapping[str, Any]) -> None:
        """Write a unit into the journal; its bytes have been synced before."""
        _write_json(self.root / "journal" / f"{number}.json", entry)

    def write_token(self, token: str) -> None:
        """Leave a token here, by which other processes recognise this very folder."""
        (self.root / "token").write_text(token)

    def has_token(self, token: str) -> bool:
        """Whether this is the folder in which the token was left."""
        try:
            return (self.root / "token").read_text() == token
        except OSError:
            return False

    def announce_failure(self) -> None:
        """Make the other processes that work here stop."""
        with suppress(OSError):
            (self.root / "failed").touch()

    @contextmanager
    def worker_lock(self) -> Iterator[None]:
        """Show later runs that another process than the leader is at work here: it may outlive the leader.

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
        """Make sure that nobody is at work here but the leader, and that nobody of an earlier run begins any more.

        Raises:
            BlockingIOError: somebody is.
        """
        workers = self._workers(fcntl.LOCK_EX)
        (self.root / "token").unlink(missing_ok=True)
        (self.root / "failed").unlink(missing_ok=True)
        os.close(workers)

    def abandon(self) -> None:
        """Have the folder removed by whoever is the last to leave it."""
        with suppress(OSError):
            (self.root / "failed").write_text(_REMOVE)

    def remove_abandoned(self) -> None:
        """Remove the folder that was given up, unless somebody is at work in it."""
        if not self._given_up:
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
    def _given_up(self) -> bool:
        with suppress(OSError):
            return (self.root / "failed").read_text() == _REMOVE
        return False

    @property
    def failed(self) -> bool:
        """Whether another process has given up."""
        return (self.root / "failed").exists()


def partial_of(final: Path) -> Partial:
    """Return where an unfinished output that will be `final` lies, or would lie."""
    digest = hashlib.blake2b(os.fsencode(final.name), digest_size=4).hexdigest()
    return Partial(final.with_name(f"{hidden_prefix(final)}{digest}.partial"), final)


@contextmanager
def partial_output(final: Path, path: Path, *, keep: bool) -> Iterator[Partial]:
    """Make, or find, the folder of an unfinished output and lock it; it is gone at the end.

    With `keep`, what is in it stays if the block ends with an exception. `path` is what messages call the output.

    Raises:
        OutputError: another run is working in it, or somebody else's folder has its name.
        OSError: it cannot be made.
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
            _leave(partial, done=done, keep=keep)  # twice: an interrupt may strike before the first has done its work
            os.close(lock)
            if not done and not keep:
                try:
                    partial.remove_abandoned()
                finally:
                    partial.remove_abandoned()


def discard_partial(final: Path) -> None:
    """Remove what an earlier run left of an output that is written anew, unless a run is at work in it."""
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
    """Remove the folder, under another name: a thread that is still at work must not put anything into it again.

    Raises:
        OSError: a folder that was to be replaced lies in it, and cannot be given its name back.
    """
    partial.restore(partial.final)
    with temp_beside(partial.final) as gone:
        try:
            partial.root.rename(gone)
        except OSError:
            remove_path(partial.root)
