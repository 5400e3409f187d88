"""Carry out a rewrite: in one go, or in units by several ranks, and resume it where an earlier run stopped."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prunecli.errors import OutputError, show
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
from prunecli.formats.outputs.resumable import Partial, partial_of
from prunecli.formats.outputs.unit_files import UnitWriter
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.spread import Entry, SpreadJob, Start, in_one_folder
from prunecli.surgery.run.units import UnitCounts, assign_units, split_into_units
from prunecli.surgery.run.worker import Share, do_share, look_at

__all__ = ["RewriteJob", "carry_out", "count", "read_by_ranks", "unfinished_seed"]

T = TypeVar("T")

_SCHEMA = "prunecli.journal/3"


@dataclass(frozen=True)
class RewriteJob:
    """A rewrite to carry out: a plan for a checkpoint, the counts, and the output with its contents.

    `check` is called after all data have been read, and raises if the output must not get its name. `given` are the
    files of masks or scores that decide what is dropped.
    """

    checkpoint: AnyCheckpoint
    plan: Plan
    counts: Counts
    output: Output
    contents: OutputContents
    check: Callable[[], None]
    given: Sequence[AnyCheckpoint] = ()


def carry_out(job: RewriteJob, run: Run) -> None:
    """Write the output; the leader's counts then contain the results of all ranks.

    Raises:
        OutputError: an output cannot be written, the ranks share no file system, or one was lost.
        UsageError: the unfinished output to resume belongs to another job, or would replace the input.
        DamagedError: the input's data contradict its checksums.
    """
    if run.in_units and is_resumable(job.output):
        in_one_folder(_Units(job, job.output, run), run)
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


class _Units(SpreadJob[list[Entry]]):
    """A rewrite in units: each rank writes its share of them to the files in the folder."""

    def __init__(self, job: RewriteJob, output: ResumableOutput, run: Run) -> None:
        self._job, self._run = job, run
        self._units = split_into_units(job.contents.files)
        self._counts = UnitCounts(job.counts, job.contents.files)
        self.output = output
        self.label = job.checkpoint.source.label

    def describe(self) -> Mapping[str, Any]:
        """Return a description of the rewrite."""
        return _describe(self._job)

    def fingerprint(self) -> str:
        """Return a digest of the state of the input."""
        return fingerprint(self._job.checkpoint, *self._job.given)

    def begin(self, partial: Partial, described: Mapping[str, Any]) -> None:
        """Empty the folder, and check for space."""
        self._writer(partial, Transfer(link=self._run.link)).begin(described)

    def resume(self, partial: Partial) -> None:
        """Make the files that an earlier run left safe to write into."""
        self._writer(partial, Transfer(link=self._run.link)).resume()

    def _writer(self, partial: Partial, transfer: Transfer) -> UnitWriter:
        return UnitWriter(partial, self.output, self._job.contents, transfer)

    def work(self, start: Start) -> list[Entry]:
        """Do this rank's share of the units and the other files."""
        ranks, passthrough = self._run.ranks, self._job.contents.passthrough
        mine = assign_units(self._units, start.finished, ranks.size)[ranks.rank]
        share = Share(mine, passthrough[ranks.rank :: ranks.size], start.finished)
        transfer = self._run.transfer(share.bytes)
        return do_share(share, self._writer(start.partial, transfer), transfer, self._counts)

    def complete(self, start: Start, found: Sequence[list[Entry]]) -> None:
        """Add up the counts of all ranks, and give the output its name."""
        if sum(map(len, found)) != len(self._units):
            root = show(start.partial.root)
            raise OutputError(f"cannot write {show(self.output.path)}: another run disturbed this one in {root}")
        for entry in (entry for share in found for entry in share):
            self._counts.merge(entry)
        self._job.check()
        self._writer(start.partial, Transfer(link=self._run.link)).commit()

    def kept(self, partial: Partial) -> str:
        """Return which share of the output is finished."""
        units = self._units
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
        "input": fingerprint(job.checkpoint, *job.given),
        "seed": plan.seed,
        "plan": digest.hexdigest(),
        "passthrough": passthrough.hexdigest(),
    }


def _add(digest: "hashlib.blake2b", what: object) -> None:
    digest.update(repr(what).encode("utf-8", "surrogatepass"))
