"""A report as JSON, written row by row, read back strictly. Unknown fields are ignored."""

import io
import json
import math
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prunecli import __version__
from prunecli.core.methods import METHODS, make_method
from prunecli.core.methods.request import MethodRequest, method_request
from prunecli.core.records import RecordError, as_json, as_text, read_record
from prunecli.errors import DamagedError, UnsupportedError, UsageError, raised_in, show
from prunecli.formats.base import Layout
from prunecli.formats.json_text import parse_object
from prunecli.formats.outputs.output import FileOutput, write_parts
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.request import SEVERAL, PruneGroup, PruneRequest, request_as_dict
from prunecli.surgery.report.document import SCHEMA, SCHEMA_2, GroupRecord, ReportDocument, RequestRecord, Tool
from prunecli.surgery.report.measure import make_report
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report
from prunecli.surgery.report.provenance import STREAM
from prunecli.terms import HERE

__all__ = ["as_dict", "parse_report", "render_json", "request_of", "write_report"]

_PART = 1 << 19
"""The letters after which a part is written; a single row may have more."""

_RATIO = 7
"""The memory of a report's objects by its letters, at most: a line of one has eight spaces for each short string."""


def write_report(
    checkpoint: Layout, plan: Plan, counts: Counts, place: CheckpointRef, target: "FileOutput | None"
) -> Report:
    """Return the report of a finished run, after writing it to `target`, if given.

    Raises:
        OutputError: it cannot be written.
    """
    report = make_report(checkpoint, plan, counts, place)
    if target is not None:
        write_parts(target, _parts(report))
    return report


def render_json(report: Report) -> bytes:
    """Return a report as JSON. It is ASCII only, so no name in it can affect a terminal."""
    text = io.BytesIO()
    text.writelines(_parts(report))
    return text.getvalue()


def _parts(report: Report) -> Iterator[bytes]:
    """Yield a report's text in parts of many rows, or of a single long one."""
    rows: list[str] = []
    size = 0
    for row in _text(report):
        rows.append(row)
        size += len(row)
        if size >= _PART:
            yield "".join(rows).encode("ascii")
            rows.clear()
            size = 0
    if rows:
        yield "".join(rows).encode("ascii")


def _text(report: Report) -> Iterator[str]:
    """Yield a report's text row by row."""
    head, rows, tail = json.dumps(_as_dict(report, ()), indent=2).partition('\n  "parameters": [')
    yield head + rows
    for number, each in enumerate(report.parameters):
        yield f"{',' if number else ''}\n    {as_text(each, '    ')}"
    yield ("\n  " if report.parameters else "") + tail + "\n"


def as_dict(report: Report) -> dict[str, Any]:
    """Return a report as plain dicts and lists with the published names."""
    return _as_dict(report, tuple(report.parameters))


def _as_dict(report: Report, parameters: tuple[ParameterReport, ...]) -> dict[str, Any]:
    request: dict[str, Any] = {"method": None, "seed": None, "groups": ()}
    if report.prune is not None:
        request = {"method": report.prune.method_name, **request_as_dict(report.prune)}
    prune = report.prune
    spread = prune is not None and (prune.rescale or any(group.spread for group in prune.groups))
    newer = spread or report.command == "restore"
    document = ReportDocument(
        schema=SCHEMA_2 if newer else SCHEMA,
        tool=Tool("prunecli", __version__, STREAM, platform.python_version(), np.__version__),
        command=report.command,
        source=report.source,
        output=report.output,
        key=report.key,
        **request,
        totals=report.totals,
        parameters=parameters,
        carried=tuple(report.carried),
        stamps=tuple(report.stamps),
        left_out=report.left_out,
    )
    return as_json(document)


