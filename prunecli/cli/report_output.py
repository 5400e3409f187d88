"""The output of `prunecli report`: files and their paths, or the report on standard output."""

import sys

from prunecli.cli.messages import print_path, print_sentence, shown_path
from prunecli.cli.verbosity import Verbosity
from prunecli.reporting.format import rendered
from prunecli.reporting.lines import as_lines
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.output import ReportOutput
from prunecli.reporting.terminal import screen_of
from prunecli.reporting.text import as_text
from prunecli.surgery.report.model import Report

__all__ = ["print_report"]


def print_report(report: Report, output: ReportOutput, verbosity: Verbosity, *, lines: bool) -> None:
    """Write a report to its files and print their paths, or print it if it has no file; `lines`: as lines with tabs."""
    output.write(report)
    if verbosity.quiet:
        return
    for place in output.places:
        if output.target is None:  # standard output has the report
            print_sentence(f"wrote {shown_path(place)}")
        else:
            print_path(place)
    if output.target is not None:
        return
    if output.format is not ReportFormat.TABLE:
        sys.stdout.flush()
        sys.stdout.buffer.write(rendered(report, output.format))
    elif lines:
        sys.stdout.writelines(f"{line}\n" for line in as_lines(report, output.table))
    else:
        sys.stdout.write(as_text(report, screen_of(sys.stdout), output.table))
