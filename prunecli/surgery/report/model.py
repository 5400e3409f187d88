"""The report: what is in a checkpoint, or what was done to it. The JSON, its schema and its reader come from here."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import partial
from typing import Annotated, Any, Literal

from prunecli.core.records import Count, ValueRule
from prunecli.core.structure.model import Pattern, Structure
from prunecli.formats.dtypes import DTYPES
from prunecli.lean import dataclass
from prunecli.surgery.names.left_out import LeftOut
from prunecli.surgery.plan.model import Command
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.roles.table import Role

__all__ = [
    "CheckpointRef",
    "ParameterReport",
    "Report",
    "State",
    "Totals",
    "counted_of",
    "earlier_equals",
    "totals_of",
]

State = Literal["dense", "masked", "baked"]


def _is_hex(digits: int, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def _is_magnitude(value: object) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf  # type: ignore[operator]


Sha256 = Annotated[str, ValueRule("64 hexadecimal digits", partial(_is_hex, 64), {"pattern": "^[0-9a-f]{64}$"})]
Crc32 = Annotated[str, ValueRule("8 hexadecimal digits", partial(_is_hex, 8), {"pattern": "^[0-9a-f]{8}$"})]
DTypeName = Annotated[str, ValueRule("an element type", lambda value: value in list(DTYPES), {"enum": list(DTYPES)})]
Magnitude = Annotated[float, ValueRule("a number above 0", _is_magnitude, {"exclusiveMinimum": 0})]
Share = Annotated[float, ValueRule(schema={"minimum": 0, "maximum": 1})]


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A checkpoint on disk (a file or a folder), or a module."""

    path: str | None
    """As it was given; null for a stream and for a module."""
    format: str
    bytes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterReport:
    """One parameter."""

    name: str
    module: str
    """The module that owns it."""
    shape: tuple[Count, ...]
    dtype: DTypeName
    elements: Count
    zeros_before: Count | None
    """Zeros in the source; null where the type's zeros are not counted."""
    zeros: Count | None
    """Zeros now, with the mask applied."""
    sparsity: Share | None = field(init=False, default=None)
    """Zeros by elements; 0 for an empty tensor, null where zeros are not counted."""
    state: State
    """`masked`: it has a mask; `baked`: this run wrote zeros into it; `dense`: neither."""
    pruned_now: Count
    """Elements that this run dropped."""
    tied_to: tuple[str, ...]
    """Other parameters in the same memory, or stored as an equal copy."""
    key: str
    """The name that its random stream is derived from."""
    candidates: Count | None
    """Unpruned elements that this run chose from; null if it chose none."""
    mask_sha256: Sha256 | None
    """The digest of its mask."""
    crc32: Crc32 | None
    """CRC-32 of its present values in row-major order; null where they are stored in another order."""
    structure: Structure | None
    """Where its zeros are, if that was measured."""
    copies: tuple[str, ...]
    """Averages and optimizer state of this parameter elsewhere in the file, which a prune does not change."""
    zeroed: tuple[str, ...] = ()
    """Only with --with-state: its optimizer state, zeroed where the mask drops elements."""
    role: Role = Role.PARAMETER
    """What the tensor is. Not a parameter if an exact name, or a pattern for averages, selected it."""
    zero_norms: Count = 0
    """Slices of a weight-norm direction that are all zero: their norm is 0, and the first forward divides by it."""
    choice: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What a method needs to choose again, beside seed, key, candidates and pruned_now. Not all methods have one."""
    group: Count = 0
    """Version 2: the index of its group, if groups have different methods."""
    smallest_pruned: bool | None = None
    """Only from `report`, if it has a mask: whether no dropped value is larger, by magnitude, than a kept one."""
    smallest_left: Magnitude | None = None
    """Only from `report`, without a mask: the smallest magnitude left, if chance does not leave that gap above zero."""
    patterns: tuple[Pattern, ...] = ()
    """Only from `report`: the tightest N:M pattern of its zeros along each dimension that has one not by chance."""

    def __post_init__(self) -> None:
        zeros = self.zeros
        sparsity = None if zeros is None else zeros / self.elements if self.elements else 0.0
        object.__setattr__(self, "sparsity", sparsity)

    @property
    def bytes(self) -> int:
        """Bytes of its values, stored densely."""
        return self.elements * DTYPES[self.dtype].itemsize

    @property
    def state_and_role(self) -> str:
        """Its state, with its role if it is not a parameter."""
        return self.state if self.role is Role.PARAMETER else f"{self.state}, {self.role.value}"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the parameters. Tied parameters with the same mask count once."""

    parameters: Count
    elements: Count
    zeros: Count
    sparsity: Share = field(init=False, default=0.0)
    """Zeros by elements."""
    pruned_now: Count

    def __post_init__(self) -> None:
        object.__setattr__(self, "sparsity", self.zeros / self.elements if self.elements else 0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report. `prune` is the request of an `apply` with the seed that was used; None for other commands."""

    command: Command
    source: CheckpointRef
    output: CheckpointRef | None
    parameters: Sequence[ParameterReport]
    prune: PruneRequest | None = None
    carried: Sequence[str] = ()
    """Paths of the tensors outside the state dict (averages, optimizer state), which were not changed."""
    stamps: Sequence[Mapping[str, Any]] = ()
    """What earlier runs recorded in the input's metadata (`--stamp`), as it was found."""
    left_out: tuple[LeftOut, ...] = ()
    """The checkpoint's tensors that are neither among `parameters` nor in the totals, by role."""
    key: str | None = None
    """The path of the state dict as the user gave it (`--key`); None where it was found."""

    @property
    def seed(self) -> int | None:
        """The seed from which the masks were drawn."""
        return self.prune.seed if self.prune else None

    @property
    def totals(self) -> Totals:
        """Sums over all parameters. Tied parameters with the same mask count once."""
        return totals_of(self.parameters)


def counted_of(parameters: Sequence[ParameterReport]) -> list[ParameterReport]:
    """Return the parameters in the totals: those with counted zeros; of tied ones with equal masks only the first."""
    repeated = earlier_equals(parameters)
    return [each for each in parameters if each.zeros is not None and each.name not in repeated]


def earlier_equals(parameters: Sequence[ParameterReport]) -> dict[str, list[str]]:
    """Return, for the counted parameters that repeat others, the earlier tied ones with the same mask."""
    if not any(each.tied_to for each in parameters):
        return {}
    masks = {each.name: each.mask_sha256 for each in parameters if each.zeros is not None}
    found = {
        each.name: [
            name for name in each.tied_to if name < each.name and name in masks and masks[name] == each.mask_sha256
        ]
        for each in parameters
        if each.tied_to and each.name in masks
    }
    return {name: earlier for name, earlier in found.items() if earlier}


def totals_of(parameters: Sequence[ParameterReport]) -> Totals:
    """Return the sums over some parameters of a report; a tied group counts once."""
    counted = counted_of(parameters)
    return Totals(
        len(counted),
        sum(each.elements for each in counted),
        sum(each.zeros or 0 for each in counted),
        sum(each.pruned_now for each in counted),
    )
