"""The records that a report in JSON consists of; its schema comes from them, too.

It is a `prunecli.report/1` if that can record the request. Version 2 has more fields for groups and more commands.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from prunecli.core.amount import check_amount
from prunecli.core.records import ALWAYS, Count, ValueRule
from prunecli.errors import PrunecliError
from prunecli.lean import dataclass
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.plan.model import Command
from prunecli.surgery.report.model import CheckpointRef, ParameterReport, Totals
from prunecli.surgery.report.provenance import STREAM

__all__ = ["SCHEMA", "SCHEMA_2", "GroupRecord", "ReportDocument", "RequestRecord", "Tool"]

SCHEMA: Literal["prunecli.report/1"] = "prunecli.report/1"
SCHEMA_2: Literal["prunecli.report/2"] = "prunecli.report/2"


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
