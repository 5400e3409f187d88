"""The options of `apply` that say how much is pruned where."""

import enum
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT, OUTPUT

__all__ = [
    "Allocation",
    "Amounts",
    "Like",
    "Masks",
    "Missing",
    "OnOneSide",
    "OrderFile",
    "PerRow",
    "PerSlice",
    "Ratios",
    "Rescale",
    "RuleName",
]


class OnOneSide(enum.StrEnum):
    """What is done to parameters without a mask, and to masks without a parameter."""

    KEPT = "kept"


class RuleName(enum.StrEnum):
    """The rules that divide a total; a test compares them with `core.allocation.RULES`, which is not imported here."""

    UNIFORM = "uniform"
    GLOBAL = "global"
    ER = "er"
    ERK = "erk"
    ERK_PLUS = "erk+"
    UNIFORM_PLUS = "uniform+"
    BALANCED = "balanced"
    PYRAMIDAL = "pyramidal"
    IGQ = "igq"
    SMART = "smart"
    SMART_VGG = "smart-vgg"


Amounts = Annotated[
    list[str] | None,
    typer.Option(
        "-a",
        "--amount",
        metavar="0.5|50%|1000",
        help="A fraction, a percentage, or a number of elements.\n"
        "PATTERN=0.5 is the amount of single parameters; repeatable.",
        rich_help_panel=AMOUNT,
    ),
]
Allocation = Annotated[
    RuleName | None,
    typer.Option(
        "--allocation",
        metavar="RULE",
        help="Divide -a as one total: erk, er, balanced, ...\n"
        "uniform, global, er, erk, erk+, uniform+, balanced, pyramidal, igq, smart or smart-vgg (docs/allocation.md).",
        rich_help_panel=AMOUNT,
    ),
]
Ratios = Annotated[
    str | None,
    typer.Option(
        "--ratios",
        metavar="FILE",
        help="Read the amount of each parameter from a file.\nJSON or TOML: names or patterns, each with an amount.",
        rich_help_panel=AMOUNT,
    ),
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like",
        metavar="CKPT",
        help="Take the amount of each parameter from CKPT.\n"
        "CKPT is a checkpoint with masks or zeros, or a report; positions are drawn anew.",
        rich_help_panel=AMOUNT,
    ),
]
OrderFile = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="FILE",
        help="Read the order of layers from FILE, a name per line.\n"
        "Some rules depend on it, and safetensors files do not keep it.",
        rich_help_panel=AMOUNT,
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="FILE",
        help="Prune what the masks in FILE drop.\n"
        "FILE is a mask file, a torch file of masks, or a checkpoint with masks. Nothing is drawn.",
        rich_help_panel=AMOUNT,
    ),
]
Missing = Annotated[
    OnOneSide | None,
    typer.Option(
        "--missing",
        help="Go on where only the file or CKPT has a name.\n"
        "kept: parameters without a mask are kept, and masks without a parameter are left out.",
        rich_help_panel=AMOUNT,
    ),
]
PerSlice = Annotated[
    bool,
    typer.Option(
        "--per-slice",
        help="Prune the slices of 3-D parameters separately.\n"
        "Each index of the first dimension (an expert) is a layer of its own, NAME#3, which patterns can name.",
        rich_help_panel=AMOUNT,
    ),
]
PerRow = Annotated[
    bool,
    typer.Option(
        "--per-row",
        help="Prune the same amount of every row.\nA row is an index of the first dimension: fixed fan-in.",
        rich_help_panel=AMOUNT,
    ),
]
Rescale = Annotated[
    bool,
    typer.Option(
        "--rescale",
        help="With --bake: divide what is kept by its share.\n"
        "The expected value of each element stays the same, as in DARE; for files of differences.",
        rich_help_panel=OUTPUT,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="A..B",
        help="Write one output for each seed from A to B.\n"
        "-o needs {seed} in it (default: .seedN); either all outputs appear, or none.",
        rich_help_panel=AMOUNT,
    ),
]
