"""`report --baseline`: a checkpoint beside what it was before, as a table, JSON or CSV."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prunecli.cli.options import checkpoint_path
from prunecli.cli.showing import Wanted
from prunecli.errors import UsageError, show
from prunecli.formats.base import Reading
from prunecli.formats.locations import Location
from prunecli.formats.opening import Opened, confirm, open_any
from prunecli.formats.outputs.anywhere import Output, write_output
from prunecli.reporting.forms import Form
from prunecli.reporting.terminal import View
from prunecli.surgery.compare import compare
from prunecli.surgery.comparison import Change, Comparison, check_comparison, comparison_as_dict
from prunecli.surgery.gates import Gate
from prunecli.surgery.rewrite_units import Run
from prunecli.surgery.select import Selection

__all__ = ["Baseline", "baseline_of", "comparison_csv", "comparison_json", "comparison_table"]

_HEADINGS = ("newly zero", "revived", "changed", "elements", "sparsity", "before", "what", "tensor")
_COLUMNS = (
    "name", "name_before", "kind", "state", "dtype", "shape", "elements", "zeros_before", "zeros", "newly_zero",
    "revived", "changed", "shared_with",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a checkpoint is compared with (None: standard input), and how that is told and judged."""

    place: Location | None
    write: Callable[[Comparison], str]
    allow_changes: bool

    def set_beside(self, opened: Opened, reading: Reading, selection: Selection | None, run: Run) -> Comparison:
        """Compare an open checkpoint with this.

        Raises:
            UsageError: both are standard input.
            PrunecliError: as `open_any` and `compare`.
        """
        if self.place is None and opened.source.name is None:
            raise UsageError("both checkpoints cannot come from one standard input; give one of them a path")
        with open_any(self.place, reading) as before:
            comparison = compare(before, opened, selection, run)
            confirm(before)
        return comparison

    def deliver(self, comparison: Comparison, target: Output | None) -> None:
        """Write a comparison to a file, or to standard output, then hold it to its promise.

        Raises:
            OutputError: it cannot be written.
            ThresholdError: as `check_comparison`.
        """
        text = self.write(comparison)
        if target is None:
            sys.stdout.write(text)
        else:
            write_output(target, text.encode("utf-8"))
        check_comparison(comparison, allow_changes=self.allow_changes)


def baseline_of(text: str | None, wanted: Wanted, gates: Sequence[Gate], *, allow_changes: bool) -> Baseline | None:
    """Return what `--baseline` asks for, None if it is not given.

    Raises:
        UsageError: it has no name, or options contradict it, or comparisons are not written in this style.
    """
    if text is None:
        if allow_changes:
            raise UsageError("--allow-changes is about what differs from --baseline; add that, or leave it out")
        return None
    if not text:
        raise UsageError("--baseline is empty; give the path of the checkpoint as it was before")
    if gates:
        raise UsageError("--baseline compares, and counts no sparsity to hold to a gate; run report once more for that")
    if wanted.figure is not None or wanted.view != View():
        raise UsageError(
            "a comparison has no figure, and lists what differs; leave --plot, --depth, --sort and --top out"
        )
    writers = {Form.TABLE: comparison_table, Form.JSON: comparison_json, Form.CSV: comparison_csv}
    if wanted.form not in writers:
        raise UsageError(f"a comparison is written as {', '.join(writers)}, not as {wanted.form}; choose with --format")
    return Baseline(checkpoint_path(text), writers[wanted.form], allow_changes)


def comparison_json(comparison: Comparison) -> str:
    """Render as `prunecli.comparison/1`: ASCII only, so that no name in it can do anything to a terminal."""
    return json.dumps(comparison_as_dict(comparison), indent=2, ensure_ascii=True) + "\n"


def comparison_csv(comparison: Comparison) -> str:
    """Render all tensors as CSV, a line each, with the names of the JSON as headings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in comparison_as_dict(comparison)["tensors"]:
        plain = {**row, "shape": "x".join(map(str, row["shape"]))}
        writer.writerow([_cell(plain[column]) for column in _COLUMNS])
    return text.getvalue()


def _cell(value: object) -> str:
    """Make a value fit for a spreadsheet, which takes a cell that begins like a formula for one."""
    text = "" if value is None else show(value, 10_000)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def comparison_table(comparison: Comparison) -> str:
    """Render the tensors that differ, the totals, and a sentence on what that proves."""
    rows = [_line(row) for row in comparison.differing]
    totals = comparison.totals
    figures = (totals.newly_zero, totals.revived, totals.changed, totals.elements)
    shares = (_share(zeros, totals.elements) for zeros in (totals.zeros, totals.zeros_before))
    rows.append((*(f"{each:,}" for each in figures), *shares, "all", f"{totals.parameters:,} parameters"))
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [_laid_out(row, widths) for row in (_HEADINGS, *rows)]
    return "".join(f"{line}\n" for line in (*lines, _sentence(comparison)))


def _line(row: Change) -> Sequence[str]:
    name = show(row.name) if row.name == row.name_before else f"{show(row.name)} (was {show(row.name_before)})"
    if row.shared_with is not None:
        name += f" = {show(row.shared_with)}"
    if row.state != "compared":
        return ("", "", "", f"{row.elements:,}", "", "", row.state, name)
    if row.kind != "parameter":
        return ("", "", f"{row.changed:,}", f"{row.elements:,}", "", "", row.kind, name)
    figures = (row.newly_zero, row.revived, row.changed, row.elements)
    shares = (_share(zeros, row.elements) for zeros in (row.zeros, row.zeros_before))
    return (*(f"{each:,}" for each in figures), *shares, row.kind, name)


def _share(zeros: int, elements: int) -> str:
    return f"{zeros / elements if elements else 0.0:.2%}"


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
    if comparison.only_zeros_added:
        return (
            f"only zeros were added: of {what}, {totals.newly_zero:,} elements became zero, none was revived, and no "
            "other value differs"
        )
    faulty = sum(row.fault() is not None for row in comparison.rows)
    return (
        f"not only zeros were added: of {what}, {totals.newly_zero:,} elements became zero, {totals.revived:,} were "
        f"revived, {totals.changed:,} changed otherwise; {faulty:,} tensors differ in more than zeros"
    )
