"""Carry out a rewrite: in one go, or in units by several ranks, and resume it where an earlier run stopped.

In units, the leader creates a hidden folder next to the output. Each rank writes its share of the units to the files
there, and records finished units in the journal. Then the leader adds up the counts, and gives the output its name.
"""

import hashlib
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prunecli import __version__
from prunecli.errors import OutputError, PrunecliError, UsageError, raised_in, show
from prunecli.formats.base import AnyCheckpoint
from prunecli.formats.io.ordered import run_into
from prunecli.formats.opening import fingerprint
from prunecli.formats.outputs.base import (
    Output,
    OutputContents,
    OutputFile,
    ResumableOutput,
    Transfer,
    is_resumable,
    sink_of,
)
from prunecli.formats.outputs.file import output_errors
from prunecli.formats.outputs.resumable import Partial, partial_of, partial_output
from prunecli.formats.outputs.unit_files import UnitWriter
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.run.interruption import noting
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import Ranks
from prunecli.surgery.run.units import Unit, UnitCounts, assign_units, split_into_units
from prunecli.surgery.run.worker import Entry, Share, do_share, look_at
from prunecli.terms import HERE, OUTPUT, RESUME

__all__ = ["RewriteJob", "carry_out", "count", "read_by_ranks", "unfinished_seed"]

T = TypeVar("T")

_SCHEMA = "prunecli.journal/3"

_OTHER_JOBS = {
    "schema": "was written by another version of prunecli",
    "version": "was written by another version of prunecli",
    "input": "was made from another state of the input, which has changed since",
    "seed": "was made with another seed",
    "plan": "was made with other options",
    "passthrough": "was made from another state of the input, which has changed since",
}
"""What a difference between an unfinished output's description and the job's means, by field."""


@dataclass(frozen=True)
class RewriteJob:
    """A rewrite to carry out: a plan for a checkpoint, the counts, and the output with its contents.

    `check` is called after all data have been read, and raises if the output must not get its name.
    """

    checkpoint: AnyCheckpoint
    plan: Plan
    counts: Counts
    output: Output
    contents: OutputContents
    check: Callable[[], None]


def carry_out(job: RewriteJob, run: Run) -> None:
    """Write the output; the leader's counts then contain the results of all ranks.

    Raises:
        OutputError: an output cannot be written, the ranks share no file system, or one was lost.
        UsageError: the unfinished output to resume belongs to another job, or would replace the input.
        DamagedError: the input's data contradict its checksums.
    """
    if run.in_units and is_resumable(job.output):
        _in_units(job, job.output, run)
    else:
        _in_one_go(job, run)


def _in_one_go(job: RewriteJob, run: Run) -> None:
    transfer = run.transfer(job.contents.bytes)
    with job.output.begin(job.contents, transfer) as writer:
        for file in job.contents.files:
            with sink_of(writer, file) as sink:
                run_into(
                    file.pieces,
                    file.source,
                    sink,
                    jobs=transfer.threads,
                    progress=transfer.progress,
                    found=job.counts.add,
                )
        for each in job.contents.passthrough:
            writer.keep(each)
        job.check()


def _in_units(job: RewriteJob, output: ResumableOutput, run: Run) -> None:
    """Write the output with all ranks, which synchronise four times; if one of them fails, all fail.

    1. From the leader: it locks the unfinished output, resumes or empties it, checks for space, and writes a token.
    2. To the leader: every rank checks in, if it sees that token and the leader's input.
    3. To the leader: every rank does its share, and returns its counts.
    4. From the leader: it adds up the counts, and gives the output its name.
    """
    ranks, units = run.ranks, split_into_units(job.contents.files)
    counts = UnitCounts(job.counts, job.contents.files)
    with ExitStack() as stack:
        start = ranks.from_leader(lambda: _start(job, output, run, stack))
        ranks.to_leader(lambda: _check_in(job, start, ranks, stack))
        mine = assign_units(units, start.finished, ranks.size)[ranks.rank]
        share = Share(mine, job.contents.passthrough[ranks.rank :: ranks.size], start.finished)
        transfer = run.transfer(share.bytes)
        writer = UnitWriter(start.partial, output, job.contents, transfer)
        with _advising_resume(run), noting(lambda: _kept(start.partial, units) if run.keep else ""):
            entries = ranks.to_leader(lambda: _work(share, writer, transfer, counts, output))
            ranks.from_leader(lambda: _complete(job, output, writer, counts, entries))


@dataclass(frozen=True)
class _Start:
    """The leader's start of a rewrite: the units that earlier runs `finished`, and the `job` with a token."""

    partial: Partial
    finished: Mapping[int, Entry]
    job: Mapping[str, Any]


def _start(job: RewriteJob, output: ResumableOutput, run: Run, stack: ExitStack) -> _Start:
    if run.keep and output.replaces_input:
        raise UsageError(
            "a run that may be resumed, or started again, cannot replace its input: if it had, it would prune "
            f"the result; name another output with {OUTPUT}"
        )
    described = _describe(job)
    with output_errors(output.path, partial_of(output.final).root):
        partial = stack.enter_context(partial_output(output.final, output.path, keep=run.keep))
        with raised_in(show(output.path)):
            finished = _resumed(partial, described) if run.resume else {}
        writer = UnitWriter(partial, output, job.contents, Transfer(link=run.link))
        if finished:
            writer.resume()
        else:
            writer.begin(described)
        partial.write_token(described["token"])
    return _Start(partial, finished, described)


