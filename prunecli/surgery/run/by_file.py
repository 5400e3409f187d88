"""Make a folder file by file: each file is made in one go by one process, so ranks and resumption go by files."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecli.errors import OutputError, PrunecliError, UsageError, raised_in, show
from prunecli.formats.crc import crc32
from prunecli.formats.folders.reader import Listing
from prunecli.formats.io.pieces import Checksum, Copy
from prunecli.formats.io.sinks import FileSink, Sink
from prunecli.formats.io.source import Source, open_source
from prunecli.formats.io.stream import sum_up
from prunecli.formats.outputs.base import OutputContents, Transfer
from prunecli.formats.outputs.file import check_space, finish, reserve
from prunecli.formats.outputs.folder import LocalFolder
from prunecli.formats.outputs.place import NOWHERE, Place
from prunecli.formats.outputs.resumable import Partial
from prunecli.lean import dataclass
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.spread import Entry, SpreadJob, Start, in_one_folder

if TYPE_CHECKING:
    from prunecli.formats.outputs.remote import RemoteFolder

__all__ = ["FileTask", "FilesJob", "PlaceOf", "describe", "make_folder"]

PlaceOf = Callable[[Source], Place]
"""A function that returns the place of an output file, given the source that it is made of."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to make: its name, and the bytes that are read for it. `make` writes it and returns facts about it."""

    name: str
    size: int
    make: Callable[[PlaceOf, Transfer], Entry]


@dataclass(frozen=True, slots=True)
class FilesJob:
    """The files of a folder to make of an input, which `label` names in messages.

    `described` is what `describe` returned; it may be empty if the run is neither resumed nor spread over ranks.
    `closing` takes the facts about all files, and returns the files that are written last. `size` is the size of all
    files together, 0 if it is not known.
    """

    label: str
    tasks: Sequence[FileTask]
    described: Mapping[str, Any]
    closing: Callable[[Sequence[Entry]], Mapping[str, bytes]]
    size: int = 0


def describe(schema: str, listing: Listing, plan: object) -> Mapping[str, Any]:
    """Return what must be the same in a run that resumes another: the state of all files, and what is done with them.

    Raises:
        PrunecliError: a file cannot be opened.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(listing.files):
        with listing.folder.open(name) as source:
            digest.update(repr((name, source.size, source.state)).encode("utf-8", "surrogatepass"))
    options = hashlib.blake2b(repr(plan).encode("utf-8", "surrogatepass"), digest_size=16)
    return {"schema": schema, "input": digest.hexdigest(), "plan": options.hexdigest()}


def make_folder(
    job: FilesJob, target: "LocalFolder | RemoteFolder", run: Run, *, dry_run: bool = False
) -> Sequence[Entry]:
    """Make all files, and return the facts about them on every rank; with `dry_run`, nothing is written.

    Raises:
        OutputError: it was not written.
        UsageError: an output behind a URL cannot be resumed, or made by several ranks; or as `in_one_folder`.
        PrunecliError: as the tasks and `closing`.
    """
    if run.in_units and not target.resumable:
        raise UsageError(
            f"{show(target.final)} can neither be resumed nor spread over ranks, being behind a URL; write to this "
            "machine, then copy it there"
        )
    if dry_run:
        found = run.ranks.to_leader(lambda: _look(job, run))
        return run.ranks.from_leader(lambda: _joined(job, found))
    if isinstance(target, LocalFolder):
        spread = _LocalOutputs(job, target, run)
        in_one_folder(spread, run)
        return run.ranks.from_leader(lambda: spread.entries)
    return _upload(job, target, run.transfer(sum(task.size for task in job.tasks)))


def _upload(job: FilesJob, target: "RemoteFolder", transfer: Transfer) -> list[Entry]:
    with target.begin(OutputContents(()), transfer) as writer:

        def place(name: str) -> PlaceOf:
            return lambda source: Place(lambda size: writer.upload(name, size or 0), ordered=True)

        entries = [task.make(place(task.name), transfer) for task in job.tasks]
        for name, data in job.closing(entries).items():
            with writer.upload(name, len(data), closing=True) as sink:
                sink.write(memoryview(data), 0)
    return entries


_Numbered = Sequence[tuple[int, Entry]]


def _look(job: FilesJob, run: Run) -> _Numbered:
    mine = _shares(job.tasks, {}, run.ranks.size)[run.ranks.rank]
    transfer = run.transfer(sum(job.tasks[number].size for number in mine))
    return [(number, job.tasks[number].make(lambda source: NOWHERE, transfer)) for number in mine]


def _joined(job: FilesJob, found: Sequence[_Numbered]) -> list[Entry]:
    entries = dict(each for share in found for each in share)
    ordered = [entries[number] for number in sorted(entries)]
    job.closing(ordered)
    return ordered


def _shares(tasks: Sequence[FileTask], finished: Mapping[int, Entry], ranks: int) -> list[list[int]]:
    """Return the numbers of the files of each rank: the largest files first, each for the rank with the least work."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    work = [0] * ranks
    sizes = [0 if number in finished else task.size for number, task in enumerate(tasks)]
    for number in sorted(range(len(tasks)), key=lambda number: -sizes[number]):
        rank = work.index(min(work))
        shares[rank].append(number)
        work[rank] += sizes[number] + 1
    return [sorted(share) for share in shares]


