"""A report as Markdown, for a pull request: totals, modules, and the parameters unless there are many."""

from collections.abc import Sequence

from prunecli.reporting.folding import fold
from prunecli.reporting.numbers import bar, label_of, percent, shape_of
from prunecli.reporting.parameters import ParameterNode, grow_parameters
from prunecli.reporting.summary import facts
from prunecli.reporting.tree import heights, outline
from prunecli.surgery.report.model import ParameterReport, Report

__all__ = ["as_markdown", "code"]

_MOST_MODULES = 40
_MOST_PARAMETERS = 200
_BAR = 10
_NUMBERS = frozenset({"parameters", "elements", "zeros", "sparsity", "pruned now", "seed"})


def as_markdown(report: Report) -> str:
    """Return a report as GitHub's Markdown; modules are folded to a few dozen rows."""
    totals, source = report.totals, report.output or report.source
    lines = [f"### Sparsity of {code(source.path or 'standard input')}", ""]
    sums = {
        "parameters": f"{totals.parameters:,}",
        "elements": f"{totals.elements:,}",
        "zeros": f"{totals.zeros:,}",
        "sparsity": f"**{percent(totals.zeros, totals.elements)}**",
    }
    if report.prune is not None:
        sums |= {"pruned now": f"{totals.pruned_now:,}", "seed": str(report.seed)}
    lines += _table(list(sums), [list(sums.values())])
    lines += ["", *(f"- {fact.topic}: {fact.text}" for fact in facts(report)), ""]
    lines += _modules(report)
    if 0 < len(report.parameters) <= _MOST_PARAMETERS:
        lines += _parameters(report.parameters)
    return "\n".join(lines) + "\n"


def code(name: str) -> str:
    r"""Return a name as a code span, so that it is not markup, a link or a mention.

    Characters that would end the span or a table's cell are written as escapes.

    >>> code("encoder.weight"), code("a|b`c")
    ('`encoder.weight`', '`a\\x7cb\\x60c`')
    """
    shown = label_of(name, 1000).replace("|", "\\x7c").replace("`", "\\x60")
    return f"`{shown}`" if shown.strip() else f"`'{shown}'`"


def _modules(report: Report) -> list[str]:
    nodes = _folded(grow_parameters(report.parameters))
    if not nodes:
        return []
    lines = _table(["module", "elements", "zeros", "sparsity", ""], [_module(node) for node in nodes[:_MOST_MODULES]])
    left = len(nodes) - _MOST_MODULES
    return [*lines, *(["", f"and {left:,} more"] if left > 0 else [])]


def _folded(root: ParameterNode) -> list[ParameterNode]:
    """Return the modules without their parameters, folded if there are many."""
    found = _listed(root, None)
    if len(found) <= _MOST_MODULES:
        return found
    folded = fold(root)
    for depth in range(len(heights(folded)) - 1, 0, -1):
        found = _listed(folded, depth)
        if len(found) <= _MOST_MODULES:
            break
    return found


def _listed(root: ParameterNode, depth: int | None) -> list[ParameterNode]:
    return [node for node, lasts in outline(root, depth) if node.leaf is None or len(lasts) == 1]


def _module(node: ParameterNode) -> list[str]:
    times = f" ×{node.copies}" if node.copies > 1 and "{" in node.label else ""
    name, elements = f"{code(node.path)}{times}", f"{node.sums.elements:,}"
    if node.sparsity is None:
        return [name, f"{node.leaf.content.elements:,}" if node.leaf else elements, "", "", ""]
    drawn = bar(node.sparsity, _BAR, blocks=False).replace("#", "█").replace(".", "░")
    return [name, elements, f"{node.sums.zeros:,}", percent(node.sums.zeros, node.sums.elements), drawn]


def _parameters(parameters: Sequence[ParameterReport]) -> list[str]:
    rows = [
        [
            " = ".join(map(code, [each.name, *each.tied_to])),
            shape_of(each.shape),
            each.dtype,
            each.state_and_role,
            "" if each.zeros is None else f"{each.zeros:,}",
            "" if each.zeros is None else percent(each.zeros, each.elements),
        ]
        for each in parameters
    ]
    table = _table(["parameter", "shape", "type", "state", "zeros", "sparsity"], rows)
    summary = f"<summary>All {len(parameters):,} parameters</summary>"
    return ["", "<details>", summary, "", *table, "", "</details>"]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    sides = ["---:" if heading in _NUMBERS else "---" for heading in headings]
    return [f"| {' | '.join(cells)} |" for cells in (headings, sides, *rows)]
