"""`prunecli report A B C`: one table, a row for each checkpoint."""

import sys
from collections.abc import Iterable, Sequence

from prunecli.cli.messages import print_path
from prunecli.formats.opening import AnyCheckpoint
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.output import ReportOutput
from prunecli.reporting.sweep import SWEEP_WRITERS, sorted_sweep, sweep_as_lines, sweep_as_text
from prunecli.reporting.terminal import screen_of
from prunecli.surgery.report.gates import Gate, check_gates_of_each
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.options import Run

__all__ = ["report_each"]


def report_each(
    measured: Iterable[tuple[AnyCheckpoint, Report]],
    output: ReportOutput,
    gates: Sequence[Gate],
    run: Run,
    *,
    quiet: bool,
) -> None:
    """Write the table of open checkpoints and their reports, and check each report; print nothing if `quiet`.

    Raises:
        PrunecliError: as `measure_each`, `write_several` and `check_gates_of_each`.
    """
    reports = []
    for opened, report in measured:
        output = output.closed_like(opened)
        reports.append(report)
    if not run.ranks.is_leader:
        return
    output.write_several(reports)
    if output.target is None and not quiet:
        _print(sorted_sweep(reports, output.table.sort), output.format)
    elif not quiet:
        for place in output.places:
            print_path(place)
    check_gates_of_each(reports, gates)


def _print(reports: Sequence[Report], form: ReportFormat) -> None:
    if form is not ReportFormat.TABLE:
        sys.stdout.write(SWEEP_WRITERS[form](reports))
    elif sys.stdout.isatty():
        sys.stdout.write(sweep_as_text(reports, screen_of(sys.stdout)))
    else:
        sys.stdout.write(sweep_as_lines(reports))
