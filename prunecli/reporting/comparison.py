"""A comparison of two checkpoints as text: a table, JSON, CSV or Markdown."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from prunecli.errors import show
from prunecli.reporting.csv import safe_cell
from prunecli.reporting.layout import Column, Row, lay_out
from prunecli.reporting.markdown import code
from prunecli.reporting.numbers import percent, shape_of
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.terminal import PAGE
from prunecli.surgery.compare.model import Change, ChangeTotals, Comparison, comparison_as_dict

__all__ = ["WRITERS"]

_HEADINGS = ("newly zero", "revived", "changed", "elements", "sparsity", "before", "what")
_COLUMNS = (
    "name",
    "name_before",
    "kind",
    "state",
    "dtype",
    "shape",
    "elements",
    "zeros_before",
    "zeros",
    "newly_zero",
    "revived",
    "changed",
    "shared_with",
)


def _as_json(comparison: Comparison) -> str:
    """Return the JSON `prunecli.comparison/1`: ASCII only, so that no name in it can affect a terminal."""
    return json.dumps(comparison_as_dict(comparison), indent=2, ensure_ascii=True) + "\n"


def _as_csv(comparison: Comparison) -> str:
    """Return all tensors as CSV, one per line, with the names of the JSON as headings."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison_as_dict(comparison)["tensors"]:
        plain = {**row, "shape": shape_of(row["shape"])}
        cells = (plain[column] for column in _COLUMNS)
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def _as_table(comparison: Comparison) -> str:
    """Return a table of the tensors that differ, the totals, and a sentence on the result."""
    rows = [Row(_label(row), _cells(row)) for row in comparison.differing]
    rows.append(_sums(comparison))
    columns = [Column(heading, right=heading != "what") for heading in _HEADINGS]
    return "".join(f"{line}\n" for line in (*lay_out("tensor", columns, rows, PAGE), _sentence(comparison)))


def _as_markdown(comparison: Comparison) -> str:
    """Return the content of `_as_table` as Markdown for a pull request."""
    sums = _sums(comparison)
    rows = [[code(row.name), *_cells(row)] for row in comparison.differing]
    lines = [["tensor", *_HEADINGS], ["---", *["---:"] * 6, "---"], *rows, [sums.name, *sums.cells]]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", f"{_sentence(comparison)}", ""])


def _label(row: Change) -> str:
    name = show(row.name) if row.name == row.name_before else f"{show(row.name)} (was {show(row.name_before)})"
    return name if row.shared_with is None else f"{name} = {show(row.shared_with)}"


def _cells(row: Change) -> Sequence[str]:
    if row.state != "compared":
        return ("", "", "", f"{row.elements:,}", "", "", row.state)
    if row.kind != "parameter":
        zeroed = f"{row.newly_zero:,}" if row.newly_zero else ""
        return (zeroed, "", f"{row.changed:,}", f"{row.elements:,}", "", "", row.kind)
    return (*_numbers(row), row.kind)


def _sums(comparison: Comparison) -> Row:
    totals = comparison.totals
    return Row(f"{totals.parameters:,} parameters", (*_numbers(totals), "all"))


def _numbers(counts: Change | ChangeTotals) -> Sequence[str]:
    numbers = (counts.newly_zero, counts.revived, counts.changed, counts.elements)
    shares = (percent(zeros, counts.elements) for zeros in (counts.zeros, counts.zeros_before))
    return (*(f"{each:,}" for each in numbers), *shares)


def _sentence(comparison: Comparison) -> str:
    totals = comparison.totals
    parts = [f"{totals.parameters:,} parameters"]
    if totals.others:
        parts.append(f"{totals.others:,} other tensors")
    what = " and ".join(parts)
    if comparison.uncompared:
        what += f" ({comparison.uncompared:,} outside the state dicts were not compared)"
    zeroed = f"{totals.newly_zero:,} elements became zero"
    if comparison.state_zeroed:
        zeroed += f" (and {comparison.state_zeroed:,} of optimizer state)"
    if comparison.only_zeros_added:
        return f"only zeros were added: of {what}, {zeroed}, none was revived, and no other value differs"
    faulty = sum(row.fault() is not None for row in comparison.rows)
    return (
        f"not only zeros were added: of {what}, {zeroed}, {totals.revived:,} were revived, {totals.changed:,} changed "
        f"otherwise; {faulty:,} tensors differ in more than new zeros"
    )


WRITERS: Mapping[ReportFormat, Callable[[Comparison], str]] = {
    ReportFormat.TABLE: _as_table,
    ReportFormat.JSON: _as_json,
    ReportFormat.CSV: _as_csv,
    ReportFormat.MARKDOWN: _as_markdown,
}
"""The functions that render a comparison, by format."""
