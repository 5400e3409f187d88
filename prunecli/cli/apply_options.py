"""The options of `prunecli apply`, besides those of methods and of the division among layers."""

import enum
from typing import Annotated

import typer

from prunecli.cli.help import AMOUNT, OUTPUT, SELECTION

__all__ = [
    "FromReport",
    "Global",
    "KeyPrefix",
    "MaskDtype",
    "MaskType",
    "PrintRecipe",
    "Recipe",
    "Remove",
    "Seed",
    "Stamp",
    "Untie",
    "WithState",
    "ZerosArePruned",
]


class MaskDtype(enum.StrEnum):
    """The type of new masks."""

    BOOL = "bool"
    SAME = "same"


Untie = Annotated[
    bool,
    typer.Option(
        "--untie",
        help="Mask a tied parameter without its partners.\nThe parameters tied to it stay dense.",
        rich_help_panel=SELECTION,
    ),
]
Global = Annotated[
    bool,
    typer.Option("--global", help="Count the amount over the selection as a whole.", rich_help_panel=AMOUNT),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="TOML|-",
        help="Read groups of parameters and amounts from a file.",
        rich_help_panel=AMOUNT,
    ),
]
FromReport = Annotated[
    str | None,
    typer.Option(
        "--from-report",
        metavar="JSON|-",
        help="Reproduce the masks recorded in a report.",
        rich_help_panel=AMOUNT,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the masks (default: random, printed).", rich_help_panel=AMOUNT),
]
KeyPrefix = Annotated[
    str | None,
    typer.Option(
        "--key-prefix",
        metavar="TEXT",
        help="Draw masks as if names began with TEXT.\n`unet/` gives the masks of the component in its pipeline.",
        rich_help_panel=AMOUNT,
    ),
]
ZerosArePruned = Annotated[
    bool,
    typer.Option("--zeros-are-pruned", help="Count elements that are already zero as pruned.", rich_help_panel=AMOUNT),
]
Remove = Annotated[
    bool | None,
    typer.Option(
        "--bake/--no-bake",
        "--remove/--no-remove",
        help="Write zeros instead of masks (--no-bake: masks).",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
MaskType = Annotated[
    MaskDtype | None,
    typer.Option("--mask-dtype", help="Type of masks: bool (default), or the weight's.", rich_help_panel=OUTPUT),
]
WithState = Annotated[
    bool,
    typer.Option(
        "--with-state",
        help="Also zero the optimizer state of pruned elements.\nOnly if the file proves whose it is.",
        rich_help_panel=OUTPUT,
    ),
]
Stamp = Annotated[
    bool,
    typer.Option(
        "--stamp",
        help="Record in the metadata how the masks were made.\nOnly safetensors files have such metadata.",
        rich_help_panel=OUTPUT,
    ),
]
PrintRecipe = Annotated[
    bool,
    typer.Option(
        "--print-recipe",
        help="Let --dry-run print its recipe on a terminal, too.\nIn a pipe, --dry-run always prints it.",
        rich_help_panel=OUTPUT,
    ),
]
