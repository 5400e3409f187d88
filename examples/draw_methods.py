"""Draw the figure of docs/methods.md: the digits net's accuracy against the amount, by method and by allocation.

    python examples/draw_methods.py docs/methods.png

takes a minute or two, and needs matplotlib. No test compares the picture: draw it again when a method changes, and look
at it.
"""

import io
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from methods_on_digits import METHODS, Digits, Step, whole
from PIL import Image

AMOUNTS = [each / 20 for each in range(20)]
COLORS = {"er": "#d94801", "igq": "#7b3294", "erk": "#08519c", "uniform": "#636363"}
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
}


class Line(NamedTuple):
    """A curve, its colour and style, and its label with the place of its left edge: amount and accuracy in percent."""

    steps: Sequence[Step]
    color: str
    style: str
    label: str
    at: tuple[float, float]


BY_METHOD = [
    Line(METHODS["`--method lamp`"], "#7b3294", "-", "lamp", (91.5, 96)),
    Line(METHODS["`--method l1 --global`"], "#08519c", "-", "l1 --global", (69, 91.5)),
    Line(METHODS["`--method l1`"], "#3182bd", "-", "l1", (65.5, 66)),
    Line(METHODS["`--block 4x4 --method l1`"], "#d94801", "-", "l1, blocks", (50, 46)),
    Line(METHODS["`--method ln --norm 2`"], "#238b45", "-", "ln --norm 2", (30.5, 55)),
    Line(METHODS["`--method random-structured`"], "#238b45", "--", "random-\nstructured", (27, 66)),
    Line(METHODS["`--method random`"], "#636363", "--", "random", (12, 55)),
]
BY_RULE = [
    *(
        Line(whole(method="l1", allocation=rule), COLORS[rule], "-", rule, at)
        for rule, at in {"er": (96, 61), "igq": (96, 36), "erk": (96, 22), "uniform": (54, 60)}.items()
    ),
    *(
        Line(whole(allocation=rule), COLORS[rule], "--", rule, at)
        for rule, at in {"er": (78, 76), "igq": (60, 86), "erk": (37, 45), "uniform": (11.5, 60)}.items()
    ),
]


def draw_lines(axes: Axes, lines: Sequence[Line], digits: Digits) -> None:
    """Draw curves with their labels."""
    for line in lines:
        found = [fmean(digits.accuracies(line.steps, amount)) for amount in AMOUNTS]
        axes.plot([100 * amount for amount in AMOUNTS], found, line.style, color=line.color, linewidth=1.4)
        label = axes.annotate(line.label, line.at, color=line.color, va="center", linespacing=1)
        label.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def draw(path: str) -> None:
    """Write the figure."""
    digits = Digits()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        draw_lines(left, BY_METHOD, digits)
        draw_lines(right, BY_RULE, digits)
        left.set(title="By method", ylabel="correct of 597 test images (%)")
        right.set(title="By allocation: l1 (solid) and random (dashed)")
        for axes in (left, right):
            axes.set(xlim=(0, 102), ylim=(0, 102), xlabel="pruned (%)", xticks=range(0, 101, 10))
            axes.axhline(10, color="#bbbbbb", linewidth=0.8, zorder=0)
            axes.annotate("guessing", (0.7, 11.5), color="#888888")
            axes.tick_params(labelleft=True)
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=160)
    Image.open(drawn).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw(sys.argv[1])
