"""Several checkpoints in one table, a row for each: text, lines with tabs, JSON, CSV, Markdown or HTML."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from prunecli import __version__
from prunecli.core.records import as_json
from prunecli.lean import dataclass
from prunecli.reporting.csv import safe_cell
from prunecli.reporting.layout import CYAN, Column, Row, lay_out, tabbed
from prunecli.reporting.markdown import code
from prunecli.reporting.numbers import bar, label_of, percent, size_of
from prunecli.reporting.options import ReportFormat, Sort
from prunecli.reporting.page_parts import table_page
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.surgery.names.select import LONGEST
from prunecli.surgery.report.inventory_json import Writer
from prunecli.surgery.report.model import CheckpointRef, Report, Totals

__all__ = ["SWEEP_WRITERS", "SweepDocument", "SweepRow", "sorted_sweep", "sweep_as_lines", "sweep_as_text"]

_COLUMNS = (
    Column("size", drop=4),
    Column("parameters", drop=3),
    Column("elements", drop=2),
    Column("zeros", drop=1),
    Column("sparsity"),
    Column("", right=False, drop=5, style=CYAN),
)
_HEADINGS = ("path", "format", "bytes", "parameters", "elements", "zeros", "sparsity")


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One checkpoint, and the sums over its parameters."""

    source: CheckpointRef
    totals: Totals


@dataclass(frozen=True, slots=True)
class SweepDocument:
    """Several checkpoints, in the order of the command line."""

    schema: Literal["prunecli.reports/1"]
    tool: Writer
    checkpoints: tuple[SweepRow, ...]


def sorted_sweep(reports: Sequence[Report], sort: Sort) -> Sequence[Report]:
    """Return the reports in the order of `--sort`: as given, or the sparsest or the largest first."""
    if sort == "name":
        return reports
    return sorted(reports, key=lambda each: -(each.totals.sparsity if sort == "sparsity" else each.totals.elements))


def sweep_as_text(reports: Sequence[Report], screen: Screen) -> str:
    """Return a table for a terminal or a file; paths stay whole."""
    rows = [_row(each, screen) for each in reports]
    return "".join(f"{line}\n" for line in lay_out("checkpoint", _COLUMNS, rows, screen, whole_names=True))


def sweep_as_lines(reports: Sequence[Report]) -> str:
    """Return lines with tabs between the cells, headings first, for a pipe; bytes and shares are plain numbers."""
    columns = [Column(heading, right=heading != "format") for heading in _HEADINGS[1:]]
    rows = [Row(_label(each), [str(cell) for cell in _cells(each)[1:]]) for each in reports]
    return "".join(f"{line}\n" for line in tabbed(_HEADINGS[0], columns, rows))


def _as_json(reports: Sequence[Report]) -> str:
    """Return the JSON `prunecli.reports/1`: ASCII only."""
    rows = tuple(SweepRow(each.source, each.totals) for each in reports)
    return (
        json.dumps(as_json(SweepDocument("prunecli.reports/1", Writer("prunecli", __version__), rows)), indent=2) + "\n"
    )


def _as_csv(reports: Sequence[Report]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(_HEADINGS)
    writer.writerows([safe_cell(cell) if isinstance(cell, str) else cell for cell in _cells(each)] for each in reports)
    return text.getvalue()


def _as_markdown(reports: Sequence[Report]) -> str:
    heads = ["checkpoint", *(column.heading for column in _COLUMNS[:-1])]
    rows = [[code(each.source.path or "standard input"), *_row(each, PAGE).cells[:-1]] for each in reports]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ["---", *["---:"] * 5], *rows))


def _as_html(reports: Sequence[Report]) -> str:
    headings = ("checkpoint", *(column.heading for column in _COLUMNS[:-1]))
    rows = [(_label(each), *_row(each, PAGE).cells[:-1]) for each in reports]
    return table_page(f"Sparsity of {len(reports)} checkpoints", headings, rows)


def _label(report: Report) -> str:
    return label_of(report.source.path or "standard input", LONGEST)


def _cells(report: Report) -> tuple[str | float, ...]:
    """Return the values under `_HEADINGS`."""
    source, totals = report.source, report.totals
    counts = (totals.parameters, totals.elements, totals.zeros, totals.sparsity)
    return (source.path or "standard input", source.format, source.bytes, *counts)


def _row(report: Report, screen: Screen) -> Row:
    totals = report.totals
    counts = [f"{each:,}" for each in (totals.parameters, totals.elements, totals.zeros)]
    drawn = bar(totals.sparsity, 10, blocks=screen.blocks) if screen.live else ""
    return Row(_label(report), [size_of(report.source.bytes), *counts, percent(totals.zeros, totals.elements), drawn])


SWEEP_WRITERS: Mapping[ReportFormat, Callable[[Sequence[Report]], str]] = {
    ReportFormat.TABLE: lambda reports: sweep_as_text(reports, PAGE),
    ReportFormat.JSON: _as_json,
    ReportFormat.CSV: _as_csv,
    ReportFormat.MARKDOWN: _as_markdown,
    ReportFormat.HTML: _as_html,
}
"""The functions that render several reports for a file, by format."""
