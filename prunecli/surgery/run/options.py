"""Execution options of a run, apart from what it does: a command that writes nothing needs no more."""

import os

from prunecli.formats.io.threads import default_jobs
from prunecli.formats.outputs.base import Transfer
from prunecli.lean import dataclass
from prunecli.surgery.run.destination import Progress, cumulative
from prunecli.surgery.run.ranks import SINGLE_PROCESS, Ranks

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """Execution options: threads, ranks, a callback for progress, and resumability.

    With `resume`, units that an interrupted run finished are not done again. With `keep`, units that this run finishes
    are kept for a resumption if it fails. With `link`, passthrough files may be hard links to those of the input.
    """

    jobs: int | None = None
    progress: Progress | None = None
    ranks: Ranks = SINGLE_PROCESS
    resume: bool = False
    keep: bool = False
    link: bool = False

    @property
    def threads(self) -> int:
        """The number of threads of this process; several ranks on a machine share its processors."""
        if self.jobs is not None:
            return self.jobs
        local = os.environ.get("LOCAL_WORLD_SIZE", "1") if self.ranks.size > 1 else "1"
        return max(1, default_jobs() // (int(local) if local.isdecimal() and int(local) else 1))

    @property
    def in_units(self) -> bool:
        """Whether the output is made in units, because it must be resumable or is made by several ranks."""
        return self.keep or self.ranks.size > 1

    def transfer(self, size: int) -> Transfer:
        """Return how this process moves its share of the bytes, `size` in all."""
        return Transfer(self.threads, cumulative(self.progress, size), self.link)
