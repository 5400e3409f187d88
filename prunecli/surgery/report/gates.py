"""Gates: bounds on the sparsity in a report, so that a CI job fails where it is too low or too high."""

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Literal

from prunecli.core.amount import parse_amount
from prunecli.errors import ThresholdError, UsageError, percent, show
from prunecli.lean import dataclass
from prunecli.surgery.names.pair import pair_names
from prunecli.surgery.names.parameters import canonical
from prunecli.surgery.names.select import matcher
from prunecli.surgery.report.model import ParameterReport, Report, totals_of
from prunecli.terms import FAIL_OVER, FAIL_UNDER

__all__ = ["Gate", "check_gates", "check_gates_of_each", "parse_gate", "parse_gates"]


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on the sparsity of all parameters together, or of those that match `pattern`.

    `text`: the bound as the user wrote it.
    """

    kind: Literal["under", "over"]
    bound: float
    pattern: str | None = None
    text: str = field(default="", compare=False)

    @property
    def option(self) -> str:
        """The option that sets it, for messages."""
        return FAIL_UNDER if self.kind == "under" else FAIL_OVER


def parse_gate(kind: Literal["under", "over"], text: str) -> Gate:
    """Return the gate that a text describes: `0.5`, `50%` or `PATTERN=0.5`; the bound follows the last equals sign.

    Raises:
        UsageError: the bound is not a fraction from 0 to 1.
    """
    pattern, equals, bound = text.rpartition("=")
    gate = Gate(kind, 0.0, pattern if equals else None)
    if equals and not pattern:
        raise UsageError(f"{gate.option} {show(text, 80)} has no pattern; write PATTERN=0.5, or 0.5 for all")
    try:
        amount = parse_amount(bound)
    except UsageError as error:
        raise error.inside(gate.option) from None
    if isinstance(amount, int) and amount > 1:
        raise UsageError(f"{gate.option} {show(text, 80)} is not a fraction from 0 to 1; write 0.5 or 50%")
    return Gate(kind, float(amount), gate.pattern, show(bound.strip(), 40))


def parse_gates(under: Iterable[str], over: Iterable[str]) -> list[Gate]:
    """Return the gates that texts describe; raises as `parse_gate`."""
    return [parse_gate("under", text) for text in under] + [parse_gate("over", text) for text in over]


def check_gates(report: Report, gates: Sequence[Gate]) -> None:
    """Raise an error if a report fails one of its gates.

    Raises:
        UsageError: a pattern matches nothing in the report.
        ThresholdError: a gate fails; the message contains the first, and how many more fail.
    """
    failures = [failure for gate in gates if (failure := _failure(report, gate)) is not None]
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        raise ThresholdError(failures[0] + more)


def check_gates_of_each(reports: Sequence[Report], gates: Sequence[Gate]) -> None:
    """Raise an error if one of several reports fails a gate.

    Raises:
        UsageError: a pattern matches nothing in a report.
        ThresholdError: a gate fails; the message names the first checkpoint, and how many more fail.
    """
    failures = []
    for report in reports:
        try:
            check_gates(report, gates)
        except (ThresholdError, UsageError) as error:
            error = error.inside(show(report.source.path or "standard input", 80))
            if isinstance(error, UsageError):
                raise error from None
            failures.append(error)
    if len(failures) > 1:
        raise failures[0].advising(f"{len(failures):,} of {len(reports):,} checkpoints miss a bound")
    if failures:
        raise failures[0]


def _failure(report: Report, gate: Gate) -> str | None:
    totals = totals_of(_matching(report, gate))
    if not totals.elements:
        return f"{gate.option} {gate.text} cannot be checked: no elements were counted (0 of 0)"
    found = totals.sparsity
    if found >= gate.bound if gate.kind == "under" else found <= gate.bound:
        return None
    what = "the sparsity" if gate.pattern is None else f"the sparsity of {show(gate.pattern, 80)}"
    side = "below" if gate.kind == "under" else "above"
    share = f"{percent(totals.zeros, totals.elements)} ({totals.zeros:,} of {totals.elements:,})"
    return f"{what} is {share}, {side} {gate.option} {gate.text}"


def _matching(report: Report, gate: Gate) -> Sequence[ParameterReport]:
    if gate.pattern is None:
        return report.parameters
    names = {each.name: canonical(each.name) for each in report.parameters}
    exact = pair_names({gate.pattern: canonical(gate.pattern)}, names).values()
    matches = matcher(gate.pattern)
    found = exact or {name for name, key in names.items() if matches(name) or matches(key)}
    if not found:
        raise UsageError(f"{gate.option} {show(gate.pattern)} matches no parameter of the report")
    return [each for each in report.parameters if each.name in found]
