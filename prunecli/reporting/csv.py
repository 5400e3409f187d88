"""A report as CSV: one line per parameter, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Sequence

from prunecli.errors import show
from prunecli.reporting.numbers import shape_of
from prunecli.surgery.report.model import ParameterReport, Report

__all__ = ["COLUMNS", "as_csv", "safe_cell"]

_STRUCTURE = {
    "rows": "rows",
    "columns": "columns",
    "empty_rows": "empty_rows",
    "empty_columns": "empty_columns",
    "blocks": "blocks_16x16",
    "empty_blocks": "empty_blocks_16x16",
    "fours": "groups_of_4",
    "halved_fours": "groups_of_4_with_2_zeros",
    "eights": "groups_of_8",
    "halved_eights": "groups_of_8_with_4_zeros",
    "grouped_by": "group_dimension",
}
"""The headings, which are older than the JSON report's names, and the corresponding names."""
_FORMULA = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""Characters that start a formula in a spreadsheet, and their full-width forms."""
_LONGEST = 100_000
COLUMNS = (
    "name",
    "module",
    "shape",
    "dtype",
    "state",
    "elements",
    "bytes",
    "zeros",
    "sparsity",
    "zeros_before",
    "pruned_now",
    "tied_to",
    *_STRUCTURE,
    "mask_sha256",
    "crc32",
    "role",
    "smallest_pruned",
    "smallest_left",
    "patterns",
)


def as_csv(report: Report) -> str:
    """Return a report as CSV with a line of headings. All text is quoted, and lines end in a newline.

    Names are unchanged with two exceptions: characters that cannot be shown (controls, bidirectional marks) become
    escapes, and a name that a spreadsheet would take for a formula starts with a quote. The JSON has the exact names.
    """
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(map(_line, report.parameters))
    return text.getvalue()


def _line(each: ParameterReport) -> Sequence[object]:
    found = each.structure
    structure = [None if found is None else getattr(found, name) for name in _STRUCTURE.values()]
    cells = [
        each.name,
        each.module,
        shape_of(each.shape),
        each.dtype,
        each.state,
        each.elements,
        each.bytes,
        each.zeros,
        each.sparsity,
        each.zeros_before,
        each.pruned_now,
        "|".join(each.tied_to),
        *structure,
        each.mask_sha256,
        each.crc32,
        each.role.value,
        each.smallest_pruned,
        each.smallest_left,
        "|".join(map(str, each.patterns)),
    ]
    return [safe_cell(cell) if isinstance(cell, str) else cell for cell in cells]


def safe_cell(text: str) -> str:
    """Return a text in a form that is safe in a cell: all of it is printable, and it is not a formula.

    >>> safe_cell("encoder.weight"), safe_cell("=1+1"), safe_cell(" @x")
    ('encoder.weight', "'=1+1", "' @x")
    """
    return ("'" if text.lstrip()[:1] in _FORMULA and text.strip() else "") + show(text, _LONGEST)
