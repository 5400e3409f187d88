"""A report as a figure for a paper, drawn with matplotlib, the extra `prunecli[plot]`."""

import io
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecli.errors import UsageError, show
from prunecli.reporting.folding import fold
from prunecli.reporting.numbers import clip_middle, label_of, percent, shape_of
from prunecli.reporting.parameters import ParameterNode, grow_parameters
from prunecli.reporting.tree import heights, outline
from prunecli.surgery.report.model import ParameterReport, Report, counted_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot", "draw"]

_KINDS = ("png", "svg", "pdf")
_LAYER = re.compile(r"(?:[^.]*\.){0,4}?[0-9]+(?=\.|$)")
_MAPS = 4
_MOST_TICKS = 24
_MOST_BARS = 400
_BLUE, _GREY = "#3b6ea5", "#666666"
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.edgecolor": _GREY,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "prunecli",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "text.usetex": False,
    "text.parse_math": False,
    "savefig.dpi": 200,
}


def check_plot(name: str) -> str:
    """Return the kind of figure for a file's suffix.

    Raises:
        UsageError: there is no such kind, or matplotlib is not installed.
    """
    kind = PurePosixPath(name).suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise UsageError(f"--plot draws .png, .svg and .pdf, not {show(name, 80)}")
    if find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib; install it with: pip install 'prunecli[plot]'")
    return kind


def draw(report: Report, kind: str) -> bytes:
    """Return a figure of the parameters' sparsity: a histogram, the modules in file order, the largest maps.

    The same report gives the same bytes with the same matplotlib. No name in it is mathematics or markup.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pictured = [
        each
        for each in counted_of(report.parameters)
        if each.structure is not None and each.structure.density is not None
    ]
    pictured = sorted(pictured, key=lambda each: -each.elements)[:_MAPS]
    style: Any = {**dict(mpl.rcParamsDefault), **_STYLE}  # independent of the user's matplotlibrc
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.0, 5.2 if pictured else 3.4))
        FigureCanvasAgg(figure)
        parts: list[Any] = list(figure.subfigures(2, 1, height_ratios=(3, 2))) if pictured else [figure]  # type: ignore[arg-type]
        left, right = parts[0].subplots(1, 2, width_ratios=(1, 2))
        _histogram(left, counted_of(report.parameters))
        _by_module(right, report)
        if pictured:
            _maps(parts[1], pictured)
        data = io.BytesIO()
        figure.savefig(data, format=kind, metadata=_metadata(kind))
    return data.getvalue()


def _metadata(kind: str) -> dict[str, str | None]:
    """Return metadata without dates, and for a PNG without the version of matplotlib."""
    kinds: dict[str, dict[str, str | None]] = {
        "png": {"Software": "prunecli"},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    return kinds[kind]


def _histogram(axes: "Axes", counted: Sequence[ParameterReport]) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    shares = [100 * (each.sparsity or 0.0) for each in counted]
    axes.hist(shares, bins=np.linspace(-2.5, 102.5, 22).tolist(), color=_BLUE, edgecolor="white", linewidth=0.5)
    axes.set(xlabel="zeros in a parameter, %", ylabel="parameters", title="Sparsity of the parameters", xlim=(-3, 103))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _by_module(axes: "Axes", report: Report) -> None:
    nodes = [node for node in _modules(report) if node.sparsity is not None]
    shares = [100 * (node.sparsity or 0.0) for node in nodes]
    axes.bar(range(len(nodes)), shares, width=0.8, color=_BLUE)
    totals = report.totals
    axes.axhline(100 * totals.sparsity, color=_GREY, linewidth=0.8, linestyle="--")
    whole = percent(totals.zeros, totals.elements, 1)
    groups = [_group(node.path) for node in nodes]
    firsts = [at for at, group in enumerate(groups) if not at or group != groups[at - 1]]
    firsts = firsts[:: -(-len(firsts) // _MOST_TICKS) or 1]
    axes.set_xticks(firsts, [_label(groups[at], 24) for at in firsts], rotation=90, fontsize=6)
    axes.set(
        ylabel="zeros, %", title=f"Sparsity of the modules in the file's order; dashed: all, {whole}", ylim=(0, 103)
    )
    axes.margins(x=0.01)


def _group(path: str) -> str:
    """Return the layer that contains a module: its path up to the first number, or its first part."""
    found = _LAYER.match(path)
    return found[0] if found else path.partition(".")[0]


def _modules(report: Report) -> list[ParameterNode]:
    """Return the modules that contain parameters, or their parents if there are too many for bars."""
    root = grow_parameters(report.parameters)
    depths = len(heights(root)) - 1
    for depth in range(depths, 0, -1):
        nodes = [node for node, lasts in outline(root, depth) if _is_bar(node, len(lasts), depth)]
        if len(nodes) <= _MOST_BARS:
            return nodes
    return [node for node, lasts in outline(fold(root), 1)][:_MOST_BARS]


def _is_bar(node: ParameterNode, level: int, depth: int) -> bool:
    if node.leaf is not None:
        return level == 1
    return level == depth or any(child.leaf is not None for child in node.children)


def _maps(figure: Any, pictured: Sequence[ParameterReport]) -> None:
    figure.suptitle(
        "Where the zeros of the largest parameters lie: white none, black all", x=0.01, ha="left", fontsize=9
    )
    row = figure.subplots(1, _MAPS)
    for axes in row:
        axes.set_axis_off()
    for axes, each in zip(row, pictured, strict=False):
        density = each.structure.density if each.structure else None
        if density is None:
            continue
        image = np.frombuffer(density.shares, np.uint8).reshape(density.rows, density.columns)
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, aspect="auto", interpolation="nearest")
        axes.set_axis_on()
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{_label(each.name, 30)}\n{shape_of(each.shape)}", fontsize=6)


def _label(name: str, width: int) -> str:
    """Return a name in letters of the figure's font: all except Latin, Greek and Cyrillic become escapes."""
    plain = "".join(char if char < "\u0530" else f"\\u{ord(char):04x}" for char in label_of(name, 1000))
    return clip_middle(plain, width)
