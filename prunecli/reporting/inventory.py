"""The list of `params`: a table on a terminal, lines with tabs in a pipe."""

from collections.abc import Iterator, Sequence

from prunecli.reporting.drawing import label_of_node
from prunecli.reporting.folding import fold
from prunecli.reporting.layout import DIM, Column, Row, lay_out
from prunecli.reporting.numbers import label_of, shape_of
from prunecli.reporting.terminal import Screen
from prunecli.reporting.tree import Leaf, Sums, grow, outline
from prunecli.surgery.names.inventory import InventoryEntry
from prunecli.surgery.names.select import LONGEST

__all__ = ["inventory_as_lines", "inventory_as_table"]

_COLUMNS = (
    Column("type", right=False, drop=2),
    Column("shape", right=False, drop=1),
    Column("state", right=False, drop=3),
    Column("stored", right=False, drop=4),
)


def inventory_as_lines(entries: Sequence[InventoryEntry]) -> Iterator[str]:
    """Yield one line per entry: name, type, shape and state with tabs between them; last how it is packed."""
    for each in entries:
        cells = _cells(each)
        yield "\t".join((label_of(each.name, LONGEST), *(cells if each.stored else cells[:-1])))


def inventory_as_table(
    heading: str, entries: Sequence[InventoryEntry], screen: Screen, *, folded: bool = True
) -> list[str]:
    """Return the lines of a table; if it is longer than the screen, similar layers have one row, unless not `folded`.

    Names are never clipped.
    """
    room = None if screen.height is None else screen.height - 2  # the headings, and the prompt
    if not folded or room is None or len(entries) <= room:
        rows = [Row(label_of(each.name, LONGEST), _cells(each)) for each in entries]
        return lay_out(heading, _COLUMNS, rows, screen, whole_names=True)
    leaves = [Leaf(each.name, each, Sums(1, each.tensor.elements), _cells(each)) for each in entries]
    nodes = [(node, node.leaf.content) for node, _ in outline(fold(grow(leaves))) if node.leaf is not None]
    rows = [Row(label_of_node(node, screen, whole=True), _cells(each)) for node, each in nodes]
    lines = lay_out(heading, _COLUMNS, rows, screen, whole_names=True)
    if len(rows) < len(entries):
        text = f"folded: {len(entries):,} {heading}s in {len(rows):,} rows; --no-fold lists each"
        lines.append(screen.paint(text, DIM))
    return lines


def _cells(each: InventoryEntry) -> tuple[str, str, str, str]:
    return each.tensor.dtype.name, shape_of(each.tensor.shape), each.state, each.stored
