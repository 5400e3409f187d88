"""The published JSON Schemas (draft 2020-12) of what commands write, generated from the records."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prunecli.core.methods import METHODS
from prunecli.core.records import record_fields
from prunecli.core.structure.model import Pattern, Structure
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.report.document import GroupRecord, ReportDocument, Tool
from prunecli.surgery.report.inventory_json import InventoryDocument, TensorRecord, Writer
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Totals

__all__ = ["params_schema", "report_schema"]

_OF_APPLY = ("remove", "mask_dtype", "untie", "zeros_are_pruned")
_BY_COMMAND = {
    "if": {"properties": {"command": {"const": "apply"}}},
    "then": {
        "required": list(_OF_APPLY),
        "properties": {
            "method": {"type": "string"},
            "groups": {"minItems": 1},
            "output": {"type": "object"},
            **{key: {"not": {"type": "null"}} for key in _OF_APPLY},
        },
        "if": {"properties": {"method": {"enum": [name for name, each in METHODS.items() if not each.draws]}}},
        "then": {"properties": {"seed": {"type": "null"}}},
        "else": {"properties": {"seed": {"type": "integer"}}},
    },
    "else": {
        "properties": {
            "method": {"type": "null"},
            "seed": {"type": "null"},
            "groups": {"maxItems": 0},
            **dict.fromkeys((*_OF_APPLY, "key_prefix", "with_state", "rescale"), False),
        }
    },
}
"""The fields that only the report of an `apply` has."""


def report_schema() -> str:
    """Return the schema of reports, of both versions, as JSON text."""
    records = (Tool, CheckpointRef, GroupRecord, Totals, ParameterReport, Structure, Pattern, LeftOut)
    return _schema("report", ReportDocument, records, _BY_COMMAND)


def params_schema() -> str:
    """Return the schema of `prunecli.params/1` as JSON text."""
    return _schema("params", InventoryDocument, (Writer, CheckpointRef, TensorRecord), {})


def _schema(command: str, document: type, records: Sequence[type], conditions: Mapping[str, Any]) -> str:
    definitions = _definitions(document)
    for record in (document, *records):
        _complete(definitions[record.__name__], record)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:prunecli:{command}:1"}
    whole = {**head, **definitions.pop(document.__name__), "title": f"prunecli {command}"}
    return json.dumps({**whole, **conditions, "$defs": definitions}, indent=2) + "\n"


def _definitions(document: Any) -> dict[str, dict[str, Any]]:
    """Return the schemas that pydantic generates for a document and its records, by their names."""
    from pydantic import ConfigDict, TypeAdapter  # takes longer to import than most commands to run
    from pydantic.json_schema import GenerateJsonSchema

    class Plain(GenerateJsonSchema):
        """A generator without titles and defaults: a field's name and description are enough."""

        def field_title_should_be_set(self, schema: object) -> bool:
            return False

        def default_schema(self, schema: Any) -> dict[str, Any]:
            return self.generate_inner(schema["schema"])

    adapter = TypeAdapter(list[document], config=ConfigDict(use_attribute_docstrings=True))
    found: dict[str, dict[str, Any]] = adapter.json_schema(schema_generator=Plain)["$defs"]
    return found


def _complete(schema: dict[str, Any], record: type) -> None:
    """Complete a record's schema: it permits only the record's fields, and lists the required ones."""
    fields = record_fields(record)
    schema["properties"] = {each.key: schema["properties"][each.name] for each in fields}
    schema["required"] = [each.key for each in fields if each.required]
    schema["additionalProperties"] = False
