"""The forms that a report is written in, and which of them a file's name asks for."""

import enum
import importlib
from pathlib import PurePosixPath

from prunecli.errors import UsageError, show
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.reporting.text import View, as_text
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.measure import Report

__all__ = ["Form", "form_of", "rendered"]


class Form(enum.StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


_SUFFIXES = {
    ".json": Form.JSON,
    ".csv": Form.CSV,
    ".md": Form.MARKDOWN,
    ".markdown": Form.MARKDOWN,
    ".html": Form.HTML,
    ".htm": Form.HTML,
    ".txt": Form.TABLE,
}
_RENDERERS = {Form.CSV: "csv.as_csv", Form.MARKDOWN: "markdown.as_markdown", Form.HTML: "html.as_html"}


def form_of(name: str) -> Form:
    """Return the form that a file's suffix stands for.

    Raises:
        UsageError: for none.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _SUFFIXES:
        known = ", ".join(_SUFFIXES)
        raise UsageError(
            f"{show(name, 80)} does not tell a report's format by its suffix ({known}); add --format {'|'.join(Form)}"
        )
    return _SUFFIXES[suffix]


def rendered(report: Report, form: Form, screen: Screen = PAGE, view: View | None = None) -> bytes:
    """Render a report, in UTF-8; `screen` and `view` say how, if it is a table."""
    if form is Form.JSON:
        return render_json(report)
    if form is Form.TABLE:
        return as_text(report, screen, view).encode("utf-8")
    module, _, function = _RENDERERS[form].partition(".")  # few runs need one of them, and none needs all
    render = getattr(importlib.import_module(f"prunecli.reporting.{module}"), function)
    text: str = render(report)
    return text.encode("utf-8")
