"""A comparison of two checkpoints as text for files and pipes: a table, JSON, CSV or Markdown."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence

from prunecli.errors import show
from prunecli.reporting.csv import safe_cell
from prunecli.reporting.layout import Column, Row, lay_out, tabbed
from prunecli.reporting.markdown import code
from prunecli.reporting.numbers import percent, shape_of
from prunecli.reporting.options import ReportFormat
from prunecli.reporting.terminal import PAGE
from prunecli.surgery.compare.model import Change, ChangeTotals, Comparison, comparison_as_dict
from prunecli.surgery.names.select import LONGEST

__all__ = ["COMPARISON_COLUMNS", "WRITERS", "comparison_as_lines", "verdict"]

_RED = "31"
COMPARISON_COLUMNS = (
    Column("newly zero"),
    Column("revived", style=_RED),
    Column("changed", style=_RED),
    Column("elements", drop=2),
    Column("sparsity"),
    Column("before", drop=1),
    Column("what", right=False),
)
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
    """Return the verdict, then a table of the tensors that differ, as text for a file."""
    if comparison.nothing_common:
        return _text([verdict(comparison)])
    rows = [*map(_row, comparison.differing), _sums(comparison)]
    return _text([verdict(comparison), "", *lay_out("tensor", COMPARISON_COLUMNS, rows, PAGE)])


def comparison_as_lines(comparison: Comparison) -> str:
    """Return the verdict, then the tensors that differ with tabs between the cells, for a pipe."""
    if comparison.nothing_common:
        return _text([verdict(comparison)])
    return _text([verdict(comparison), *tabbed("tensor", COMPARISON_COLUMNS, map(_row, comparison.differing))])


def _as_markdown(comparison: Comparison) -> str:
    """Return the content of `_as_table` as Markdown for a pull request."""
    sums = _sums(comparison)
    rows = [[code(row.name), *_cells(row)] for row in comparison.differing]
    lines = [
        ["tensor", *(column.heading for column in COMPARISON_COLUMNS)],
        ["---", *["---:"] * 6, "---"],
        *rows,
        [sums.name, *sums.cells],
    ]
    head, colon, rest = verdict(comparison).partition(":")
    if comparison.nothing_common:
        lines = []
    return _text([f"**{head}**{colon}{rest}", *[""] * bool(lines), *(f"| {' | '.join(cells)} |" for cells in lines)])


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _row(row: Change) -> Row:
    name = show(row.name, LONGEST)
    if row.name != row.name_before:
        name += f" (was {show(row.name_before, LONGEST)})"
    return Row(name if row.shared_with is None else f"{name} = {show(row.shared_with, LONGEST)}", _cells(row))


def _cells(row: Change) -> Sequence[str]:
    if row.state != "compared":
        return ("", "", "", f"{row.elements:,}", "", "", row.state)
    if row.kind != "parameter":
        zeroed = f"{row.newly_zero:,}" if row.newly_zero else ""
        return (zeroed, "", f"{row.changed:,}", f"{row.elements:,}", "", "", row.kind)
    return (*_numbers(row), row.kind)


def _sums(comparison: Comparison) -> Row:
    totals = comparison.totals
    return Row(f"all {totals.parameters:,} parameters", (*_numbers(totals), ""))


def _numbers(counts: Change | ChangeTotals) -> Sequence[str]:
    numbers = (counts.newly_zero, counts.revived, counts.changed, counts.elements)
    shares = (percent(zeros, counts.elements) for zeros in (counts.zeros, counts.zeros_before))
    return (*(f"{each:,}" for each in numbers), *shares)


def verdict(comparison: Comparison) -> str:
    """Return one sentence on the whole comparison; what matters most stands before its colon."""
    if comparison.nothing_common:
        return f"the two checkpoints have no parameter in common: {len(comparison.differing):,} tensors differ"
    totals = comparison.totals
    parts = [f"{totals.parameters:,} parameters"]
    if totals.others:
        parts.append(f"{totals.others:,} other tensor{'s' * (totals.others != 1)}")
    what = " and ".join(parts)
    if comparison.uncompared:
        what += f" ({comparison.uncompared:,} outside the state dicts were not compared)"
    if not comparison.differing:
        return f"nothing differs: {what} are equal"
    zeroed = f"{totals.newly_zero:,} elements became zero"
    if comparison.state_zeroed:
        zeroed += f" (and {comparison.state_zeroed:,} of optimizer state)"
    if comparison.only_zeros_added:
        return f"only zeros were added: of {what}, {zeroed}, none was revived, and no other value differs"
    revived = f"{totals.revived:,} were" if totals.revived else "none was"
    faulty = sum(row.fault() is not None for row in comparison.rows)
    return (
        f"not only zeros were added: of {what}, {zeroed}, {revived} revived, {totals.changed:,} changed "
        f"otherwise; {faulty:,} tensors differ in more than new zeros"
    )


WRITERS: Mapping[ReportFormat, Callable[[Comparison], str]] = {
    ReportFormat.TABLE: _as_table,
    ReportFormat.JSON: _as_json,
    ReportFormat.CSV: _as_csv,
    ReportFormat.MARKDOWN: _as_markdown,
}
"""The functions that render a comparison, by format."""
