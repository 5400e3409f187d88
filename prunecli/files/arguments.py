"""The arguments of the functions on checkpoints, in the forms that the use cases take."""

import os
from collections.abc import Sequence
from typing import overload

from prunecli.errors import UsageError, show
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.reporting.output import ReportOutput, plan_report_output
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import selection_of
from prunecli.surgery.run.destination import Progress
from prunecli.surgery.run.options import Run
from prunecli.terms import FORMAT

__all__ = ["PathLike", "Patterns", "patterns_in", "report_output", "run_with", "selection_in", "text_of"]

PathLike = str | os.PathLike[str]
Patterns = str | Sequence[str]


@overload
def text_of(path: PathLike) -> str: ...
@overload
def text_of(path: PathLike | None) -> str | None: ...
def text_of(path: PathLike | None) -> str | None:
    """Return a path as text; a file named `-` is not standard input here."""
    text = None if path is None else os.fspath(path)
    return "./-" if text == "-" else text


def patterns_in(given: Patterns) -> Sequence[str]:
    """Return the names and patterns of an argument that takes one, or several."""
    return (given,) if isinstance(given, str) else given


def selection_in(params: Patterns, exclude: Patterns, min_dim: int = 0, *, reading: bool = False) -> Selection | None:
    """Return the selection of `params`, `exclude` and `min_dim`; raises as `selection_of`."""
    return selection_of(patterns_in(params), patterns_in(exclude), min_dim, reading=reading)


def report_output(
    format_: str | None, output: PathLike | None, plot: PathLike | None, options: TableOptions, *, force: bool
) -> ReportOutput:
    """Return where a report or a comparison is written.

    Raises:
        UsageError: there is no such format; or as `plan_report_output`.
    """
    known = [each.value for each in ReportFormat]
    if format_ is not None and format_ not in known:
        raise UsageError(f"{FORMAT} {show(format_, 60)} is not one of {', '.join(known)}")
    form = None if format_ is None else ReportFormat(format_)
    return plan_report_output(form, text_of(output), text_of(plot), options, force=force)


def run_with(jobs: int | None, progress: Progress | None = None, *, resume: bool = False, link: bool = False) -> Run:
    """Return the execution options of a function, which uses one process.

    Raises:
        UsageError: the number of threads is below 1.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"jobs is {jobs}; give a number of threads from 1 on")
    return Run(jobs, progress, resume=resume, keep=resume, link=link)
