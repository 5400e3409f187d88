"""Reports read from files: a named one, or the one next to a checkpoint."""

from contextlib import suppress
from pathlib import Path

from prunecli.errors import DamagedError, UnreadableError, UsageError, show
from prunecli.formats.detect import kind_of, open_location
from prunecli.formats.io.locations import Location
from prunecli.formats.packed.names import FOLDER_SUFFIX, SUFFIX, original_name
from prunecli.surgery.report.codec import parse_report
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import default_report, older_report

__all__ = ["find_report_beside", "read_report", "read_report_beside"]

_LIMIT = 1 << 30
_START = 512


def read_report(place: Location | None) -> Report:
    """Return the report in a file, or on standard input.

    Raises:
        UnreadableError: it cannot be read.
        DamagedError: as `parse_report`, or it is too large for a report.
    """
    with open_location(place) as source:
        if source.size > _LIMIT:
            raise DamagedError(f"{source.label} is {source.size} bytes, too large for a report; is it the checkpoint?")
        if source.read(0, min(_START, source.size)).lstrip()[:1] not in (b"{", b""):
            kind = kind_of(source)
            what = f"is {kind}, not a report" if kind else "is not JSON, so it is not a report"
            raise DamagedError(f"{source.label} {what}")
        return parse_report(source.read(0, source.size), source.label)


def find_report_beside(checkpoint: Location) -> Report | None:
    """Return the report next to a checkpoint, or next to the original of a packed file; None without one.

    A report named as in earlier versions may describe another file, whose name differs only in its suffix. It is used
    only if it names this file as its output.

    Raises:
        DamagedError: as `parse_report`.
    """
    place, older = default_report(checkpoint), older_report(checkpoint)
    if _is_there(place):
        return read_report(place)
    if older != place and _is_there(older):
        report = read_report(older)
        if report.output is not None and _last_part(report.output.path or "") == checkpoint.name:
            return report
    for suffix in (SUFFIX, FOLDER_SUFFIX):
        name = original_name(checkpoint.name, suffix)
        if name is not None:
            return find_report_beside(checkpoint.with_name(name))
    return None


def read_report_beside(checkpoint: Location) -> Report:
    """Return the report next to a checkpoint.

    Raises:
        UsageError: there is none.
        DamagedError: as `parse_report`.
    """
    report = find_report_beside(checkpoint)
    if report is None:
        name = default_report(checkpoint).name
        raise UsageError(f"{show(checkpoint)} has no {show(name)} beside it; name its report")
    return report


def _is_there(place: Location) -> bool:
    if isinstance(place, Path):
        with suppress(OSError):  # a name that is too long, for example
            return place.exists()
        return False
    try:
        with open_location(place):
            return True
    except UnreadableError:
        return False


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
