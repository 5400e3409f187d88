"""The choices for how to write a report. This module imports nothing slow, so that `prunecli --help` starts fast."""

import enum
from typing import Literal

from prunecli.lean import dataclass

__all__ = ["ListFormat", "ReportFormat", "Sort", "TableOptions"]

Sort = Literal["name", "sparsity", "size"]


class ReportFormat(enum.StrEnum):
    """The format of a report."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


class ListFormat(enum.StrEnum):
    """The format of the list of `params`."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class TableOptions:
    """The content of a table: modules down to a depth, their order, or only the first parameters in that order."""

    depth: int | None = None
    sort: Sort = "name"
    top: int | None = None
