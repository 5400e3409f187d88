"""The result of a comparison: for each tensor, the elements that became zero, and all other changes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from prunecli import __version__
from prunecli.errors import ThresholdError, UsageError, show
from prunecli.lean import dataclass
from prunecli.surgery.report.model import CheckpointRef
from prunecli.terms import ALLOW_CHANGES, ONLY_ZEROS

__all__ = [
    "COMPARISON_SCHEMA",
    "Change",
    "ChangeTotals",
    "Comparison",
    "check_allowance",
    "check_comparison",
    "comparison_as_dict",
]

COMPARISON_SCHEMA = "prunecli.comparison/1"

_ABSENT = {"missing": "is missing", "added": "was added", "incomparable": "has another shape, type or layout"}


@dataclass(frozen=True, slots=True)
class Change:
    """One tensor before and after, under its later name (or its earlier one, if it is missing later).

    A "parameter" is compared by its effective values (weight times mask). Any other "tensor" of the state dict, and
    those "carried" outside it, are compared by their bytes. In a parameter, `newly_zero` elements became zero,
    `revived` ones were zero and no longer are, and `changed` ones differ and are zero neither before nor after. In all
    other tensors, `changed` counts the elements that differ. An exception is optimizer state: its elements that became
    zero are `newly_zero`, since `apply --with-state` zeroes them. Tensors that are "missing", "added" or
    "incomparable" (with another shape or type, or expanded in another way) were not compared.
    """

    name: str
    name_before: str
    kind: Literal["parameter", "tensor", "carried"]
    state: Literal["compared", "missing", "added", "incomparable"]
    dtype: str
    shape: tuple[int, ...]
    elements: int
    zeros_before: int = 0
    zeros: int = 0
    newly_zero: int = 0
    revived: int = 0
    changed: int = 0
    shared_with: str | None = None
    """The earlier row with the same memory before and after; the totals count only that row."""

    @property
    def differs(self) -> bool:
        """Whether anything changed."""
        return self.state != "compared" or bool(self.newly_zero or self.revived or self.changed)

    def fault(self, *, allow_changes: bool = False) -> str | None:
        """Return a description of the first change other than an element becoming zero, or None.

        Training changes values, statistics and optimizer state. `allow_changes` permits these changes, but not revived
        elements, nor tensors of the state dict that are missing, added, or have another shape or type.
        """
        if allow_changes and self.kind == "carried":
            return None
        if self.state != "compared":
            return _ABSENT[self.state]
        if self.revived:
            return f"has {_elements(self.revived)} that {_were(self.revived)} zero and {_are(self.revived)} not"
        if self.changed and not allow_changes:
            return f"has {_elements(self.changed)} changed otherwise"
        return None


@dataclass(frozen=True, slots=True)
class ChangeTotals:
    """Sums over the compared parameters; shared memory counts once. `parameters` and `others` count tensors."""

    parameters: int
    others: int
    elements: int
    zeros_before: int
    zeros: int
    newly_zero: int
    revived: int
    changed: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A checkpoint compared with an earlier one."""

    before: CheckpointRef
    after: CheckpointRef
    rows: Sequence[Change]
    uncompared: int = 0
    """Tensors outside the state dicts (optimizer state) that were not compared."""

    @property
    def differing(self) -> list[Change]:
        """The rows in which anything changed."""
        return [row for row in self.rows if row.differs]

    @property
    def nothing_common(self) -> bool:
        """Whether both checkpoints have parameters, but no parameter is in both."""
        states = {row.state for row in self.rows if row.kind == "parameter"}
        return states == {"missing", "added"}

    @property
    def only_zeros_added(self) -> bool:
        """Whether the only change is elements that became zero."""
        return all(row.fault() is None for row in self.rows)

    @property
    def state_zeroed(self) -> int:
        """The number of elements of optimizer state that became zero."""
        return sum(row.newly_zero for row in self.rows if row.kind != "parameter" and row.shared_with is None)

    @property
    def totals(self) -> ChangeTotals:
        """Sums over the parameters, and the number of other tensors."""
        own = [row for row in self.rows if row.shared_with is None and row.state == "compared"]
        counted = [row for row in own if row.kind == "parameter"]
        return ChangeTotals(
            parameters=len(counted),
            others=len(own) - len(counted),
            elements=sum(row.elements for row in counted),
            zeros_before=sum(row.zeros_before for row in counted),
            zeros=sum(row.zeros for row in counted),
            newly_zero=sum(row.newly_zero for row in counted),
            revived=sum(row.revived for row in counted),
            changed=sum(row.changed for row in counted),
        )


def check_allowance(*, only_zeros: bool, allow_changes: bool) -> None:
    """Refuse options of a comparison that contradict each other.

    Raises:
        UsageError: changes are allowed where none is an error.
    """
    if allow_changes and not only_zeros:
        raise UsageError(f"{ALLOW_CHANGES} is an option of {ONLY_ZEROS}; add that, or leave it out")


def check_comparison(comparison: Comparison, *, allow_changes: bool = False) -> None:
    """Raise an error unless the only change is new zeros; with `allow_changes`, unless no zero was revived.

    Raises:
        ThresholdError: there are other changes; the message contains the first tensor, and how many differ.
    """
    faults = [(row, fault) for row in comparison.rows if (fault := row.fault(allow_changes=allow_changes)) is not None]
    if not faults:
        return
    row, fault = faults[0]
    more = f"; {_tensors(len(faults) - 1)} too" if len(faults) > 1 else ""
    raise ThresholdError(f"not only zeros were added: {show(row.name, 80)} {fault}{more}")


def comparison_as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain dicts and lists with the published names."""
    totals = comparison.totals
    return {
        "schema": COMPARISON_SCHEMA,
        "tool": {"name": "prunecli", "version": __version__},
        "before": asdict(comparison.before),
        "after": asdict(comparison.after),
        "only_zeros_added": comparison.only_zeros_added,
        "uncompared": comparison.uncompared,
        "totals": {
            "parameters": totals.parameters,
            "others": totals.others,
            "elements": totals.elements,
            "zeros_before": totals.zeros_before,
            "zeros": totals.zeros,
            "newly_zero": totals.newly_zero,
            "revived": totals.revived,
            "changed": totals.changed,
        },
        "tensors": [_row(each) for each in comparison.rows],
    }


def _row(each: Change) -> dict[str, Any]:
    counted = each.kind == "parameter" and each.state == "compared"
    return {
        "name": each.name,
        "name_before": each.name_before,
        "kind": each.kind,
        "state": each.state,
        "dtype": each.dtype,
        "shape": list(each.shape),
        "elements": each.elements,
        "zeros_before": each.zeros_before if counted else None,
        "zeros": each.zeros if counted else None,
        "newly_zero": each.newly_zero if counted else None,
        "revived": each.revived if counted else None,
        "changed": each.changed if each.state == "compared" else None,
        "shared_with": each.shared_with,
    }


def _elements(count: int) -> str:
    return f"{count:,} element{'' if count == 1 else 's'}"


def _tensors(count: int) -> str:
    return "1 other tensor differs" if count == 1 else f"{count:,} other tensors differ"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