class _LocalOutputs(SpreadJob[_Numbered]):
    """The files of a folder on this machine."""

    def __init__(self, job: FilesJob, output: LocalFolder, run: Run) -> None:
        self._job, self._run = job, run
        self.output, self.label = output, job.label
        self.entries: Sequence[Entry] = ()

    def describe(self) -> Mapping[str, Any]:
        """Return the description of the job."""
        return self._job.described

    def fingerprint(self) -> str | None:
        """Return the digest of the state of the input."""
        found: str | None = self._job.described.get("input")
        return found

    def begin(self, partial: Partial, described: Mapping[str, Any]) -> None:
        """Empty the folder, and check for space."""
        partial.begin(described)
        with raised_in(show(self.output.path)):
            check_space(partial.root, self._job.size)

    def work(self, start: Start) -> _Numbered:
        """Make this rank's files, apart from those that an earlier run has made."""
        tasks, ranks = self._job.tasks, self._run.ranks
        mine = _shares(tasks, start.finished, ranks.size)[ranks.rank]
        transfer = self._run.transfer(sum(tasks[number].size for number in mine))
        found: list[tuple[int, Entry]] = []
        for number in mine:
            if start.partial.failed:
                break  # the process that failed reports why
            entry = start.finished.get(number)
            if entry is not None and _is_sound(tasks[number], start.partial, entry):
                transfer.count(tasks[number].size)
            else:
                entry = self._make(tasks[number], start.partial, transfer)
                start.partial.record_unit(number, entry)
            found.append((number, entry))
        return found

    def _make(self, task: FileTask, partial: Partial, transfer: Transfer) -> Entry:
        written = _Written(partial.path_of(task.name), summing=self._run.in_units)
        entry = task.make(lambda source: Place(lambda size: written.begin(size, source.mode)), transfer)
        return {**entry, "file": task.name, "size": written.size, "sum": written.sum.value}

    def complete(self, start: Start, found: Sequence[_Numbered]) -> None:
        """Write the closing files, and give the folder its name."""
        partial = start.partial
        if sum(map(len, found)) != len(self._job.tasks):
            where = f"cannot write {show(self.output.path)}"
            raise OutputError(f"{where}: another run disturbed this one in {show(partial.root)}")
        entries = dict(each for share in found for each in share)
        self.entries = [entries[number] for number in sorted(entries)]
        for name, data in self._job.closing(self.entries).items():
            with _Written(partial.path_of(name)).begin(len(data), None) as sink:
                sink.write(memoryview(data), 0)
        self.output.publish(partial.output)

    def kept(self, partial: Partial) -> str:
        """Return how many files are finished."""
        done, total = len(partial.entries()), len(self._job.tasks)
        return f"{done:,} of {total:,} files are kept, and the same command goes on" if done else ""


class _Written:
    """A file in an unfinished output that is written anew; with `summing`, its CRC-32 is known then."""

    def __init__(self, path: Path, *, summing: bool = False) -> None:
        self._path, self._summing = path, summing
        self.sum = Checksum(0)
        self.size = 0

    @contextmanager
    def begin(self, size: int | None, mode: int | None) -> Iterator[Sink]:
        """Yield the sink; at the end the file is synced. An earlier file with its name may be one with other names."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if size is not None:
                reserve(descriptor, size)
            sink = FileSink(descriptor)
            yield _SummingSink(sink, self.sum) if self._summing else sink
            finish(descriptor, mode)
            self.size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)


class _SummingSink:
    """A sink that sums up what it passes on."""

    ordered = False

    def __init__(self, sink: Sink, checksum: Checksum) -> None:
        self._sink, self._sum, self._turn = sink, checksum, threading.Lock()

    def write(self, data: memoryview, offset: int) -> None:
        """Write `data` at `offset`."""
        crc = crc32(data)
        with self._turn:
            self._sum.add((offset, crc, len(data)))
        self._sink.write(data, offset)


def _is_sound(task: FileTask, partial: Partial, entry: Entry) -> bool:
    """Whether the unfinished output contains a file as the journal records it."""
    size = entry.get("size")
    if entry.get("file") != task.name or not isinstance(size, int):
        return False
    try:
        with open_source(partial.output / task.name) as output:
            return output.size == size and sum_up([Copy(0, size)], output, (0, max(size, 1))) == entry.get("sum")
    except PrunecliError:
        return False
