"""A comparison of two checkpoints as text: a table, JSON, CSV or Markdown."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence

from prunecli.errors import show
from prunecli.reporting.csv import safe_cell
from prunecli.reporting.markdown import code
from prunecli.reporting.numbers import percent, shape_of
from prunecli.reporting.options import ReportFormat
from prunecli.surgery.compare.model import Change, Comparison, comparison_as_dict

__all__ = ["WRITERS"]

_HEADINGS = ("newly zero", "revived", "changed", "elements", "sparsity", "before", "what", "tensor")
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
    """Render as `prunecli.comparison/1`: ASCII only, so that no name in it can do anything to a terminal."""
    return json.dumps(comparison_as_dict(comparison), indent=2, ensure_ascii=True) + "\n"


def _as_csv(comparison: Comparison) -> str:
    """Render all tensors as CSV, a line each, with the names of the JSON as headings."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison_as_dict(comparison)["tensors"]:
        plain = {**row, "shape": shape_of(row["shape"])}
        cells = (plain[column] for column in _COLUMNS)
        writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return text.getvalue()


def _as_table(comparison: Comparison) -> str:
    """Render the tensors that differ, the totals, and a sentence on what that proves."""
    rows = [_line(row) for row in comparison.differing]
    rows.append(_sums(comparison))
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [_laid_out(row, widths) for row in (_HEADINGS, *rows)]
    return "".join(f"{line}\n" for line in (*lines, _sentence(comparison)))


def _as_markdown(comparison: Comparison) -> str:
    """Render what `_as_table` does for a pull request."""
    rows = [[*figures, code(row.name)] for row in comparison.differing for *figures, _ in [_line(row)]]
    lines = [_HEADINGS, ["---:"] * 6 + ["---"] * 2, *rows, _sums(comparison)]
    return "\n".join([*(f"| {' | '.join(cells)} |" for cells in lines), "", f"{_sentence(comparison)}", ""])


def _line(row: Change) -> Sequence[str]:
    name = show(row.name) if row.name == row.name_before else f"{show(row.name)} (was {show(row.name_before)})"
    if row.shared_with is not None:
        name += f" = {show(row.shared_with)}"
    if row.state != "compared":
        return ("", "", "", f"{row.elements:,}", "", "", row.state, name)
    if row.kind != "parameter":
        zeroed = f"{row.newly_zero:,}" if row.newly_zero else ""
        return (zeroed, "", f"{row.changed:,}", f"{row.elements:,}", "", "", row.kind, name)
    figures = (row.newly_zero, row.revived, row.changed, row.elements)
    shares = (percent(zeros, row.elements) for zeros in (row.zeros, row.zeros_before))
    return (*(f"{each:,}" for each in figures), *shares, row.kind, name)


def _sums(comparison: Comparison) -> Sequence[str]:
    totals = comparison.totals
    figures = (totals.newly_zero, totals.revived, totals.changed, totals.elements)
    shares = (percent(zeros, totals.elements) for zeros in (totals.zeros, totals.zeros_before))
    return (*(f"{each:,}" for each in figures), *shares, "all", f"{totals.parameters:,} parameters")


def _laid_out(row: Sequence[str], widths: Sequence[int]) -> str:
    """Figures to the right; the last two columns to the left, the name last, as it may be long."""
    *figures, what, name = (f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))
    return "  ".join((*figures, what.strip().ljust(widths[-2]), name.strip())).rstrip()


def _sentence(comparison: Comparison) -> str:
    totals = comparison.totals
    parts = [f"{totals.parameters:,} parameters"]
    if totals.others:
        parts.append(f"{totals.others:,} other tensors")
    what = " and ".join(parts)
    if comparison.uncompared:
        what += f" (but not {comparison.uncompared:,} outside of the state dicts)"
    zeroed = f"{totals.newly_zero:,} elements became zero"
    if comparison.state_zeroed:
        zeroed += f" (and {comparison.state_zeroed:,} of optimizer state)"
    if comparison.only_zeros_added:
        return f"only zeros were added: of {what}, {zeroed}, none was revived, and no other value differs"
    faulty = sum(row.fault() is not None for row in comparison.rows)
    return (
        f"not only zeros were added: of {what}, {zeroed}, {totals.revived:,} were revived, {totals.changed:,} changed "
        f"otherwise; {faulty:,} tensors differ in more than zeros"
    )


WRITERS: Mapping[ReportFormat, Callable[[Comparison], str]] = {
    ReportFormat.TABLE: _as_table,
    ReportFormat.JSON: _as_json,
    ReportFormat.CSV: _as_csv,
    ReportFormat.MARKDOWN: _as_markdown,
}
"""By the form that is asked for."""
