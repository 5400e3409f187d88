"""The arguments and options of the commands on masks."""

from typing import Annotated

import typer

from prunecli.cli.help import CONTENT, INPUT, OUTPUT

__all__ = [
    "A",
    "And",
    "B",
    "Bits",
    "FromZeros",
    "MaskOutputPath",
    "Masks",
    "Minus",
    "Or",
    "Xor",
]

A = Annotated[str, typer.Argument(metavar="A", help="A mask file, or a checkpoint with masks (file, folder, URL, -).")]
B = Annotated[str, typer.Argument(metavar="B", help="Another one; at most one of them is - (stdin).")]
Masks = Annotated[
    str, typer.Argument(metavar="MASKS", help="A mask file, or a checkpoint with masks (file, folder, URL, -).")
]
FromZeros = Annotated[
    bool,
    typer.Option(
        "--from-zeros",
        help="Count zeros of checkpoints as pruned elements.\nThe masks in a mask file are used as they are.",
        rich_help_panel=INPUT,
    ),
]
And = Annotated[bool, typer.Option("--and", help="Keep the elements that both masks keep.", rich_help_panel=CONTENT)]
Or = Annotated[
    bool, typer.Option("--or", help="Keep the elements that at least one mask keeps.", rich_help_panel=CONTENT)
]
Xor = Annotated[
    bool, typer.Option("--xor", help="Keep the elements that exactly one mask keeps.", rich_help_panel=CONTENT)
]
Minus = Annotated[bool, typer.Option("--minus", help="Keep what A keeps and B does not.", rich_help_panel=CONTENT)]
MaskOutputPath = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Output, or - for stdout (default: beside input).",
        rich_help_panel=OUTPUT,
    ),
]
Bits = Annotated[
    bool,
    typer.Option("--bits", help="Write one bit per element, not one byte.", rich_help_panel=OUTPUT),
]
