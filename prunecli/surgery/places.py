"""Paths, URLs and selections as users write them, checked before anything is opened."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from prunecli.errors import OutputError, UnreadableError, UsageError, show
from prunecli.formats.folders.weights import folder_of_index
from prunecli.formats.io.locations import Location, location_of
from prunecli.surgery.names.select import Selection
from prunecli.surgery.run.destination import Destination, default_output, default_report
from prunecli.terms import EXCLUDE, MIN_DIM, NO_REPORT, OUTPUT, PARAM, REPORT

__all__ = ["beside", "checkpoint_location", "destination_of", "input_location", "output_location", "selection_of"]


def checkpoint_location(text: str) -> Location | None:
    """Return the location of a checkpoint, None for `-` (standard input).

    Raises:
        UsageError: it is empty.
        UnreadableError: it is the root folder, next to which nothing can be written.
    """
    if not text:
        raise UsageError("the checkpoint's name is empty; give a path, or - for standard input")
    path = location_of(text)
    if isinstance(path, Path) and path.name in ("", "..") and path.is_dir():
        path = path.resolve()
        if not path.name:
            raise UnreadableError(f"{show(text)} is the root folder; name a folder or a checkpoint file in it")
    return None if text == "-" else path


def input_location(text: str, option: str) -> Location | None:
    """Return the location from which an option reads, None for standard input.

    Raises:
        UsageError: it is empty.
    """
    if not text:
        raise UsageError(f"{option} is empty; give a path, or - for standard input")
    return None if text == "-" else location_of(text)


def output_location(text: str, option: str, *, folder: bool = False) -> Location:
    """Return the location of an output option; a slash at its end is allowed only if a `folder` is written.

    Raises:
        UsageError: it is empty, for example because a script's variable is not set; or it ends with a slash.
        OutputError: it is a folder, or a bucket without a name in it.
    """
    if not text:
        raise UsageError(f"{option} is empty; give a path, or leave the option out")
    path = location_of(text)
    if text.endswith("/") and isinstance(path, Path) and path.name and not folder:
        raise UsageError(f"{show(path)}/ is a folder; name a file in it")
    if not path.name:
        raise OutputError(f"cannot write {show(path)}: it is a folder; name a file in it")
    return path


def selection_of(
    params: Sequence[str] | None, exclude: Sequence[str] | None, min_dim: int = 0, *, reading: bool = False
) -> Selection | None:
    """Return the selection that patterns describe, None without patterns.

    Where a checkpoint is only read (`reading`), an exclude or `min_dim` alone narrows the whole checkpoint.

    Raises:
        UsageError: there is an exclude, but no selection, and a checkpoint would be written.
    """
    narrowed = bool(exclude or min_dim)
    if params or (narrowed and reading):
        return Selection(tuple(params or "*"), tuple(exclude or ()), min_dim)
    if narrowed:
        raise UsageError(f"{EXCLUDE if exclude else MIN_DIM} narrows the selection of {PARAM}; add {PARAM} '*'")
    return None


def destination_of(
    source: Location | None, command: str, output: str | None, report: str | None, *, no_report: bool, force: bool
) -> Destination:
    """Return where to write a checkpoint and its report: next to the input, unless given.

    Raises:
        UsageError: the input has no name to derive one from, or a report is both named and declined.
        OutputError: as `output_location`.
    """
    if no_report and report is not None:
        raise UsageError(f"{REPORT} and {NO_REPORT} contradict each other; leave one out")
    report_path = None if report is None else output_location(report, REPORT)
    if output is None and source is None:
        raise UsageError(f"a checkpoint from standard input needs a name for the output; give {OUTPUT} a path, or -")
    if output is None:
        path = beside(source or Path(), lambda place: default_output(place, command))
    else:  # a URL may be that of a folder, and a missing input has its own error
        path = output_location(output, OUTPUT, folder=not (source is None or _is_one_file(source)))
    return Destination(path, None if no_report else report_path or default_report(path), force)


def _is_one_file(source: Location) -> bool:
    with suppress(OSError):  # a name that is too long, for example, which the input's own error says
        return isinstance(source, Path) and source.is_file() and folder_of_index(source) is None
    return False


def beside(source: Location, name: Callable[[Location], Location]) -> Location:
    """Return the default location of an output, which `name` derives from that of the input.

    Raises:
        UsageError: nothing can be written next to the input.
    """
    try:
        return name(source)
    except ValueError:
        raise UsageError(f"no output can be written next to {show(source)}; give {OUTPUT} another place") from None
