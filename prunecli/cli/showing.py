"""Where a report goes, and in which form: settled before the checkpoint is read, done when it is counted."""

import sys
from dataclasses import dataclass

from prunecli.cli.options import output_path
from prunecli.errors import UsageError
from prunecli.formats.outputs.output import Output, check_output, write_output
from prunecli.reporting.format import form_of, rendered
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.reporting.plot import check_plot, draw
from prunecli.reporting.terminal import screen_of
from prunecli.reporting.text import as_text
from prunecli.surgery.report.measure import Report

__all__ = ["Wanted", "deliver", "settle"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A report's form, its file (None: standard output), and a figure's file with its kind, if one is drawn."""

    form: ReportFormat
    view: TableOptions
    target: Output | None
    figure: tuple[Output, str] | None

    @property
    def pictures(self) -> bool:
        """Whether it shows where the zeros of single parameters lie."""
        return self.form is ReportFormat.HTML or self.figure is not None


def settle(
    form: ReportFormat | None, output: str | None, plot: str | None, view: TableOptions, *, force: bool
) -> Wanted:
    """Find the form and look at the files before anything is read.

    Raises:
        UsageError: a file does not tell its form, or the view is one that the form does not have, or matplotlib is
            not installed.
        OutputError: a file exists (and no `force`), or cannot be written.
    """
    file = None if output in (None, "-") else output_path(str(output), "--output")
    if form is None:
        form = ReportFormat.TABLE if file is None else form_of(file.name)
    if form is not ReportFormat.TABLE and view != TableOptions():
        raise UsageError(f"--depth, --sort and --top are for the table; leave them out, or --format {form} out")
    figure = None
    if plot is not None:
        place = output_path(plot, "--plot")
        kind = check_plot(place.name)
        figure = check_output(place, force=force, option="--plot"), kind
    return Wanted(form, view, None if file is None else check_output(file, force=force), figure)


def deliver(report: Report, wanted: Wanted) -> None:
    """Write a report, and its figure, to where they go."""
    if wanted.figure is not None:
        target, kind = wanted.figure
        write_output(target, draw(report, kind))
    if wanted.target is not None:
        write_output(wanted.target, rendered(report, wanted.form, view=wanted.view))
    elif wanted.form is ReportFormat.TABLE:
        sys.stdout.write(as_text(report, screen_of(sys.stdout), wanted.view))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(rendered(report, wanted.form))
