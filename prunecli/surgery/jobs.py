"""The steps of the commands that only read, between their options and their results."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from prunecli.errors import PrunecliError, UsageError, show
from prunecli.formats.base import ReadOptions
from prunecli.formats.io.locations import Location
from prunecli.formats.opening import AnyCheckpoint, check_unchanged, open_any
from prunecli.surgery.listing import Listener, note_excludes, open_for_ranks
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.reading import read_report, read_report_beside
from prunecli.surgery.run.options import Run

if TYPE_CHECKING:
    from prunecli.surgery.compare.model import Comparison

__all__ = [
    "compare_with",
    "measure_checkpoint",
    "measure_each",
    "report_beside",
    "report_reader",
    "with_progress",
    "with_recorded_key",
]


@contextmanager
def with_progress(run: Run, checkpoint: AnyCheckpoint, listener: Listener) -> Iterator[Run]:
    """Yield a run whose progress goes to the listener, for passes that write nothing."""
    with listener.progress(checkpoint.source.label, delayed=True) as ticks:
        yield replace(run, progress=ticks)


def with_recorded_key(reading: ReadOptions, report: Report | None) -> ReadOptions:
    """Return read options with the key that the report records, unless a key is given."""
    if reading.key is not None or report is None or report.key is None:
        return reading
    return replace(reading, key=report.key, recorded=True)


def measure_checkpoint(
    checkpoint: AnyCheckpoint, selection: Selection | None, run: Run, *, key: str | None, pictures: bool
) -> Report:
    """Return the report of an open checkpoint, after a check that the file did not change meanwhile.

    Raises:
        PrunecliError: as `measure` and `check_unchanged`.
    """
    report = measure(checkpoint, selection, run, structure=True, pictures=pictures)
    check_unchanged(checkpoint)
    return replace(report, key=key)


def measure_each(
    sources: Sequence[Location | None],
    reading: ReadOptions,
    selection: Selection | None,
    run: Run,
    listener: Listener,
) -> Iterator[tuple[AnyCheckpoint, Report]]:
    """Yield several checkpoints, one open at a time, with their reports, which lack where the zeros lie.

    Raises:
        UsageError: two are standard input, or a pattern matches nothing in one of them.
        PrunecliError: as `open_for_ranks` and `measure`.
    """
    if sum(each is None for each in sources) > 1:
        raise UsageError("several checkpoints cannot come from one standard input; give all but one a path")
    if not sources:
        raise UsageError("there is nothing to report; give the paths of checkpoints")
    for source in sources:
        with open_for_ranks(source, reading, run, listener) as opened, with_progress(run, opened, listener) as shown:
            note_excludes(opened, [selection], listener)
            try:
                report = measure(opened, selection, shown)
            except UsageError as error:
                raise error.inside(show(opened.source.name or "standard input", 80)) from None
            check_unchanged(opened)
            yield opened, replace(report, key=reading.key)


def compare_with(
    baseline: Location | None, checkpoint: AnyCheckpoint, reading: ReadOptions, selection: Selection | None, run: Run
) -> "Comparison":
    """Compare an open checkpoint with an earlier one, None for standard input.

    Raises:
        UsageError: both are standard input.
        PrunecliError: as `open_any` and `compare`.
    """
    from prunecli.surgery.compare.compare import compare

    if baseline is None and checkpoint.source.name is None:
        raise UsageError("both checkpoints cannot come from one standard input; give one of them a path")
    with open_any(baseline, reading) as before:
        comparison = compare(before, checkpoint, selection, run)
        check_unchanged(before)
    check_unchanged(checkpoint)
    return comparison


def report_reader(source: Location | None, text: str | None) -> Callable[[], Report]:
    """Return a function that reads the named report, or the one next to the checkpoint if none is named.

    Raises:
        UsageError: checkpoint and report would both come from standard input, or neither has a name.
    """
    if text is None:
        if source is None:
            raise UsageError("a checkpoint from standard input has no report next to it; name the report")
        return lambda: read_report_beside(source)
    location = input_location(text, "REPORT")
    if source is None and location is None:
        raise UsageError("checkpoint and report cannot both come from one standard input; give one of them a path")
    return lambda: read_report(location)


def report_beside(source: Location | None) -> Report | None:
    """Return the report next to a checkpoint, None if there is none that can be read."""
    if source is None:
        return None
    try:
        return read_report_beside(source)
    except PrunecliError:
        return None