def _check_in(job: RewriteJob, start: _Start, ranks: Ranks, stack: ExitStack) -> None:
    """Enter the leader's folder, after a check that this rank sees it and the leader's input."""
    here = f"rank {ranks.rank} on {show(socket.gethostname())}"
    partial, token = start.partial, start.job["token"]
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
    if fingerprint(job.checkpoint) != start.job["input"]:
        raise OutputError(f"{here} sees another {job.checkpoint.source.label} than rank 0; give all ranks one input")


def _work(
    share: Share, writer: UnitWriter, transfer: Transfer, counts: UnitCounts, output: ResumableOutput
) -> list[Entry]:
    """Do a share of the work; if it fails, make the other ranks stop."""
    try:
        with output_errors(output.path, writer.partial.root):
            return do_share(share, writer, transfer, counts)
    except PrunecliError:
        writer.partial.announce_failure()
        raise


def _complete(
    job: RewriteJob,
    output: ResumableOutput,
    writer: UnitWriter,
    counts: UnitCounts,
    entries: Sequence[Sequence[Entry]],
) -> None:
    """Add up the counts of all ranks, and give the output its name."""
    root = writer.partial.root
    if sum(map(len, entries)) != len(split_into_units(job.contents.files)):
        raise OutputError(f"cannot write {show(output.path)}: another run disturbed this one in {show(root)}")
    for entry in (entry for share in entries for entry in share):
        counts.merge(entry)
    with output_errors(output.path, root):
        job.check()
        writer.commit()


@contextmanager
def _advising_resume(run: Run) -> Iterator[None]:
    """Add advice on how to resume to errors raised meanwhile."""
    try:
        yield
    except PrunecliError as error:
        if run.keep:
            error.advising(f"what is finished is kept, go on with {RESUME}")
        raise


def _kept(partial: Partial, units: Sequence[Unit]) -> str:
    done, total = sum(units[number].size for number in partial.entries()), sum(unit.size for unit in units)
    return f"{100 * done // total} % of the output is kept, and the same command goes on" if done else ""


def count(counts: Counts, files: Sequence[OutputFile], run: Run) -> None:
    """Count the contents of files that are not written, with all ranks; the leader's counts contain the sums."""
    unit_counts = UnitCounts(counts, files)

    def drain() -> list[dict[str, Any]]:
        # A single process has already added its counts where they belong.
        return [unit_counts.drain(file.name) for file in files] if run.ranks.size > 1 else []

    for entries in read_by_ranks(files, run, unit_counts.add, drain):
        for entry in entries:
            unit_counts.merge(entry)


def read_by_ranks(
    files: Sequence[OutputFile], run: Run, add: Callable[[Any], None], drain: Callable[[], list[T]]
) -> list[list[T]]:
    """Read the contents of files that are not written, each rank its share of the units.

    Every rank passes the results of its contents to its `add`. Returns, on the leader, what `drain` then returned on
    each rank.
    """
    mine = assign_units(split_into_units(files), {}, run.ranks.size)[run.ranks.rank]
    transfer = run.transfer(sum(unit.size for unit in mine))

    def look() -> list[T]:
        for unit in mine:
            look_at(unit, transfer, add)
        return drain()

    return run.ranks.to_leader(look)


def unfinished_seed(final: Path) -> int | None:
    """Return the seed of an unfinished output, None if there is none."""
    job = partial_of(final).job()
    seed = job.get("seed") if job else None
    return seed if isinstance(seed, int) else None


def _describe(job: RewriteJob) -> dict[str, Any]:
    """Return a description of the job, by which another run finds out whether it would do the same."""
    plan, digest = job.plan, hashlib.blake2b(digest_size=16)
    options = plan.prune and (
        [(each.method.name, each.method.settings) for each in plan.prune.groups],
        plan.prune.untie,
        plan.prune.mask_dtype,
        plan.prune.with_state,
        plan.prune.rescale,
    )
    _add(digest, (plan.command, plan.bake, options, sorted(plan.metadata.items())))
    for name, planned in plan.planned.items():
        choice = planned.choice and (planned.choice.pruned, sorted(planned.choice.as_dict().items()))
        _add(digest, (name, planned.key, planned.target.candidates, planned.digest, choice))
    for file in job.contents.files:
        _add(digest, (file.name, file.size, file.changes))
    passthrough = hashlib.blake2b(digest_size=16)
    for each in job.contents.passthrough:
        _add(passthrough, (each.name, each.state))
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "input": fingerprint(job.checkpoint),
        "seed": plan.seed,
        "plan": digest.hexdigest(),
        "passthrough": passthrough.hexdigest(),
        "token": secrets.token_hex(8),
    }


def _add(digest: "hashlib.blake2b", what: object) -> None:
    digest.update(repr(what).encode("utf-8", "surrogatepass"))


def _resumed(partial: Partial, job: Mapping[str, Any]) -> dict[int, Entry]:
    """Return the units that an earlier run of the same job finished.

    Raises:
        UsageError: the earlier run had another job.
    """
    earlier = partial.job()
    if earlier is None:
        return {}
    for field, meaning in _OTHER_JOBS.items():
        if earlier.get(field) != job[field]:
            raise UsageError(f"the unfinished {HERE} {meaning}; leave {RESUME} out to begin anew")
    return partial.entries()