def parse_report(raw: bytes, label: str) -> Report:
    """Return the report in a JSON text; `label` names it in messages.

    Raises:
        DamagedError: it is not JSON, or a field is missing or has a wrong value.
        UnsupportedError: it has another schema, or its masks come from an unknown method or random stream version.
    """
    content = parse_object(raw, label, ratio=_RATIO)
    with raised_in(label):
        _check_versions(content)
    try:
        document = read_record(ReportDocument, content)
        for number, each in enumerate(document.parameters):
            _check_elements(each, number)
        prune = None if document.method is None else request_of(document)
    except RecordError as error:
        raise DamagedError(f"{label}{error}; it is not a report as prunecli writes it") from None
    return Report(
        command=document.command,
        source=document.source,
        output=document.output,
        parameters=document.parameters,
        prune=prune,
        carried=document.carried,
        stamps=document.stamps,
        left_out=document.left_out,
        key=document.key,
    )


def _check_versions(content: Mapping[str, Any]) -> None:
    """Refuse a report that only another version of prunecli can read."""
    schema, tool, groups = (content.get(key) for key in ("schema", "tool", "groups"))
    if schema not in (SCHEMA, SCHEMA_2):
        raise UnsupportedError(f"{HERE} is not a {SCHEMA}; its schema is {show(repr(schema), 60)}")
    stream = tool.get("stream", STREAM) if isinstance(tool, dict) else STREAM
    if stream != STREAM:
        raise UnsupportedError(
            f"{HERE} is of version {show(repr(stream), 60)} of the random stream; this prunecli draws version {STREAM}"
        )
    own = [each.get("method") for each in groups if isinstance(each, dict)] if isinstance(groups, list) else []
    named = [each for each in (content.get("method"), *own) if isinstance(each, str)]
    method = next((each for each in named if each not in METHODS and each != SEVERAL), None)
    if method is not None:
        raise UnsupportedError(f"{HERE} is of the method {show(method, 60)}; this prunecli knows {', '.join(METHODS)}")


def _check_elements(each: ParameterReport, number: int) -> None:
    if math.prod(each.shape) != each.elements:
        raise RecordError(f": parameters[{number}]: elements is not the product of its shape")
    if not each.pruned_now <= (each.candidates or 0) <= each.elements:
        raise RecordError(f": parameters[{number}]: candidates is not between pruned_now and elements")


def request_of(document: ReportDocument | RequestRecord) -> PruneRequest:
    """Return the request of an `apply`.

    Raises:
        RecordError: a field is missing or has a wrong value.
    """
    needed = {key: getattr(document, key) for key in ("remove", "untie", "zeros_are_pruned", "mask_dtype")}
    for key, value in needed.items():
        if value is None:
            raise RecordError(f": {key} is missing")
    requests = [_method(each, number, document.method or "") for number, each in enumerate(document.groups)]
    groups = tuple(map(_group, document.groups, range(len(requests)), requests))
    prune = PruneRequest(
        groups,
        document.seed,
        key_prefix=document.key_prefix,
        with_state=document.with_state,
        rescale=document.rescale,
        **needed,
    )
    if prune.draws and document.seed is None:
        raise RecordError(": seed is missing")
    return prune


def _method(record: GroupRecord, number: int, common: str) -> MethodRequest:
    settings = {key: getattr(record, key) for key in ("dim", "norm", "n_of_m", "block", "scores", "abs_scores")}
    try:
        request = method_request(record.method or common, **settings)
        make_method(request)
    except UsageError as error:
        raise RecordError(f": groups[{number}]: {error}") from None
    return request


def _group(record: GroupRecord, number: int, request: MethodRequest) -> PruneGroup:
    method = make_method(request)
    optional = method.reads_given or method.counts == "nothing"
    if record.amount is None and not (record.amounts or record.like or optional):
        raise RecordError(f": groups[{number}]: amount is null, and neither amounts nor like is there")
    return PruneGroup(
        Selection(record.params, record.exclude, record.min_dim, record.per_slice),
        record.amount,
        record.global_,
        allocation=record.allocation,
        amounts=tuple(record.amounts.items()),
        order=record.order,
        like=record.like,
        per_row=record.per_row,
        method=request,
    )
