"""What every command that opens a checkpoint needs: its ranks, and what it prints meanwhile."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from prunecli.cli.messages import print_note
from prunecli.cli.progress import progress
from prunecli.lean import dataclass
from prunecli.surgery.listing import Listener
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import ranks_of_launcher

__all__ = ["Verbosity", "run_options"]


@contextmanager
def run_options(jobs: int | None = None, *, resume: bool = False, link: bool = False) -> Iterator[Run]:
    """Join the ranks of a launcher, if there are any, and yield the execution options."""
    with ranks_of_launcher() as ranks:
        yield Run(jobs, None, ranks, resume or ranks.restarts > 0, resume or ranks.restartable, link)


@dataclass(frozen=True, slots=True)
class Verbosity(Listener):
    """What a run prints: only errors if `quiet`; with `report_to_stdout`, the report instead of the output's path."""

    quiet: bool
    report_to_stdout: bool = False

    def note(self, text: str) -> None:
        """Print a note on standard error."""
        if not self.quiet:
            print_note(text)

    def progress(self, label: str, *, delayed: bool = False) -> AbstractContextManager[Progress | None]:
        """Show progress on standard error."""
        return progress(label, quiet=self.quiet, delayed=delayed)
