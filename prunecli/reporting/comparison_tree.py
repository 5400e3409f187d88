"""A comparison of two checkpoints on a terminal: the verdict, and what differs as a tree of modules."""

from collections.abc import Sequence

from prunecli.errors import show
from prunecli.reporting.comparison import COMPARISON_COLUMNS, verdict
from prunecli.reporting.drawing import chosen, label_of_node
from prunecli.reporting.layout import BOLD, DIM, Row, lay_out
from prunecli.reporting.numbers import percent
from prunecli.reporting.options import TableOptions
from prunecli.reporting.terminal import Screen
from prunecli.reporting.tree import Leaf, Node, Sums
from prunecli.reporting.wrap import wrap
from prunecli.surgery.compare.model import Change, Comparison

__all__ = ["comparison_as_text"]

_GREEN, _RED = "1;32", "1;31"


def comparison_as_text(comparison: Comparison, screen: Screen, view: TableOptions) -> str:
    """Return the verdict, then the tensors that differ as a tree of modules that fits a terminal; names stay whole."""
    width = screen.width or 100
    head, colon, rest = verdict(comparison).partition(":")
    style = _GREEN if comparison.only_zeros_added else _RED
    first, *more = wrap(f"{head}{colon}{rest}", width, "  ")
    above = [screen.paint(head, style) + first.removeprefix(head), *more]
    if comparison.nothing_common or not comparison.differing:
        return "\n".join(above) + "\n"
    room = None if screen.height is None else screen.height - len(above) - 5
    leaves = [_leaf(each) for each in comparison.differing]
    nodes, notes = chosen("tensor", leaves, {}, screen, view, room)
    rows = [_row(node, lead, screen, whole=view.top is not None) for node, lead in nodes]
    totals = comparison.totals
    everything = Sums(
        totals.parameters,
        totals.elements,
        totals.zeros,
        zeros_before=totals.zeros_before,
        newly_zero=totals.newly_zero,
        revived=totals.revived,
        changed=totals.changed,
    )
    total = Row(f"all {totals.parameters:,} parameters", _cells(everything, totals.elements, ""), style=BOLD)
    table = lay_out("tensor", COMPARISON_COLUMNS, [*rows, total], screen, whole_names=True)
    return "\n".join([*above, "", *table, *(screen.paint(note, DIM) for note in notes)]) + "\n"


def _leaf(row: Change) -> Leaf[Change]:
    """Return a row for the tree; only those of parameters that are not counted elsewhere have elements in its sums."""
    sums = Sums()
    if row.state == "compared" and row.shared_with is None:
        sums = Sums(newly_zero=row.newly_zero, revived=row.revived, changed=row.changed)
        if row.kind == "parameter":
            sums.parameters, sums.elements, sums.zeros, sums.zeros_before = 1, row.elements, row.zeros, row.zeros_before
    kinds = (row.newly_zero > 0, row.revived > 0, row.changed > 0)  # a change is not hidden in a row for others
    return Leaf(row.name, row, sums, (row.kind, row.state, row.dtype, row.shape, row.shared_with, kinds))


def _row(node: Node[Change], lead: str, screen: Screen, *, whole: bool) -> Row:
    name, sums = label_of_node(node, screen, whole=whole), node.sums
    if node.leaf is None:
        return Row(name, _cells(sums, sums.elements, ""), lead, BOLD)
    row = node.leaf.content
    if row.shared_with is not None:
        return Row(f"{name} = {show(row.shared_with)}", [""] * 7, lead, short=f"{name} (tied)")
    what = row.state if row.state != "compared" else row.kind if row.kind != "parameter" else ""
    return Row(name, _cells(sums, row.elements * node.copies, what), lead)


def _cells(sums: Sums, elements: int, what: str) -> Sequence[str]:
    """Return the cells of a row on a terminal, where zeros stay blank, so that columns of zeros are left out."""
    counts = [f"{each:,}" if each else "" for each in (sums.newly_zero, sums.revived, sums.changed, elements)]
    shares = [percent(zeros, sums.elements) if sums.parameters else "" for zeros in (sums.zeros, sums.zeros_before)]
    return [*counts, *shares, what]
