"""`report --baseline`: a checkpoint set beside what it was before."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from prunecli.cli.options import checkpoint_path
from prunecli.cli.showing import Wanted
from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint, check_unchanged, open_any
from prunecli.formats.outputs.output import Output, write_output
from prunecli.reporting.comparison import WRITERS
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.surgery.compare.compare import compare
from prunecli.surgery.compare.model import Comparison, check_comparison
from prunecli.surgery.names.select import Selection
from prunecli.surgery.report.gates import Gate
from prunecli.surgery.run.resume import Run

__all__ = ["Baseline", "baseline_of"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a checkpoint is compared with (None: standard input), and how that is told and judged."""

    place: Location | None
    form: ReportFormat
    allow_changes: bool

    def set_beside(
        self, opened: AnyCheckpoint, reading: ReadOptions, selection: Selection | None, run: Run
    ) -> Comparison:
        """Compare an open checkpoint with this.

        Raises:
            UsageError: both are standard input.
            PrunecliError: as `open_any` and `compare`.
        """
        if self.place is None and opened.source.name is None:
            raise UsageError("both checkpoints cannot come from one standard input; give one of them a path")
        with open_any(self.place, reading) as before:
            comparison = compare(before, opened, selection, run)
            check_unchanged(before)
        return comparison

    def deliver(self, comparison: Comparison, target: Output | None) -> None:
        """Write a comparison to a file, or to standard output, then hold it to its promise.

        Raises:
            OutputError: it cannot be written.
            ThresholdError: as `check_comparison`.
        """
        text = WRITERS[self.form](comparison)
        if target is None:
            sys.stdout.write(text)
        else:
            write_output(target, text.encode("utf-8"))
        check_comparison(comparison, allow_changes=self.allow_changes)


def baseline_of(text: str | None, wanted: Wanted, gates: Sequence[Gate], *, allow_changes: bool) -> Baseline | None:
    """Return what `--baseline` asks for, None if it is not given.

    Raises:
        UsageError: it has no name, or options contradict it, or comparisons are not written in this style.
    """
    if text is None:
        if allow_changes:
            raise UsageError("--allow-changes is about what differs from --baseline; add that, or leave it out")
        return None
    if not text:
        raise UsageError("--baseline is empty; give the path of the checkpoint as it was before")
    if gates:
        raise UsageError("--baseline compares, and counts no sparsity to hold to a gate; run report once more for that")
    if wanted.figure is not None or wanted.view != TableOptions():
        raise UsageError(
            "a comparison has no figure, and lists what differs; leave --plot, --depth, --sort and --top out"
        )
    if wanted.form not in WRITERS:
        raise UsageError(f"a comparison is written as {', '.join(WRITERS)}, not as {wanted.form}; choose with --format")
    return Baseline(checkpoint_path(text), wanted.form, allow_changes)
