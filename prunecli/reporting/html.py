"""A report as one self-contained HTML page: totals, histogram, modules, a table, and maps of the zeros.

Data from a checkpoint are JSON in the page, and the page's script displays them only as text. The page's policy blocks
all network access, and all scripts except its own, which it identifies by digest.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from prunecli import __version__
from prunecli.core.structure.model import Density, Structure
from prunecli.reporting.numbers import label_of, percent, shape_of, size_of
from prunecli.reporting.page_parts import page_file, script_digest
from prunecli.reporting.parameters import ParameterNode, grow_parameters
from prunecli.reporting.summary import facts
from prunecli.surgery.report.model import ParameterReport, Report

__all__ = ["as_html", "page_data", "smaller"]

_SCRIPTS = ("data.js", "tree.js", "table.js", "detail.js")
_NAME = 1000
"""The most characters of a name; longer ones are clipped."""
_PAGE, _EACH = 18_000_000, 170
"""Characters of a page, and characters per parameter; the rest of the page is for pictures."""
_PICTURES = (2_000_000, 8_000_000)
"""The least and the most characters for all pictures together."""
_SIDES = (128, 64, 32)
"""Cells per side of a picture: the largest number with which all pictures fit."""


def as_html(report: Report) -> str:
    """Return a report as a page."""
    script = "\n".join(page_file(name) for name in _SCRIPTS)
    style, totals = page_file("page.css"), report.totals
    remarks = [f"<dt>{html.escape(each.topic)}</dt><dd>{html.escape(each.text)}</dd>" for each in facts(report)]
    parts = {
        "SCRIPT": script,
        "SCRIPT_HASH": script_digest(script),
        "STYLE": style,
        "STYLE_HASH": script_digest(style),
        "SPARSITY": html.escape(percent(totals.zeros, totals.elements)),
        "ZEROS": _breakable(totals.zeros),
        "ELEMENTS": _breakable(totals.elements),
        "PARAMETERS": f"{totals.parameters:,}",
        "TOOL": f"prunecli {__version__}",
        "FACTS": "".join(remarks),
        "DATA": _in_script(page_data(report)),
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: parts[found[1]], page_file("page.html"))


def _breakable(number: int) -> str:
    """Return a number that can be broken after its commas: on a phone, trillions need two lines."""
    return f"{number:,}".replace(",", ",<wbr>")


def _in_script(content: object) -> str:
    """Return content as ASCII JSON that cannot end a script element or start a comment: `<`, `>`, `&` are escaped."""
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(report: Report) -> dict[str, Any]:
    """Return the data of the page's script, by position of the parameter; `show` has made all its text safe."""
    parameters, source = report.parameters, report.output or report.source
    shapes, shape = _coded(shape_of(each.shape) for each in parameters)
    dtypes, dtype = _coded(each.dtype for each in parameters)
    states, state = _coded(each.state_and_role for each in parameters)
    pictures, unpictured = _pictures(parameters)
    return {
        "path": label_of(source.path or "standard input", _NAME),
        "kind": f"{source.format}, {size_of(source.bytes)}",
        "names": _front_coded([label_of(each.name, _NAME) for each in parameters]),
        "shapes": shapes,
        "shape": shape,
        "dtypes": dtypes,
        "dtype": dtype,
        "states": states,
        "state": state,
        "elements": [each.elements for each in parameters],
        "zeros": [each.zeros for each in parameters],
        "pruned": {at: each.pruned_now for at, each in enumerate(parameters) if each.pruned_now},
        "tied": {
            at: [label_of(name, _NAME) for name in each.tied_to] for at, each in enumerate(parameters) if each.tied_to
        },
        "structure": {at: _structure(each.structure) for at, each in enumerate(parameters) if each.structure},
        "patterns": {at: ", ".join(map(str, each.patterns)) for at, each in enumerate(parameters) if each.patterns},
        "tree": _tree(report),
        "pictures": pictures,
        "unpictured": unpictured,
    }


def _coded(texts: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the distinct texts, and the index of each text among them."""
    places: dict[str, int] = {}
    coded = [places.setdefault(text, len(places)) for text in texts]
    return list(places), coded


def _front_coded(names: Sequence[str]) -> list[int | str]:
    """Return each name as the length of the prefix shared with the previous name, and the rest, to save space."""
    coded: list[int | str] = []
    before = ""
    for name in names:
        length = next((at for at, pair in enumerate(zip(before, name, strict=False)) if pair[0] != pair[1]), None)
        length = min(len(before), len(name)) if length is None else length
        if not name[:length].isascii():  # the script counts UTF-16 units
            length = 0
        coded += [length, name[length:]]
        before = name
    return coded


def _tree(report: Report) -> list[Any]:
    places = {each.name: at for at, each in enumerate(report.parameters)}

    def branch(node: ParameterNode) -> list[Any]:
        label = label_of(node.label, _NAME)
        if node.leaf is not None:
            return [label, places[node.leaf.name]]
        return [label, node.sums.elements, node.sums.zeros, [branch(child) for child in node.children]]

    return [branch(child) for child in grow_parameters(report.parameters).children]


def _structure(found: Structure) -> list[int | None]:
    return [
        found.rows,
        found.empty_rows,
        found.columns,
        found.empty_columns,
        found.blocks_16x16,
        found.empty_blocks_16x16,
        found.groups_of_4,
        found.groups_of_4_with_2_zeros,
        found.groups_of_8,
        found.groups_of_8_with_4_zeros,
        found.group_dimension,
    ]


def _pictures(parameters: Sequence[ParameterReport]) -> tuple[dict[int, list[Any]], str]:
    """Return the pictures that fit, by position, and a sentence for parameters without one."""
    found = [
        (at, each.structure.density)
        for at, each in sorted(enumerate(parameters), key=lambda pair: -pair[1].elements)
        if each.structure is not None and each.structure.density is not None
    ]
    left = min(max(_PAGE - _EACH * len(parameters), _PICTURES[0]), _PICTURES[1])
    side = next((side for side in _SIDES if sum(_cost(each, side) for _, each in found) <= left), _SIDES[-1])
    pictures: dict[int, list[Any]] = {}
    for at, density in found:
        left -= _cost(density, side)
        if left < 0:
            return pictures, "The pictures of the largest parameters fill this page; report -p NAME draws this one."
        small = smaller(density, side)
        pictures[at] = [small.rows, small.columns, base64.b64encode(small.shares).decode("ascii")]
    return pictures, "Where its zeros lie was not looked at."


def _cost(density: Density, side: int) -> int:
    return min(density.rows, side) * min(density.columns, side) * 4 // 3 + 24


def smaller(density: Density, side: int) -> Density:
    """Return a picture of at most `side` cells in a row or column; 0 and 255 remain exact: no zeros, and only zeros."""
    if density.rows <= side and density.columns <= side:
        return density
    cells = np.frombuffer(density.shares, np.uint8).reshape(density.rows, density.columns).astype(np.float64)
    rows, columns = min(density.rows, side), min(density.columns, side)
    row_ends = np.arange(rows) * density.rows // rows
    column_ends = np.arange(columns) * density.columns // columns
    sums = np.add.reduceat(np.add.reduceat(cells, row_ends, axis=0), column_ends, axis=1)
    sizes = np.outer(np.diff(row_ends, append=density.rows), np.diff(column_ends, append=density.columns))
    means = np.where(sums == 0, 0, np.where(sums == 255 * sizes, 255, np.clip(np.round(sums / sizes), 1, 254)))
    return Density(rows, columns, means.astype(np.uint8).tobytes())
