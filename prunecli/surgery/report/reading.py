"""A report read back from its JSON: strict about what it needs, indifferent to what it does not know."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prunecli.core.amount import check_amount
from prunecli.core.methods import METHODS
from prunecli.core.structure.model import Structure
from prunecli.errors import DamagedError, PrunecliError, UnreadableError, UnsupportedError, UsageError, show
from prunecli.formats.detect import open_location
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.io.locations import Location
from prunecli.formats.json_text import parse_object
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.report.codec import SCHEMA
from prunecli.surgery.report.measure import CheckpointRef, ParameterReport, Report
from prunecli.surgery.report.provenance import STREAM
from prunecli.surgery.roles.table import Role
from prunecli.surgery.run.destination import default_report, older_report

__all__ = ["parse_report", "read_report", "read_report_beside"]

_LIMIT = 1 << 30
_COMMANDS = ("apply", "remove", "report")
_STATES = ("dense", "masked", "baked")

T = TypeVar("T")


def read_report(place: Location | None) -> Report:
    """Read a report from a file, or from standard input.

    Raises:
        UnreadableError: it cannot be read.
        DamagedError: as `parse_report`, or it is larger than any report.
    """
    with open_location(place) as source:
        if source.size > _LIMIT:
            raise DamagedError(f"{source.label} is {source.size} bytes, too large for a report; is it the checkpoint?")
        return parse_report(source.read(0, source.size), source.label)


def read_report_beside(checkpoint: Location) -> Report:
    """Read the report that lies beside a checkpoint.

    A report with an older name may be that of another file, which had the same name but for its suffix: it counts if
    it names this file as its output.

    Raises:
        UsageError: there is none.
        DamagedError: as `parse_report`.
    """
    place, older = default_report(checkpoint), older_report(checkpoint)
    if _is_there(place):
        return read_report(place)
    if older != place and _is_there(older):
        report = read_report(older)
        if report.output is not None and _last_part(report.output.path or "") == checkpoint.name:
            return report
    raise UsageError(f"{show(checkpoint)} has no {show(place.name)} beside it; name its report")


def _is_there(place: Location) -> bool:
    if isinstance(place, Path):
        return place.exists()
    try:
        with open_location(place):
            return True
    except UnreadableError:
        return False


def _last_part(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def parse_report(raw: bytes, label: str) -> Report:
    """Read a report's JSON; `label` names it in messages.

    Raises:
        DamagedError: it is no JSON, or lacks something, or has it of another type.
        UnsupportedError: it is of another schema, or its masks are of another version of the random stream.
    """
    content = parse_object(raw, label)
    if content.get("schema") != SCHEMA:
        raise UnsupportedError(f"{label} is no {SCHEMA}; its schema is {show(repr(content.get('schema')), 60)}")
    record = _Record(content, label)
    stream = record.record("tool").whole("stream")
    if stream != STREAM:
        raise UnsupportedError(
            f"{label} is of version {stream} of the random stream; this prunecli draws version {STREAM}"
        )
    if content.get("method") is not None and record.text("method") not in METHODS:
        raise UnsupportedError(
            f"{label} is of the method {show(record.text('method'), 60)}; this prunecli knows {', '.join(METHODS)}"
        )
    return Report(
        command=record.one_of("command", _COMMANDS),
        source=_place(record.record("source")),
        output=record.optional("output", lambda: _place(record.record("output"))),
        parameters=[_parameter(each) for each in record.records("parameters")],
        prune=_prune(record) if content.get("seed") is not None else None,
        carried=record.texts("carried"),
        stamps=[each.content for each in record.records("stamps")],
        key=record.optional("key", lambda: record.text("key")) if "key" in content else None,
        left_out=tuple(_left_out(each) for each in record.records("left_out")) if "left_out" in content else (),
    )


class _Record:
    """An object of the JSON, asked for its fields by type; `where` is how messages call it."""

    def __init__(self, content: Mapping[str, Any], where: str) -> None:
        self.content = content
        self._where = where

    def text(self, field: str) -> str:
        found: str = self._checked(field, _is_text, "text")
        return found

    def flag(self, field: str) -> bool:
        found: bool = self._checked(field, lambda value: isinstance(value, bool), "true or false")
        return found

    def whole(self, field: str) -> int:
        found: int = self._checked(field, _is_whole, "a whole number")
        return found

    def one_of(self, field: str, values: Sequence[str]) -> str:
        found: str = self._checked(field, lambda value: value in values, " or ".join(values))
        return found

    def texts(self, field: str) -> list[str]:
        found: list[str] = self._checked(
            field, lambda value: _is_list(value, lambda each: isinstance(each, str)), "a list of text"
        )
        return found

    def wholes(self, field: str) -> list[int]:
        found: list[int] = self._checked(field, lambda value: _is_list(value, _is_whole), "a list of whole numbers")
        return found

    def record(self, field: str) -> "_Record":
        content = self._checked(field, lambda value: isinstance(value, dict), "an object")
        return _Record(content, f"{self._where}: {field}")

    def records(self, field: str) -> "list[_Record]":
        found = self._checked(
            field, lambda value: _is_list(value, lambda each: isinstance(each, dict)), "a list of objects"
        )
        return [_Record(each, f"{self._where}: {field}[{number}]") for number, each in enumerate(found)]

    def optional(self, field: str, read: Callable[[], T]) -> T | None:
        """Read a field that may be null."""
        if field not in self.content:
            raise self.wrong(field, "is missing")
        return None if self.content[field] is None else read()

    def wrong(self, field: str, what: str) -> DamagedError:
        return DamagedError(f"{self._where}: {field} {what}; it is no report as prunecli writes it")

    def _checked(self, field: str, is_right: Callable[[Any], bool], kind: str) -> Any:
        if field not in self.content:
            raise self.wrong(field, "is missing")
        if not is_right(self.content[field]):
            raise self.wrong(field, f"is not {kind}")
        return self.content[field]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 128


def _is_list(value: Any, is_right: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(is_right, value))


def _place(record: _Record) -> CheckpointRef:
    return CheckpointRef(
        record.optional("path", lambda: record.text("path")), record.text("format"), record.whole("bytes")
    )


def _prune(record: _Record) -> PruneRequest:
    return PruneRequest(
        tuple(_group(each) for each in record.records("groups")),
        record.whole("seed"),
        record.flag("remove"),
        record.flag("untie"),
        record.flag("zeros_are_pruned"),
        record.one_of("mask_dtype", ("bool", "same")),
        record.text("key_prefix") if "key_prefix" in record.content else "",
        record.flag("with_state") if "with_state" in record.content else False,
        record.text("method"),
    )


def _group(record: _Record) -> PruneGroup:
    try:
        amount = check_amount(record.content.get("amount"))
    except (TypeError, PrunecliError):
        raise record.wrong("amount", "is no amount") from None
    selection = Selection(tuple(record.texts("params")), tuple(record.texts("exclude")), record.whole("min_dim"))
    return PruneGroup(selection, amount, record.flag("global"))


def _parameter(record: _Record) -> ParameterReport:
    shape = tuple(record.wholes("shape"))
    elements, pruned_now = record.whole("elements"), record.whole("pruned_now")
    candidates = record.optional("candidates", lambda: record.whole("candidates"))
    if math.prod(shape) != elements:
        raise record.wrong("elements", "is not the product of its shape")
    if candidates is not None and not pruned_now <= candidates <= elements:
        raise record.wrong("candidates", "does not lie between what was pruned and all elements")
    return ParameterReport(
        name=record.text("name"),
        module=record.text("module"),
        shape=shape,
        dtype=record.one_of("dtype", tuple(DTYPES)),
        elements=elements,
        zeros_before=record.optional("zeros_before", lambda: record.whole("zeros_before")),
        zeros=record.optional("zeros", lambda: record.whole("zeros")),
        state=record.one_of("state", _STATES),
        pruned_now=pruned_now,
        tied_to=tuple(record.texts("tied_to")),
        key=record.text("key"),
        mask_sha256=record.optional("mask_sha256", lambda: record.text("mask_sha256")),
        candidates=candidates,
        choice=record.record("choice").content if "choice" in record.content else {},
        crc32=record.optional("crc32", lambda: record.text("crc32")),
        structure=record.optional("structure", lambda: _structure(record.record("structure"))),
        copies=tuple(record.texts("copies")),
        zeroed=tuple(record.texts("zeroed")) if "zeroed" in record.content else (),
        role=_role(record) if "role" in record.content else Role.PARAMETER,
        zero_norms=record.whole("zero_norms") if "zero_norms" in record.content else 0,
    )


def _role(record: _Record) -> Role:
    return Role(record.one_of("role", tuple(Role)))


def _left_out(record: _Record) -> LeftOut:
    return LeftOut(
        _role(record),
        record.whole("tensors"),
        record.whole("elements"),
        record.whole("bytes"),
        record.optional("key", lambda: record.text("key")),
    )


def _structure(record: _Record) -> Structure:
    whole = record.whole

    def some(field: str) -> int | None:
        return record.optional(field, lambda: whole(field))

    return Structure(
        whole("rows"),
        whole("columns"),
        whole("empty_rows"),
        whole("empty_columns"),
        whole("blocks_16x16"),
        whole("empty_blocks_16x16"),
        some("groups_of_4"),
        some("groups_of_4_with_2_zeros"),
        some("groups_of_8"),
        some("groups_of_8_with_4_zeros"),
        # Earlier versions did not say it.
        grouped_by=some("group_dimension") if "group_dimension" in record.content else None,
    )
