"""Carry a plan out in units of work: by one process or by several, and again from where an earlier run stopped.

The leader makes a hidden folder beside the output, all ranks fill its files, each its share of the units, and note in
its journal what is finished; then the leader puts together what they have counted, and gives the output its name.
"""

import hashlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunecli import __version__
from prunecli.errors import OutputError, PrunecliError, UsageError, show
from prunecli.formats.base import PassthroughFile
from prunecli.formats.folders.base import Folder
from prunecli.formats.io.locations import Url
from prunecli.formats.io.stream import default_jobs
from prunecli.formats.opening import AnyCheckpoint, fingerprint
from prunecli.formats.outputs.file import check_space
from prunecli.formats.outputs.folder import output_errors
from prunecli.formats.outputs.passthrough import bytes_to_copy
from prunecli.formats.outputs.resumable import Partial, partial_of, partial_output
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.plan import Plan
from prunecli.surgery.run.destination import Progress, cumulative
from prunecli.surgery.run.ranks import SINGLE_PROCESS, Ranks
from prunecli.surgery.run.units import OutputFile, UnitCounts, assign_units, split_into_units
from prunecli.surgery.run.worker import WorkerContext, do_units, look_at, write_deferred
from prunecli.terms import LINK, OUTPUT, RESUME

__all__ = ["RewriteJob", "Run", "carry_out", "count", "unfinished_seed"]

_SCHEMA = "prunecli.journal/3"


@dataclass(frozen=True)
class Run:
    """How a rewrite is carried out: by how many threads and ranks, told to whom, and whether it can be gone on with.

    With `resume`, the units that an interrupted run finished are not done again; with `keep`, those that this one
    finishes can be resumed, should it fail. With `link`, files of a folder that come along unchanged may be hard links
    to those of the input.
    """

    jobs: int | None = None
    progress: Progress | None = None
    ranks: Ranks = SINGLE_PROCESS
    resume: bool = False
    keep: bool = False
    link: bool = False

    @property
    def threads(self) -> int:
        """Threads of this process: with several ranks on a machine, each has its part of the processors."""
        if self.jobs is not None:
            return self.jobs
        local = os.environ.get("LOCAL_WORLD_SIZE", "1") if self.ranks.size > 1 else "1"
        return max(1, default_jobs() // (int(local) if local.isdecimal() and int(local) else 1))


@dataclass(frozen=True)
class RewriteJob:
    """What is to be carried out: the files, what they count into, the plan, and where the result goes."""

    checkpoint: AnyCheckpoint
    plan: Plan
    counts: Counts
    works: Sequence[OutputFile]
    final: Path
    path: Path
    """The output as the user named it, for messages."""
    carried: Sequence[PassthroughFile] = ()
    """Files that come along as they are."""


def carry_out(order: RewriteJob, run: Run, finish: Callable[[Partial], None]) -> None:
    """Make an order's files, by all ranks; then `finish`, by the leader alone, gives the output its name.

    When it returns, the leader's counts have what all ranks have found.

    Raises:
        OutputError: an output cannot be written, the ranks share no file system, or one was lost.
        UsageError: the unfinished output that is to be resumed is another one, or would replace the input.
        DamagedError: the input's data contradict its checksums.
    """
    ledger = UnitCounts(order.counts, order.works)
    units = split_into_units(order.works)
    with ExitStack() as stack:

        def begin() -> tuple[Partial, dict[int, Mapping[str, Any]], Mapping[str, Any]]:
            if run.keep and _replaces_input(order):
                raise UsageError(
                    "a run that may be resumed, or started again, cannot replace its input: if it had, it would prune "
                    f"the result; name another output with {OUTPUT}"
                )
            job = _job(order)
            with output_errors(order.path, partial_of(order.final).root):
                partial = stack.enter_context(partial_output(order.final, order.path, keep=run.keep))
                entries = _resumed(partial, job, order.path) if run.resume else {}
                partial.break_links(work.name for work in order.works if work.written)
                if not entries:
                    partial.begin(job)
                    _check_room(order, run, partial)
                partial.write_token(job["token"])
            return partial, entries, job

        partial, finished, job = run.ranks.from_leader(begin)
        run.ranks.to_leader(lambda: _check_in(stack, partial, job, order, run.ranks))
        mine = assign_units(units, finished, run.ranks.size)[run.ranks.rank]
        carried = order.carried[run.ranks.rank :: run.ranks.size]
        told = cumulative(run.progress, sum(unit.size for unit in mine) + sum(file.size for file in carried))
        place = WorkerContext(partial, order.path, run.threads, told, run.link)
        with _telling_what_is_kept(run):
            entries = run.ranks.to_leader(lambda: do_units(place, mine, carried, finished, ledger))
            run.ranks.from_leader(lambda: _complete(order, ledger, entries, partial, finish))


@contextmanager
def _telling_what_is_kept(run: Run) -> Iterator[None]:
    """Add to an error in the middle how to go on."""
    try:
        yield
    except PrunecliError as error:
        if run.keep:
            error.advising(f"what is finished is kept, go on with {RESUME}")
        raise


def count(counts: Counts, works: Sequence[OutputFile], run: Run) -> None:
    """Look at files that are not written, by all ranks; the leader's counts have the sum."""
    ledger = UnitCounts(counts, works)
    units = split_into_units(works)
    mine = assign_units(units, {}, run.ranks.size)[run.ranks.rank]
    told = cumulative(run.progress, sum(unit.size for unit in mine))

    def look() -> list[dict[str, Any]]:
        for unit in mine:
            look_at(unit, run.threads, told, ledger)
        # What one process counts by itself is where it belongs.
        return [ledger.drain(work.name) for work in works] if run.ranks.size > 1 else []

    for entries in run.ranks.to_leader(look):
        for entry in entries:
            ledger.merge(entry)


def unfinished_seed(final: Path) -> int | None:
    """Return the seed of an unfinished output, None if there is none."""
    job = partial_of(final).job()
    seed = job.get("seed") if job else None
    return seed if isinstance(seed, int) else None


def _check_room(order: RewriteJob, run: Run, partial: Partial) -> None:
    """Look whether what is written, and what is copied, will fit on the disk.

    Raises:
        OutputError: it does not.
    """
    written = sum(work.size for work in order.works if work.written)
    copied = bytes_to_copy(order.carried, partial.root, link=run.link)
    remedies = ["free some", f"link what does not change with {LINK}", f"write elsewhere with {OUTPUT}"]
    if not copied or run.link:
        del remedies[1]
    *first, last = remedies
    check_space(partial.root, written + copied, order.path, f"{', '.join(first)}, or {last}")


def _replaces_input(order: RewriteJob) -> bool:
    opened = order.checkpoint
    place = opened.path if isinstance(opened, Folder) else opened.source.name
    try:
        return not isinstance(place, Url | None) and Path(place).samefile(order.final)
    except OSError:  # there is nothing to replace, or the input is behind a URL
        return False


def _job(order: RewriteJob) -> dict[str, Any]:
    """Describe what is done, so that another run can tell whether it would do the same."""
    plan, digest = order.plan, hashlib.blake2b(digest_size=16)
    ways = plan.prune and (plan.prune.method, plan.prune.untie, plan.prune.mask_dtype, plan.prune.with_state)
    digest.update(repr((plan.bake, ways, sorted(plan.metadata.items()))).encode("utf-8", "surrogatepass"))
    for name, planned in plan.planned.items():
        choice = planned.choice and (planned.choice.pruned, sorted(planned.choice.as_dict().items()))
        what = (name, planned.key, planned.target.candidates, planned.digest, choice)
        digest.update(repr(what).encode("utf-8", "surrogatepass"))
    for work in order.works:
        digest.update(repr((work.name, work.size, work.written)).encode("utf-8", "surrogatepass"))
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "input": fingerprint(order.checkpoint),
        "seed": plan.seed,
        "plan": digest.hexdigest(),
        "carried": _state(order.carried),
        "token": secrets.token_hex(8),
    }


