"""A report as text: totals, remarks, then the modules: a tree on a terminal, one line each in a pipe."""

from collections.abc import Sequence

from prunecli.reporting.drawing import chosen, fitted, label_of_node
from prunecli.reporting.layout import Column, Row, lay_out
from prunecli.reporting.numbers import bar, cells, label_of, percent, shape_of, size_of
from prunecli.reporting.options import TableOptions
from prunecli.reporting.parameters import ParameterNode, grow_parameters, parameter_leaf
from prunecli.reporting.summary import facts
from prunecli.reporting.terminal import Screen
from prunecli.reporting.wrap import wrap
from prunecli.surgery.names.select import LONGEST
from prunecli.surgery.report.model import Report, earlier_equals

__all__ = ["as_text", "done_as_text"]

_TOPICS = 14
"""Width of the column of topics above the tree."""
_MOST_DONE = 200
"""The most rows of a run's summary in a log; the JSON report contains all of them."""
_PIPE_WIDTH = 100
"""The width of sentences on a screen of unlimited width."""
BOLD, DIM, CYAN = "1", "2", "36"


def as_text(report: Report, screen: Screen, view: TableOptions | None = None) -> str:
    """Return a whole report as text; without a depth, as many levels as fit the height of the terminal."""
    view = view or TableOptions()
    above = [*_heading(report, screen), ""]
    room = (
        None if screen.height is None else screen.height - len(above) - 3
    )  # headings, the prompt, and a line before it
    leaves = [parameter_leaf(each) for each in report.parameters]
    nodes, note = chosen("parameter", leaves, earlier_equals(report.parameters), screen, view, room)
    table = _table("module" if view.top is None else "parameter", nodes, screen, flat=view.top is not None)
    return "\n".join([*above, *table, *_notes(note, screen)]) + "\n"


def done_as_text(report: Report, screen: Screen, recorded: str | None) -> str:
    """Return a run's summary: the parameters that it pruned or baked, folded if there are many, and the totals.

    `recorded` is the name of the file with the whole report, if there is one.
    """
    touched = [each for each in report.parameters if each.state != "dense"]
    room = _MOST_DONE if screen.height is None else screen.height - 4
    nodes, left = fitted(grow_parameters(touched), screen, "name", room)
    table = _table("parameter", nodes, screen, pruned=True) if touched else []
    totals = report.totals
    now = "" if report.command == "restore" else f", {totals.pruned_now:,} pruned now"
    sums = (
        f"all {totals.parameters:,} parameters: {totals.zeros:,} of {totals.elements:,} elements zero "
        f"({percent(totals.zeros, totals.elements)}){now}"
    )
    shown = f"folded: {recorded} has" if recorded else "folded; --report FILE records"
    note = [f"{shown} all {len(touched):,} parameters"] if left else []
    return "\n".join([*table, *_notes(note, screen), *wrap(sums, screen.width or _PIPE_WIDTH, "  ")]) + "\n"


def _table(
    heading: str,
    nodes: Sequence[tuple[ParameterNode, str]],
    screen: Screen,
    *,
    flat: bool = False,
    pruned: bool = False,
) -> list[str]:
    rows = [_row(node, lead, screen, flat=flat, pruned=pruned) for node, lead in nodes]
    return lay_out(heading, _columns(pruned=pruned), rows, screen)


def _notes(notes: Sequence[str], screen: Screen) -> list[str]:
    lines = [line for note in notes for line in wrap(note, screen.width or _PIPE_WIDTH)]
    return [screen.paint(line, DIM) for line in lines]


def _heading(report: Report, screen: Screen) -> list[str]:
    totals = report.totals
    source = report.output or report.source
    kind = f"{source.format}, {size_of(source.bytes)}"
    width = screen.width or _PIPE_WIDTH
    name = label_of(source.path or "standard input", LONGEST)
    parted = screen.width is not None and cells(name) + 2 + len(kind) > width  # a path that is cut opens nothing
    name, kind = screen.paint(name, BOLD), screen.paint(kind, DIM)
    lines = [name, kind, ""] if parted else [f"{name}  {kind}", ""]
    share = screen.paint(percent(totals.zeros, totals.elements), BOLD)
    lines += [_topic("parameters", screen) + f"{totals.parameters:,}"]
    lines += [_topic("elements", screen) + f"{totals.elements:,}"]
    lines += [_topic("zeros", screen) + f"{totals.zeros:,}  {share}"]
    for fact in facts(report):
        first, *rest = wrap(fact.text, max(width - _TOPICS - 2, 20))
        lines += [_topic(fact.topic, screen) + first, *(" " * (_TOPICS + 2) + each for each in rest)]
    return lines


def _topic(text: str, screen: Screen) -> str:
    return screen.paint(text, DIM) + " " * (_TOPICS + 2 - len(text))


def _columns(*, pruned: bool) -> list[Column]:
    return [
        Column("shape", right=False, drop=9, style=DIM),
        Column("type", right=False, drop=8, style=DIM),
        Column("state", right=False, drop=7),
        Column("elements", drop=2),
        Column("zeros", drop=5),
        Column("sparsity"),
        *([Column("pruned now", drop=3)] if pruned else []),
        Column("", right=False, drop=4, style=CYAN),
    ]


def _row(node: ParameterNode, lead: str, screen: Screen, *, flat: bool, pruned: bool) -> Row:
    each = None if node.leaf is None else node.leaf.content
    name = label_of_node(node, screen, whole=flat)
    sums = node.sums
    elements = sums.elements if each is None or each.zeros is not None else each.elements
    zeros, sparsity = (f"{sums.zeros:,}", percent(sums.zeros, sums.elements)) if node.sparsity is not None else ("", "")
    shape, dtype, state, short = "", "", "", ""
    if each is not None:
        if each.tied_to:
            short, name = f"{name} (tied)", f"{name} = {', '.join(map(label_of, each.tied_to))}"
        shape, dtype, state = shape_of(each.shape), each.dtype, each.state_and_role
    drawn = bar(node.sparsity, _bar_width(screen), blocks=screen.blocks) if screen.live else ""
    style = BOLD if each is None and screen.live else ""
    figures = [f"{elements:,}", zeros, sparsity, *([f"{sums.pruned_now:,}"] if pruned else [])]
    return Row(name, [shape, dtype, state, *figures, drawn], lead, style, short)


def _bar_width(screen: Screen) -> int:
    width = screen.width or _PIPE_WIDTH
    return 10 if width < 110 else 16 if width < 150 else 24
