"""A report in each of its formats, and the format for a file's name."""

import importlib
from pathlib import PurePosixPath

from prunecli.errors import UsageError, show
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.reporting.text import as_text
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.model import Report

__all__ = ["form_of", "rendered"]


_SUFFIXES = {
    ".json": ReportFormat.JSON,
    ".csv": ReportFormat.CSV,
    ".md": ReportFormat.MARKDOWN,
    ".markdown": ReportFormat.MARKDOWN,
    ".html": ReportFormat.HTML,
    ".htm": ReportFormat.HTML,
    ".txt": ReportFormat.TABLE,
}
_RENDERERS = {
    ReportFormat.CSV: "csv.as_csv",
    ReportFormat.MARKDOWN: "markdown.as_markdown",
    ReportFormat.HTML: "html.as_html",
}


def form_of(name: str) -> ReportFormat:
    """Return the format for a file's suffix.

    Raises:
        UsageError: the suffix has no format.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _SUFFIXES:
        known, formats = ", ".join(_SUFFIXES), "|".join(ReportFormat)
        raise UsageError(f"{show(name, 80)} has a suffix of no report format ({known}); add --format {formats}")
    return _SUFFIXES[suffix]


def rendered(report: Report, form: ReportFormat, screen: Screen = PAGE, view: TableOptions | None = None) -> bytes:
    """Return a report in a format, in UTF-8; `screen` and `view` are for tables."""
    if form is ReportFormat.JSON:
        return render_json(report)
    if form is ReportFormat.TABLE:
        return as_text(report, screen, view).encode("utf-8")
    module, _, function = _RENDERERS[form].partition(".")  # few runs need one of these modules, and none needs all
    render = getattr(importlib.import_module(f"prunecli.reporting.{module}"), function)
    text: str = render(report)
    return text.encode("utf-8")
