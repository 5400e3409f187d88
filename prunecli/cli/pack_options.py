"""The arguments and options of `prunecli pack` and `prunecli unpack`."""

import enum
from typing import Annotated

import typer

from prunecli.cli.help import INPUT, OUTPUT

__all__ = ["Codec", "CodecOption", "MaskReports", "Packed", "PackedOutput", "UnpackedOutput", "Verify"]


class Codec(enum.StrEnum):
    """How values are coded."""

    ZSTD = "zstd"
    RAW = "raw"


Packed = Annotated[str, typer.Argument(metavar="PACKED", help="A packed or sparse-bitmask checkpoint, or - for stdin.")]
MaskReports = Annotated[
    list[str] | None,
    typer.Option(
        "--from-report",
        metavar="JSON|-",
        help="Take masks from a report (default: beside CKPT).\nOne for each round of pruning; repeatable.",
        rich_help_panel=INPUT,
    ),
]
CodecOption = Annotated[
    Codec, typer.Option("--codec", help="Compress values (zstd), or only leave out zeros.", rich_help_panel=OUTPUT)
]
Verify = Annotated[bool, typer.Option("--verify", help="Unpack each block again, and compare.", rich_help_panel=OUTPUT)]
PackedOutput = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Output, or - for stdout (default: CKPT.packed.safetensors).",
        rich_help_panel=OUTPUT,
    ),
]
UnpackedOutput = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="Output, or - for stdout (default: PACKED without its suffix).",
        rich_help_panel=OUTPUT,
    ),
]
