"""The published JSON Schema (draft 2020-12) of `prunecli.report/1`, generated from the report's records."""

import json
from typing import Any

from prunecli.core.records import record_fields
from prunecli.core.structure.model import Structure
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.report.codec import GroupRecord, ReportDocument, Tool
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Totals

__all__ = ["schema_text"]

_RECORDS = (ReportDocument, Tool, CheckpointRef, GroupRecord, Totals, ParameterReport, Structure, LeftOut)
_OF_APPLY = ("remove", "mask_dtype", "untie", "zeros_are_pruned")
_BY_COMMAND = {
    "if": {"properties": {"command": {"const": "apply"}}},
    "then": {
        "required": list(_OF_APPLY),
        "properties": {
            "method": {"type": "string"},
            "seed": {"type": "integer"},
            "groups": {"minItems": 1},
            "output": {"type": "object"},
            **{key: {"not": {"type": "null"}} for key in _OF_APPLY},
        },
    },
    "else": {
        "properties": {
            "method": {"type": "null"},
            "seed": {"type": "null"},
            "groups": {"maxItems": 0},
            **dict.fromkeys((*_OF_APPLY, "key_prefix", "with_state"), False),
        }
    },
}
"""The fields that only the report of an `apply` has."""


def schema_text() -> str:
    """Return the schema as JSON text."""
    definitions = _definitions()
    for record in _RECORDS:
        _complete(definitions[record.__name__], record)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:prunecli:report:1"}
    whole = {**head, **definitions.pop(ReportDocument.__name__), "title": "prunecli report"}
    return json.dumps({**whole, **_BY_COMMAND, "$defs": definitions}, indent=2) + "\n"


def _definitions() -> dict[str, dict[str, Any]]:
    """Return the schema that pydantic generates for each record, by the record's name."""
    from pydantic import ConfigDict, TypeAdapter  # takes longer to import than most commands to run
    from pydantic.json_schema import GenerateJsonSchema

    class Plain(GenerateJsonSchema):
        """A generator without titles and defaults: a field's name and description are enough."""

        def field_title_should_be_set(self, schema: object) -> bool:
            return False

        def default_schema(self, schema: Any) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])

    adapter = TypeAdapter(list[ReportDocument], config=ConfigDict(use_attribute_docstrings=True))
    found: dict[str, dict[str, Any]] = adapter.json_schema(schema_generator=Plain)["$defs"]
    return found


def _complete(schema: dict[str, Any], record: type) -> None:
    """Complete a record's schema: it permits only the record's fields, and lists the required ones."""
    fields = record_fields(record)
    schema["properties"] = {each.key: schema["properties"][each.name] for each in fields}
    schema["required"] = [each.key for each in fields if each.required]
    schema["additionalProperties"] = False
