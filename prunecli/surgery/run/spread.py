"""Fill a hidden folder beside an output, with several ranks or in several runs, and then give the output its name.

The leader creates the folder. Each rank does its share there, and records finished work in the journal. Then the leader
completes the output. What is to be done is a `SpreadJob`: a rewrite in units, or the files of a folder.
"""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

from prunecli import __version__
from prunecli.errors import OutputError, PrunecliError, UsageError, raised_in, show
from prunecli.formats.outputs.base import ResumableOutput
from prunecli.formats.outputs.file import output_errors
from prunecli.formats.outputs.resumable import Partial, partial_of, partial_output
from prunecli.lean import dataclass
from prunecli.surgery.run.interruption import noting
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import Ranks
from prunecli.terms import HERE, OUTPUT, RESUME

__all__ = ["Entry", "SpreadJob", "Start", "in_one_folder"]

T = TypeVar("T")

Entry = Mapping[str, Any]

_OTHER_JOBS = {
    "schema": "was written by another version of prunecli, or by another command",
    "version": "was written by another version of prunecli",
    "input": "was made from another state of the input, which has changed since",
    "seed": "was made with another seed",
    "plan": "was made with other options",
    "passthrough": "was made from another state of the input, which has changed since",
}
"""What a difference between an unfinished output's description and the job's means, by field."""


@dataclass(frozen=True)
class Start:
    """The leader's start of a job: the entries that earlier runs `finished`, and the description with a token."""

    partial: Partial
    finished: Mapping[int, Entry]
    described: Mapping[str, Any]


class SpreadJob(ABC, Generic[T]):
    """Work that several ranks or runs share; every rank has its own object. `label` names the input."""

    output: ResumableOutput
    label: str

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """Return what must be the same in a run that resumes another: `schema`, `input` (the fingerprint), and more."""

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Return a digest of the state of the input; None if a single process does the job in one go."""

    @abstractmethod
    def begin(self, partial: Partial, described: Mapping[str, Any]) -> None:
        """Empty the folder for this job."""

    def resume(self, partial: Partial) -> None:
        """Make what an earlier run left safe to write into."""

    @abstractmethod
    def work(self, start: Start) -> T:
        """Do this rank's share."""

    @abstractmethod
    def complete(self, start: Start, found: Sequence[T]) -> None:
        """Complete the output from what `work` returned on each rank, and give it its name; only the leader does so."""

    @abstractmethod
    def kept(self, partial: Partial) -> str:
        """Return a sentence for a person who interrupts a run that can be resumed; "" if nothing is finished."""


def in_one_folder(job: SpreadJob[T], run: Run) -> None:
    """Do a job with all ranks, which synchronise four times; if one of them fails, all fail.

    1. From the leader: it locks the unfinished output, resumes or empties it, checks for space, and writes a token.
    2. To the leader: every rank checks in, if it sees that token and the leader's input.
    3. To the leader: every rank does its share, and returns what it found.
    4. From the leader: it completes the output, and gives it its name.

    Raises:
        OutputError: an output cannot be written, the ranks share no file system, or one was lost.
        UsageError: the unfinished output to resume belongs to another job, or would replace the input.
        PrunecliError: as the methods of the job.
    """
    ranks = run.ranks
    with ExitStack() as stack:
        start = ranks.from_leader(lambda: _start(job, run, stack))
        ranks.to_leader(lambda: _check_in(job, start, ranks, stack))
        with _advising_resume(run), noting(lambda: job.kept(start.partial) if run.keep else ""):
            found = ranks.to_leader(lambda: _work(job, start))
            ranks.from_leader(lambda: _complete(job, start, found))


def _start(job: SpreadJob[T], run: Run, stack: ExitStack) -> Start:
    output = job.output
    if run.keep and output.replaces_input:
        raise UsageError(
            "a run that may be resumed, or started again, cannot replace its input: if it had, it would change "
            f"the result; name another output with {OUTPUT}"
        )
    described = {**job.describe(), "version": __version__, "token": secrets.token_hex(8)}
    with output_errors(output.path, partial_of(output.final).root):
        partial = stack.enter_context(partial_output(output.final, output.path, keep=run.keep))
        with raised_in(show(output.path)):
            finished = _resumed(partial, described) if run.resume else {}
        if finished:
            job.resume(partial)
        else:
            job.begin(partial, described)
        partial.write_token(described["token"])
    return Start(partial, finished, described)


def _resumed(partial: Partial, described: Mapping[str, Any]) -> dict[int, Entry]:
    """Return the entries that an earlier run of the same job finished.

    Raises:
        UsageError: the earlier run had another job.
    """
    earlier = partial.job()
    if earlier is None:
        return {}
    for field, meaning in _OTHER_JOBS.items():
        if earlier.get(field) != described.get(field):
            raise UsageError(f"the unfinished {HERE} {meaning}; leave {RESUME} out to begin anew")
    return partial.entries()


def _check_in(job: SpreadJob[T], start: Start, ranks: Ranks, stack: ExitStack) -> None:
    """Enter the leader's folder, after a check that this rank sees it and the leader's input."""
    here = f"rank {ranks.rank} on {show(os.uname().nodename)}"
    partial, token = start.partial, start.described["token"]
    sees_it = partial.has_token(token)
    if sees_it and not ranks.is_leader:
        with output_errors(partial.final, partial.root):
            stack.enter_context(partial.worker_lock())
        sees_it = partial.has_token(token)
    if not sees_it:
        raise OutputError(
            f"{here} does not see {show(partial.root)}, which rank 0 made; all ranks need one shared file system, name "
            f"an output on it with {OUTPUT}"
        )
    if job.fingerprint() != start.described.get("input"):
        raise OutputError(f"{here} sees another {job.label} than rank 0; give all ranks one input")


def _work(job: SpreadJob[T], start: Start) -> T:
    """Do a share of the work; if it fails, make the other ranks stop."""
    try:
        with output_errors(job.output.path, start.partial.root):
            return job.work(start)
    except PrunecliError:
        start.partial.announce_failure()
        raise


def _complete(job: SpreadJob[T], start: Start, found: Sequence[T]) -> None:
    with output_errors(job.output.path, start.partial.root):
        job.complete(start, found)


@contextmanager
def _advising_resume(run: Run) -> Iterator[None]:
    """Add advice on how to resume to errors raised meanwhile."""
    try:
        yield
    except PrunecliError as error:
        if run.keep:
            error.advising(f"what is finished is kept, go on with {RESUME}")
        raise
