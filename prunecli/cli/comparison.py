"""How a checkpoint is compared with an earlier one, for `diff` and for `report --baseline`."""

import sys
from collections.abc import Sequence

from prunecli.cli.messages import print_path
from prunecli.cli.verbosity import Verbosity
from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint
from prunecli.lean import dataclass
from prunecli.reporting.comparison import WRITERS, comparison_as_lines
from prunecli.reporting.comparison_tree import comparison_as_text
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.output import ReportOutput
from prunecli.reporting.terminal import screen_of
from prunecli.surgery.compare.model import Comparison, check_comparison
from prunecli.surgery.jobs import compare_with
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import checkpoint_location
from prunecli.surgery.report.gates import Gate
from prunecli.surgery.run.options import Run

__all__ = ["Diff", "plan_diff"]


@dataclass(frozen=True, slots=True)
class Diff:
    """The earlier checkpoint (None: standard input), how to write the comparison, and which changes are errors.

    Without `only_zeros`, no change is an error.
    """

    baseline: Location | None
    output: ReportOutput
    only_zeros: bool
    allow_changes: bool

    def compare(
        self,
        checkpoint: AnyCheckpoint,
        reading: ReadOptions,
        selection: Selection | None,
        run: Run,
        verbosity: Verbosity,
    ) -> None:
        """Compare an open checkpoint with the earlier one, write the comparison, and check it.

        Raises:
            ThresholdError: as `check_comparison`.
            PrunecliError: as `compare_with`; or the comparison cannot be written.
        """
        comparison = compare_with(self.baseline, checkpoint, reading, selection, run)
        self.output.closed_like(checkpoint).write_comparison(comparison)
        if not verbosity.quiet:
            self._print(comparison)
        if self.only_zeros:
            check_comparison(comparison, allow_changes=self.allow_changes)

    def _print(self, comparison: Comparison) -> None:
        """Print the comparison, or the paths of the files with it."""
        output = self.output
        if output.target is not None:
            for place in output.places:
                print_path(place)
        elif output.format is not ReportFormat.TABLE:
            sys.stdout.write(WRITERS[output.format](comparison))
        elif sys.stdout.isatty():
            sys.stdout.write(comparison_as_text(comparison, screen_of(sys.stdout), output.table))
        else:
            sys.stdout.write(comparison_as_lines(comparison))


def plan_diff(baseline: str | None, output: ReportOutput, gates: Sequence[Gate], *, allow_changes: bool) -> Diff | None:
    """Return the comparison that `--baseline` requests, None without it.

    Raises:
        UsageError: it is empty, other options contradict it, or comparisons cannot be written in this format.
    """
    if baseline is None:
        if allow_changes:
            raise UsageError("--allow-changes is an option of --baseline; add that, or leave it out")
        return None
    if not baseline:
        raise UsageError("--baseline is empty; give the path of the earlier checkpoint")
    if gates:
        raise UsageError("--baseline compares, and checks no --fail-under or --fail-over; leave one of them out")
    output.check_for_comparison()
    return Diff(checkpoint_location(baseline), output, only_zeros=True, allow_changes=allow_changes)
