"""Tables of text. Not with rich, which takes 0.25 ms per row: a model may have 90,000 rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from prunecli.lean import dataclass
from prunecli.reporting.numbers import cells, clip_middle
from prunecli.reporting.terminal import Screen

__all__ = ["BOLD", "CYAN", "DIM", "Column", "Row", "lay_out", "tabbed"]

_GAP = "  "
_LEAST = 12
"""The minimum width of a name."""
_NAME_SHARE = 0.4
"""The share of the screen's width that a name may take before less important columns are dropped."""
BOLD, DIM, CYAN = "1", "2", "36"


@dataclass(frozen=True, slots=True)
class Column:
    """A column after the first. On a narrow screen, the one with the highest `drop` is dropped first; 0 is kept."""

    heading: str
    right: bool = True
    drop: int = 0
    style: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: a `lead` (the lines of a tree) and a name, then the cells.

    If the name is too long, `short` replaces it, if given, clipped if necessary.
    """

    name: str
    cells: Sequence[str]
    lead: str = ""
    style: str = ""
    short: str = ""


def lay_out(
    heading: str, columns: Sequence[Column], rows: Sequence[Row], screen: Screen, *, whole_names: bool = False
) -> list[str]:
    """Return the lines of a table, headings first, which fit the screen's width.

    With `whole_names`, columns are dropped before a name is clipped; a name that is still too long has its own line.
    """
    widths = [max(map(cells, [column.heading, *(row.cells[at] for row in rows)])) for at, column in enumerate(columns)]
    natural = max([cells(heading), *(cells(row.lead) + cells(row.name) for row in rows)])
    kept = [at for at, width in enumerate(widths) if width and any(row.cells[at].strip() for row in rows)]
    if screen.width is not None:
        whole = max(cells(row.lead) + cells(row.short or row.name) for row in rows) if rows and whole_names else 0
        name = whole or min(natural, int(screen.width * _NAME_SHARE))
        kept = _fitting(_order(columns, rows, kept), widths, kept, screen.width - name)
        room = screen.width - sum(len(_GAP) + widths[at] for at in kept)
        natural = min(natural, max(room, _LEAST))
    lines = [
        _line(
            Row(heading, [column.heading for column in columns], style=BOLD),
            columns,
            kept,
            widths,
            natural,
            screen,
            head=True,
        )
    ]
    for row in rows:
        if whole_names and cells(row.lead) + cells(row.short or row.name) > natural:
            lines.append(screen.paint(row.lead, DIM) + screen.paint(row.name, row.style))
            rest = _line(replace(row, lead="", name="", short=""), columns, kept, widths, natural, screen)
            lines += [rest] if rest else []
        else:
            lines.append(_line(row, columns, kept, widths, natural, screen))
    return lines


def tabbed(heading: str, columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yield the lines of a table with tabs between the cells, headings first: for a pipe, numbers without commas."""
    yield "\t".join([heading, *(column.heading for column in columns)])
    for row in rows:
        pairs = zip(columns, row.cells, strict=True)
        yield "\t".join([row.name, *(cell.replace(",", "") if column.right else cell for column, cell in pairs)])


def _order(columns: Sequence[Column], rows: Sequence[Row], kept: Sequence[int]) -> list[int]:
    """Return the columns that may be dropped, in that order: those with one value in all rows, then by `drop`."""
    same = {at for at in kept if len({row.cells[at] for row in rows if row.cells[at]}) == 1}
    return sorted((at for at in kept if columns[at].drop), key=lambda at: (at not in same, -columns[at].drop))


def _fitting(order: Sequence[int], widths: Sequence[int], kept: Sequence[int], room: int) -> list[int]:
    left = list(kept)
    for at in order:
        if sum(len(_GAP) + widths[each] for each in left) <= room:
            break
        left.remove(at)
    return left


def _line(
    row: Row,
    columns: Sequence[Column],
    kept: Sequence[int],
    widths: Sequence[int],
    width: int,
    screen: Screen,
    *,
    head: bool = False,
) -> str:
    lead = row.lead
    if cells(lead) + min(cells(row.name), _LEAST) > width:  # deep in a narrow tree, the name matters more
        lead = lead[: max(0, width - _LEAST)]
    room = width - cells(lead)
    name = clip_middle(row.short if row.short and cells(row.name) > room else row.name, room, screen.mark)
    blank = " " * (width - cells(lead) - cells(name)) if kept else ""
    parts = [screen.paint(lead, DIM) + screen.paint(name, row.style) + blank]
    for at in kept:
        text = row.cells[at].rstrip()
        blank = " " * (widths[at] - cells(text))
        painted = screen.paint(text, BOLD if head else columns[at].style)
        last = at == kept[-1] and not columns[at].right
        parts.append(blank + painted if columns[at].right else painted if last else painted + blank)
    return _GAP.join(parts).rstrip()