def _state(carried: Sequence[PassthroughFile]) -> str:
    """Return what tells this state of the files that come along from others."""
    digest = hashlib.blake2b(digest_size=16)
    for each in carried:
        state = None
        if not isinstance(each.path, Url):  # what lies behind a URL is fetched again
            with suppress(OSError):  # whoever carries it along says what is wrong
                status = each.path.stat()
                state = status.st_size, status.st_mtime_ns
        digest.update(repr((each.name, state)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _resumed(partial: Partial, job: Mapping[str, Any], path: Path) -> dict[int, Mapping[str, Any]]:
    """Return what an earlier run of the same job finished.

    Raises:
        UsageError: the earlier run had another job.
    """
    earlier = partial.job()
    if earlier is None:
        return {}
    meanings = {
        "schema": "was written by another version of prunecli",
        "version": "was written by another version of prunecli",
        "input": "was made from another state of the input, which has changed since",
        "seed": "was made with another seed",
        "plan": "was made with other options",
        "carried": "was made from another state of the input, which has changed since",
    }
    for field, meaning in meanings.items():
        if earlier.get(field) != job[field]:
            raise UsageError(f"the unfinished {show(path)} {meaning}; leave {RESUME} out to begin anew")
    return partial.entries()


def _check_in(stack: ExitStack, partial: Partial, job: Mapping[str, Any], order: RewriteJob, ranks: Ranks) -> None:
    """Begin to work in the leader's folder, if this rank sees it, and sees the leader's input."""
    here = f"rank {ranks.rank} on {show(socket.gethostname())}"
    met = partial.has_token(job["token"])
    if met and not ranks.is_leader:
        with output_errors(order.path, partial.root):
            stack.enter_context(partial.worker_lock())
        met = partial.has_token(job["token"])
    if not met:
        raise OutputError(
            f"{here} does not see {show(partial.root)}, which rank 0 made; all ranks need one shared file system, name "
            f"an output on it with {OUTPUT}"
        )
    if fingerprint(order.checkpoint) != job["input"]:
        raise OutputError(f"{here} sees another {order.checkpoint.source.label} than rank 0; give all ranks one input")


def _complete(
    order: RewriteJob,
    ledger: UnitCounts,
    entries: Sequence[Sequence[Mapping[str, Any]]],
    partial: Partial,
    finish: Callable[[Partial], None],
) -> None:
    """Put together what the ranks found, write what depends on it, and finish."""
    if sum(map(len, entries)) != len(split_into_units(order.works)):
        raise OutputError(f"cannot write {show(order.path)}: another run disturbed this one in {show(partial.root)}")
    for entry in (entry for share in entries for entry in share):
        ledger.merge(entry)
    with output_errors(order.path, partial.root):
        for work in order.works:
            if work.written:
                write_deferred(work, partial.output / work.name)
        finish(partial)
