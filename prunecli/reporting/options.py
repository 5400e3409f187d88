"""The choices of how a report is written. Nothing is imported here, so that `prunecli --help` starts fast."""

import enum
from dataclasses import dataclass
from typing import Literal

__all__ = ["ReportFormat", "Sort", "TableOptions"]

Sort = Literal["name", "sparsity", "size"]


class ReportFormat(enum.StrEnum):
    """How a report is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What a table shows: modules down to a depth, their order, or only the first parameters in that order."""

    depth: int | None = None
    sort: Sort = "name"
    top: int | None = None
