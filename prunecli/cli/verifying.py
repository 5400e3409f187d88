"""What `verify` says: one line if the checkpoint is what the report says, else the first differences, a line each."""

from collections.abc import Callable

from prunecli.cli.options import input_path
from prunecli.errors import PrunecliError, UsageError
from prunecli.formats.io.locations import Location
from prunecli.surgery.report.measure import Report
from prunecli.surgery.report.reading import read_report, read_report_beside
from prunecli.surgery.verify import Verification

__all__ = ["report_beside", "report_reader", "verification_text"]

_SHOWN = 10


def report_reader(source: Location | None, place: str | None) -> Callable[[], Report]:
    """Return what reads the report: the one that is named, else the one beside the checkpoint.

    Raises:
        UsageError: checkpoint and report would both come from standard input, or nothing lies beside that.
    """
    if place is None:
        if source is None:
            raise UsageError("nothing lies beside standard input; name the report")
        return lambda: read_report_beside(source)
    location = input_path(place, "REPORT")
    if source is None and location is None:
        raise UsageError("checkpoint and report cannot both come from one standard input; give one of them a path")
    return lambda: read_report(location)


def report_beside(source: Location | None) -> Report | None:
    """Return the report that lies beside a checkpoint, None if there is none that can be read."""
    if source is None:
        return None
    try:
        return read_report_beside(source)
    except PrunecliError:
        return None


def verification_text(label: str, found: Verification) -> str:
    """Render a verification; `label` names the checkpoint, fit to be shown."""
    differences = found.differences
    if not differences:
        unsummed = found.parameters - found.summed
        but = f", {unsummed:,} of them without a checksum of their values" if unsummed else ""
        return (
            f"{label} is what the report says: {found.parameters:,} parameters{but}, {found.elements:,} elements, "
            f"{found.zeros:,} zeros\n"
        )
    lines = [f"{each}\n" for each in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"and {len(differences) - _SHOWN:,} more\n")
    return "".join(lines)
