"""The options that commands share: their names, help texts, and what they mean to the library."""

import enum
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prunecli.errors import OutputError, UnreadableError, UsageError, show
from prunecli.formats.locations import Location, location_of
from prunecli.surgery.destinations import Destination, default_output, default_report
from prunecli.surgery.select import Selection

__all__ = [
    "Amount", "Checkpoint", "Exclude", "Force", "Foreign", "Jobs", "Key", "MaskDtype", "MinDim", "Output", "Params",
    "Quiet", "Resume", "checkpoint_path", "destination_of", "input_path", "output_path", "selection_of",
]  # fmt: skip


class MaskDtype(enum.StrEnum):
    """The type of new masks."""

    BOOL = "bool"
    SAME = "same"


Checkpoint = Annotated[
    str,
    typer.Argument(metavar="CKPT", help="The checkpoint: a file, a folder of shards, a URL, or - for standard input."),
]
Params = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="NAME|GLOB|re:REGEX", help="Parameters to work on; may be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("-x", "--exclude", metavar="NAME|GLOB|re:REGEX", help="Parameters to leave out; may be repeated."),
]
Amount = Annotated[
    str | None,
    typer.Option("-a", "--amount", metavar="0.5|50%|1000", help="Fraction, percentage, or number of elements."),
]
MinDim = Annotated[int, typer.Option("--min-dim", min=0, help="Patterns take tensors of at least so many dimensions.")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="PATH", help="Where the state dict lies, if it is not found by itself.")
]
Foreign = Annotated[
    bool,
    typer.Option(
        "--allow-foreign-objects", help="Carry objects of classes that weights-only loading refuses through, unread."
    ),
]
Output = Annotated[
    str | None, typer.Option("-o", "--output", metavar="PATH|-", help="The output; - is standard output.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace outputs that exist.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Keep what an interrupted run finished, and what this one finishes if it is interrupted."
    ),
]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Threads; default: one per core, at most 8.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no table, no notes.")]


def checkpoint_path(text: str) -> Location | None:
    """Return where a checkpoint argument lies, None for standard input.

    Raises:
        UsageError: it is empty.
        UnreadableError: it is the root folder, beside which nothing can be written.
    """
    if not text:
        raise UsageError("the checkpoint's name is empty; give a path, or - for standard input")
    path = location_of(text)
    if isinstance(path, Path) and path.name in ("", "..") and path.is_dir():
        path = path.resolve()
        if not path.name:
            raise UnreadableError(f"{show(text)} is the root folder; name a folder or a checkpoint file in it")
    return None if text == "-" else path


def input_path(text: str, option: str) -> Location | None:
    """Return the place that an option names to read from, None for standard input.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError(f"{option} is empty; give a path, or - for standard input")
    return None if text == "-" else location_of(text)


def output_path(text: str, option: str) -> Location:
    """Return the place that an output option names.

    Raises:
        UsageError: it is empty, as when a script's variable is not set.
        OutputError: it is a folder or a bucket without a name of its own.
    """
    if not text:
        raise UsageError(f"{option} is empty; give a path, or leave the option out")
    path = location_of(text)
    if not path.name:
        raise OutputError(f"cannot write {show(path)}: it is a folder; name a file in it")
    return path


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
    source: Location | None, command: str, output: str | None, report: str | None, *, no_report: bool, force: bool
) -> Destination:
    """Return where the checkpoint and its report go; both beside the input unless said otherwise.

    Raises:
        UsageError: there is no name to derive one from, or standard output is asked for twice, or is a terminal, or
            a report is both named and unwanted.
    """
    if no_report and report is not None:
        raise UsageError("--report and --no-report contradict each other; leave one out")
    report_path = None if report in (None, "-") else output_path(str(report), "--report")
    if output == "-":
        if report == "-":
            raise UsageError("-o - and --report - both want standard output; give one of them a path")
        if sys.stdout.isatty():
            raise UsageError("-o - would write a checkpoint to the terminal; redirect it, or give -o a path")
        return Destination(None, report_path, force)
    if output is None and source is None:
        raise UsageError("a checkpoint from standard input needs a name for the output; give -o PATH, or -o -")
    path = _beside(source or Path(), command) if output is None else output_path(output, "--output")
    if no_report or report == "-":
        return Destination(path, None, force)
    return Destination(path, report_path or default_report(path), force)


def _beside(source: Location, command: str) -> Location:
    try:
        return default_output(source, command)
    except ValueError:
        raise UsageError(f"nothing can lie beside {show(source)}; give -o a place of its own") from None
