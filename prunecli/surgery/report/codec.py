"""A report as JSON, written row by row, read back strictly. Unknown fields are ignored.

It is a `prunecli.report/1` if that can record the request. Version 2 has more fields for groups and more commands.
"""

import io
import itertools
import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

import numpy as np

from prunecli import __version__
from prunecli.core.amount import check_amount
from prunecli.core.methods import METHODS, make_method
from prunecli.core.methods.request import MethodRequest, method_request
from prunecli.core.records import ALWAYS, Count, RecordError, ValueRule, as_json, as_text, read_record
from prunecli.errors import DamagedError, PrunecliError, UnsupportedError, UsageError, raised_in, show
from prunecli.formats.base import Layout
from prunecli.formats.json_text import parse_object
from prunecli.formats.outputs.output import FileOutput, write_parts
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counts
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.model import Command, Plan
from prunecli.surgery.plan.request import SEVERAL, PruneGroup, PruneRequest, request_as_dict
from prunecli.surgery.report.measure import make_report
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Report, Totals
from prunecli.surgery.report.provenance import STREAM
from prunecli.terms import HERE

__all__ = [
    "SCHEMA",
    "SCHEMA_2",
    "GroupRecord",
    "ReportDocument",
    "RequestRecord",
    "Tool",
    "as_dict",
    "parse_report",
    "render_json",
    "request_of",
    "write_report",
]

SCHEMA: Literal["prunecli.report/1"] = "prunecli.report/1"
SCHEMA_2: Literal["prunecli.report/2"] = "prunecli.report/2"

_ROWS = 1000
"""The number of parameters that are written at a time."""

_RATIO = 7
"""The memory of a report's objects by its letters, at most: a line of one has eight spaces for each short string."""


@dataclass(frozen=True, slots=True)
class Tool:
    """The program that wrote the report."""

    name: Literal["prunecli"]
    version: str
    stream: Annotated[int, ValueRule(f"{STREAM}", STREAM.__eq__, {"const": STREAM})]
    """Version of the random stream."""
    python: str
    numpy: str


def _is_amount(value: Any) -> bool:
    try:
        check_amount(value)
    except (TypeError, PrunecliError):
        return False
    return True


def _is_amount_or_null(value: Any) -> bool:
    return value is None or _is_amount(value)


def _are_amounts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_amount, value.values()))


def _is_dim_or_null(value: Any) -> bool:
    return value is None or type(value) is int


_AMOUNTS = {"additionalProperties": {"type": "number", "minimum": 0}}


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """Parameters that were pruned with one amount."""

    params: Annotated[tuple[str, ...], ValueRule(schema={"minItems": 1})]
    """Names, globs and `re:` patterns."""
    exclude: tuple[str, ...]
    min_dim: Count
    amount: Annotated[float | None, ValueRule("an amount", _is_amount_or_null, {"minimum": 0})]
    """An integer is a number of elements; a number with a fraction or an exponent is a share of them.

    It is null only in version 2, where `amounts`, `like` or masks from a file say how much of each was pruned.
    """
    global_: bool
    """Whether one amount holds for all parameters of the group together."""
    allocation: str | None = None
    """Version 2: the rule that divided the amount, as one total, among the parameters."""
    amounts: Annotated[Mapping[str, Any], ValueRule("amounts by pattern", _are_amounts, _AMOUNTS)] = field(
        default_factory=dict, hash=False
    )
    """Version 2: names and patterns with amounts of their own."""
    order: tuple[str, ...] = ()
    """Version 2: the order of layers that the rule used."""
    like: str | None = None
    """Version 2: the checkpoint or report with as many pruned elements in each parameter."""
    per_slice: bool = False
    """Version 2: whether the slices of parameters of three dimensions were pruned separately."""
    per_row: bool = False
    """Version 2: whether the amount was that of every row."""
    method: str | None = None
    """Version 2: the method of the group, if groups have different ones."""
    dim: Annotated[int | None, ValueRule("a dimension", _is_dim_or_null)] = None
    """Version 2: the dimension along which the method chose, if it was given."""
    norm: Literal["1", "2", "inf"] | None = None
    """Version 2: the norm of slices."""
    n_of_m: Annotated[str | None, ValueRule(schema={"pattern": "^[0-9]+:[0-9]+$"})] = None
    """Version 2: how many of every group of neighbours were kept."""
    block: Annotated[str | None, ValueRule(schema={"pattern": "^[0-9]+x[0-9]+$"})] = None
    """Version 2: the rows and columns of the blocks that were pruned as a whole."""
    scores: str | None = None
    """Version 2: the checkpoint with the scores."""
    abs_scores: bool = False
    """Version 2: whether scores were ordered by magnitude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """The request of an `apply`, as stamps have it; a report has the same fields."""

    method: str | None
    seed: Count | None
    groups: tuple[GroupRecord, ...]
    remove: bool | None = None
    mask_dtype: Literal["bool", "same"] | None = None
    untie: bool | None = None
    zeros_are_pruned: bool | None = None
    key_prefix: str = ""
    with_state: bool = False
    rescale: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """What is in a checkpoint, or what was done to it: sparsity counted from the data."""

    schema: Literal["prunecli.report/1", "prunecli.report/2"]
    tool: Tool
    command: Command
    source: CheckpointRef
    output: CheckpointRef | None
    key: Annotated[str | None, ALWAYS] = None
    """The path of the state dict as --key gave it; null where it was found. Older reports lack it."""
    method: str | None
    """The method that chose the elements to drop; null if none were chosen."""
    seed: Count | None
    groups: tuple[GroupRecord, ...]
    remove: bool | None = None
    mask_dtype: Literal["bool", "same"] | None = None
    untie: bool | None = None
    zeros_are_pruned: bool | None = None
    key_prefix: str = ""
    """What the keys of all parameters begin with, if that was requested."""
    with_state: bool = False
    """Whether optimizer state was zeroed with the weights."""
    rescale: bool = False
    """Version 2: whether what was kept of each pruned parameter was divided by its share of the unpruned elements."""
    totals: Totals
    parameters: tuple[ParameterReport, ...]
    carried: tuple[str, ...]
    """Tensors outside the state dict, which were not changed."""
    stamps: tuple[Mapping[str, Any], ...]
    """What earlier runs recorded in the source's metadata, as it was found."""
    left_out: Annotated[tuple[LeftOut, ...], ALWAYS] = ()
    """By role, the tensors that are neither among the parameters nor in the totals. Older reports lack it."""


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
    """Yield a report's text in parts of many rows."""
    rows = _text(report)
    while part := "".join(itertools.islice(rows, _ROWS)):
        yield part.encode("ascii")


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
    if each.candidates is not None and not each.pruned_now <= each.candidates <= each.elements:
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
