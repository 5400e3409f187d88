"""The files and formats of a report: checked before the checkpoint is read, written after it has been counted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from prunecli.errors import UsageError
from prunecli.formats.io.locations import Location, location_of
from prunecli.formats.opening import AnyCheckpoint
from prunecli.formats.outputs.output import FileOutput, check_output, write_output
from prunecli.formats.outputs.permissions import private_as, readers_of
from prunecli.lean import dataclass
from prunecli.reporting.format import form_of, rendered
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.surgery.places import output_location
from prunecli.surgery.report.model import Report
from prunecli.terms import FORMAT, OUTPUT, PLOT

if TYPE_CHECKING:
    from prunecli.surgery.compare.model import Comparison

__all__ = ["ReportOutput", "plan_report_output"]


@dataclass(frozen=True, slots=True)
class ReportOutput:
    """A report's format, its file (None without one), the file and format of its figure, and both files' names."""

    format: ReportFormat
    table: TableOptions
    target: "FileOutput | None"
    figure: tuple[FileOutput, str] | None
    places: Sequence[Location]

    def closed_like(self, checkpoint: AnyCheckpoint) -> "ReportOutput":
        """Return this output, with files that only those can read who may read the checkpoint."""
        readers = readers_of(checkpoint)
        target = None if self.target is None else private_as(self.target, readers)
        figure = None if self.figure is None else (private_as(self.figure[0], readers), self.figure[1])
        return replace(self, target=target, figure=figure)

    @property
    def pictures(self) -> bool:
        """Whether the output shows the positions of zeros in single parameters."""
        return self.format is ReportFormat.HTML or self.figure is not None

    def write(self, report: Report) -> None:
        """Write the files.

        Raises:
            OutputError: one cannot be written.
        """
        if self.figure is not None:
            from prunecli.reporting.plot import draw

            target, kind = self.figure
            write_output(target, draw(report, kind))
        if self.target is not None:
            write_output(self.target, rendered(report, self.format, view=self.table))

    def check_for_several(self) -> None:
        """Refuse what a table of several checkpoints does not have.

        Raises:
            UsageError: a figure, a depth or a number of parameters is requested.
        """
        if self.figure is not None or self.table.depth is not None or self.table.top is not None:
            raise UsageError("several checkpoints are one table, a row each; leave --plot, --depth and --top out")

    def write_several(self, reports: Sequence[Report]) -> None:
        """Write one table of several reports, if there is a file for it.

        Raises:
            OutputError: it cannot be written.
        """
        if self.target is not None:
            from prunecli.reporting.sweep import SWEEP_WRITERS, sorted_sweep

            text = SWEEP_WRITERS[self.format](sorted_sweep(reports, self.table.sort))
            write_output(self.target, text.encode("utf-8"))

    def check_for_comparison(self) -> None:
        """Refuse what a comparison of two checkpoints does not have.

        Raises:
            UsageError: a figure is requested, or a format that comparisons are not written in.
        """
        from prunecli.reporting.comparison import WRITERS

        if self.figure is not None:
            raise UsageError(f"a comparison has no figure; leave {PLOT} out")
        if self.format not in WRITERS:
            known = ", ".join(WRITERS)
            raise UsageError(f"a comparison is written as {known}, not as {self.format}; choose one with {FORMAT}")

    def write_comparison(self, comparison: "Comparison") -> None:
        """Write a comparison, if there is a file for it.

        Raises:
            OutputError: it cannot be written.
        """
        if self.target is not None:
            from prunecli.reporting.comparison import WRITERS

            write_output(self.target, WRITERS[self.format](comparison).encode("utf-8"))


def plan_report_output(
    form: ReportFormat | None, output: str | None, plot: str | None, table: TableOptions, *, force: bool
) -> ReportOutput:
    """Return a report's output; with an `output` of None, it writes no file.

    Raises:
        UsageError: a file's suffix has no format, options for tables are used with another format, or matplotlib is not
            installed.
        OutputError: a file exists (without `force`), or cannot be written.
    """
    file = None if output is None else output_location(output, OUTPUT)
    if form is None:
        form = ReportFormat.TABLE if file is None else form_of(file.name)
    if form is not ReportFormat.TABLE and table != TableOptions():
        raise UsageError(f"--depth, --sort and --top are for tables; leave them out, or leave {FORMAT} {form} out")
    figure = None
    if plot is not None:
        from prunecli.reporting.plot import check_plot

        place = output_location(plot, PLOT)
        kind = check_plot(place.name)
        figure = check_output(place, force=force, option=PLOT), kind
    places = [location_of(name) for name in (plot, output) if name is not None]
    return ReportOutput(form, table, None if file is None else check_output(file, force=force), figure, places)
