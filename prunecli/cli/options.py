"""What options mean to the library: places, selections, destinations."""

import sys
from collections.abc import Sequence
from pathlib import Path

from prunecli.errors import OutputError, UnreadableError, UsageError, show
from prunecli.formats.io.locations import Location, location_of
from prunecli.surgery.names.select import Selection
from prunecli.surgery.run.destination import Destination, default_output, default_report

__all__ = ["checkpoint_path", "destination_of", "input_path", "output_path", "selection_of"]


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
        if excludes or min_dim:
            what = "--exclude takes from" if excludes else "--min-dim narrows"
            raise UsageError(f"{what} what --param selects; add -p '*'")
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
