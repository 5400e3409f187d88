"""The published JSON Schema (draft 2020-12) of `prunecli.report/1`, a file of this package."""

from importlib import resources

__all__ = ["schema_text"]


def schema_text() -> str:
    """Return the schema as JSON text.

    `surgery.report_json` writes what it describes; a key that is added there is added to `report.schema.json`, too.
    """
    return (resources.files("prunecli.reporting") / "report.schema.json").read_text(encoding="utf-8")
