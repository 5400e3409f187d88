"""The overlap of two masks as text: a table, lines with tabs, JSON, CSV, Markdown or HTML."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from prunecli.formats.outputs.output import write_output
from prunecli.reporting.csv import safe_cell
from prunecli.reporting.layout import BOLD, Column, Row, lay_out, tabbed
from prunecli.reporting.markdown import code
from prunecli.reporting.numbers import label_of, percent, shape_of
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.output import ReportOutput
from prunecli.reporting.page_parts import table_page
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.surgery.compare.overlap_model import Overlap, OverlapCounts, OverlapRow, overlap_as_dict
from prunecli.surgery.names.select import LONGEST

__all__ = ["OVERLAP_WRITERS", "overlap_as_lines", "overlap_as_text", "write_overlap"]

_COLUMNS = (
    Column("both"),
    Column("only A", drop=3),
    Column("only B", drop=4),
    Column("neither", drop=6),
    Column("elements", drop=5),
    Column("IoU"),
    Column("Hamming", drop=2),
    Column("by chance"),
    Column("z"),
)


def overlap_as_text(overlap: Overlap, screen: Screen) -> str:
    """Return a table for a terminal or a file, a row for each parameter and one for all; names stay whole."""
    rows = [Row(_name(row, label_of), _cells(row.counts)) for row in overlap.rows]
    rows.append(Row(_all(overlap), _cells(overlap.totals), style=BOLD))
    lines = lay_out("parameter", _COLUMNS, rows, screen, whole_names=True)
    return _text([f"A: {_path(overlap.a.path)}", f"B: {_path(overlap.b.path)}", "", *lines])


def overlap_as_lines(overlap: Overlap) -> str:
    """Return lines with tabs between the cells for a pipe: headings, a line for each parameter, and one for all."""
    rows = [Row(label_of(row.name, LONGEST), _cells(row.counts)) for row in overlap.rows]
    return _text(tabbed("parameter", _COLUMNS, [*rows, Row(_all(overlap), _cells(overlap.totals))]))


def write_overlap(overlap: Overlap, output: ReportOutput) -> None:
    """Write an overlap, if there is a file for it.

    Raises:
        OutputError: it cannot be written.
    """
    if output.target is not None:
        write_output(output.target, OVERLAP_WRITERS[output.format](overlap).encode("utf-8"))


def _as_json(overlap: Overlap) -> str:
    """Return the JSON `prunecli.overlap/1`: ASCII only."""
    return json.dumps(overlap_as_dict(overlap), indent=2, ensure_ascii=True) + "\n"


def _as_csv(overlap: Overlap) -> str:
    """Return a line for each parameter, with the names of the JSON as headings."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    rows = overlap_as_dict(overlap)["parameters"]
    writer.writerow(rows[0] if rows else ["name"])
    for row in rows:
        cells = {**row, "shape": shape_of(row["shape"])}.values()
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def _as_markdown(overlap: Overlap) -> str:
    heads = ["parameter", *(column.heading for column in _COLUMNS)]
    rows = [[_name(row, code), *_cells(row.counts)] for row in overlap.rows]
    rows.append([f"**{_all(overlap)}**", *_cells(overlap.totals)])
    lines = [heads, ["---", *["---:"] * len(_COLUMNS)], *rows]
    above = f"### Overlap of A, {_coded(overlap.a.path)}, and B, {_coded(overlap.b.path)}"
    return _text([above, "", *(f"| {' | '.join(cells)} |" for cells in lines)])


def _as_html(overlap: Overlap) -> str:
    headings = ("parameter", *(column.heading for column in _COLUMNS))
    rows = [(_name(row, label_of), *_cells(row.counts)) for row in overlap.rows]
    rows.append((_all(overlap), *_cells(overlap.totals)))
    above = f"A: {_path(overlap.a.path)}", f"B: {_path(overlap.b.path)}"
    return table_page("Overlap of two masks", headings, rows, above)


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _path(path: str | None) -> str:
    return label_of(path or "standard input", LONGEST)


def _coded(path: str | None) -> str:
    return code(path or "standard input")


def _all(overlap: Overlap) -> str:
    return f"all {overlap.parameters:,} parameters"


def _name(row: OverlapRow, shown: Callable[[str], str]) -> str:
    name = shown(row.name)
    if row.name != row.name_b:
        name += f" (B: {shown(row.name_b)})"
    return name if row.shared_with is None else f"{name} = {shown(row.shared_with)}"


def _cells(counts: OverlapCounts) -> Sequence[str]:
    numbers = [f"{each:,}" for each in (counts.both, counts.only_a, counts.only_b, counts.neither, counts.elements)]
    iou = "" if counts.iou is None else percent(counts.both, counts.both + counts.hamming)
    z_score = "" if counts.z_score is None else f"{round(counts.z_score, 2) + 0.0:.2f}"  # -0.001 is 0.00
    return [*numbers, iou, f"{counts.hamming:,}", f"{counts.expected:,.1f}", z_score]


OVERLAP_WRITERS: Mapping[ReportFormat, Callable[[Overlap], str]] = {
    ReportFormat.TABLE: lambda overlap: overlap_as_text(overlap, PAGE),
    ReportFormat.JSON: _as_json,
    ReportFormat.CSV: _as_csv,
    ReportFormat.MARKDOWN: _as_markdown,
    ReportFormat.HTML: _as_html,
}
"""The functions that render an overlap for a file, by format."""
