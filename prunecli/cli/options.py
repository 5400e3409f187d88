"""The options that commands share: their names, help texts, and what they mean to the library."""

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prunecli.errors import UsageError
from prunecli.surgery.rewrite import Destination, default_output, default_report
from prunecli.surgery.select import Selection

__all__ = [
    "Amount", "Checkpoint", "Exclude", "Force", "Jobs", "Key", "MaskDtype", "MinDim", "Output", "Params", "Quiet",
    "ReportFormat", "checkpoint_path", "destination_of", "selection_of",
]  # fmt: skip


class MaskDtype(enum.StrEnum):
    """The type of new masks."""

    BOOL = "bool"
    SAME = "same"


class ReportFormat(enum.StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"


Checkpoint = Annotated[str, typer.Argument(metavar="CKPT", help="The checkpoint file, or - for standard input.")]
Params = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME|GLOB|re:REGEX", help="Parameters to work on; may be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("-x", "--exclude", metavar="NAME|GLOB|re:REGEX", help="Parameters to leave out; may be repeated."),
]
Amount = Annotated[
    str, typer.Option("-a", "--amount", metavar="0.5|50%|1000", help="Fraction, percentage, or number of elements.")
]
MinDim = Annotated[
    int, typer.Option("--min-dim", min=0, help="Patterns take tensors of at least this many dimensions.")
]
Key = Annotated[
    str | None, typer.Option("--key", metavar="PATH", help="Where the state dict lies, if it is not found by itself.")
]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="PATH|-", help="The output; - is standard output.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Threads; default: one per core, at most 8.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no table, no notes.")]


def checkpoint_path(text: str) -> Path | None:
    """Return the path of a checkpoint argument, None for standard input.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError("the checkpoint's name is empty; give a path, or - for standard input")
    return None if text == "-" else Path(text)


def selection_of(
    params: Sequence[str] | None, excludes: Sequence[str] | None = None, min_dim: int = 0
) -> Selection | None:
    """Return the selection that options describe, None if they name no parameter."""
    if not params:
        if excludes:
            raise UsageError("--exclude takes from what --param selects; add -p '*'")
        return None
    return Selection(tuple(params), tuple(excludes or ()), min_dim)


def destination_of(
    source: Path | None, command: str, output: str | None, report: str | None, *, no_report: bool, force: bool
) -> Destination:
    """Return where the checkpoint and its report go; both beside the input unless said otherwise.

    Raises:
        UsageError: there is no name to derive one from, or standard output is asked for twice, or is a terminal.
    """
    if output == "-":
        if report == "-":
            raise UsageError("-o - and --report - both want standard output; give one of them a path")
        if sys.stdout.isatty():
            raise UsageError("-o - would write a checkpoint to the terminal; redirect it, or give -o a path")
        return Destination(None, Path(report) if report and not no_report else None, force)
    if output is None and source is None:
        raise UsageError("a checkpoint from standard input needs a name for the output; give -o PATH, or -o -")
    path = Path(output) if output else default_output(source or Path(), command)
    if no_report or report == "-":
        return Destination(path, None, force)
    return Destination(path, Path(report) if report else default_report(path), force)
