"""The options that say how much is pruned where: amounts, a rule that divides a total, files, counts of other masks."""

from dataclasses import replace

from prunecli.core.allocation import find_rule
from prunecli.core.amount import Amount
from prunecli.core.methods import make_method, unknown_method
from prunecli.core.methods.request import MethodRequest
from prunecli.errors import UsageError
from prunecli.lean import dataclass
from prunecli.surgery.names.select import Selection
from prunecli.surgery.places import input_location
from prunecli.surgery.plan.method_fault import method_fault
from prunecli.surgery.plan.ratios import read_order, read_ratios
from prunecli.surgery.plan.request import PruneGroup
from prunecli.terms import ALLOCATION, AMOUNT, GLOBAL, LIKE, METHOD, ORDER, PER_ROW, PER_SLICE, RATIOS

__all__ = ["DivisionOptions"]

_GLOBAL = "global"
"""The rule that treats all parameters as one tensor."""


@dataclass(frozen=True, slots=True)
class DivisionOptions:
    """The options besides the amount for all parameters; `ratios`, `like` and `order` are files to read."""

    amounts: tuple[tuple[str, Amount], ...] = ()
    allocation: str | None = None
    ratios: str | None = None
    like: str | None = None
    order: str | None = None
    per_slice: bool = False
    per_row: bool = False
    method: MethodRequest | None = None

    def given(self) -> list[str]:
        """Return the names of the options that are given."""
        options = {ALLOCATION: self.allocation, RATIOS: self.ratios, LIKE: self.like, ORDER: self.order}
        flags = [PER_SLICE] * self.per_slice + [PER_ROW] * self.per_row
        found = [AMOUNT] * bool(self.amounts) + [each for each, value in options.items() if value is not None] + flags
        return found + ([] if self.method is None else self.method.options or [METHOD])

    def check(self, amount: Amount | None, *, global_: bool) -> None:
        """Refuse options that do not say how much is pruned where, or say it twice.

        Raises:
            UsageError: they contradict each other, or the rule is unknown.
        """
        total, rule = amount is not None, self.allocation
        sources = {AMOUNT: total or self.amounts, RATIOS: self.ratios is not None, LIKE: self.like is not None}
        ways = [option for option, is_given in sources.items() if is_given]
        method = make_method(self.method or MethodRequest())
        if method.reads_given:
            raise unknown_method(method.name)
        if fault := method_fault(method, self._settings(total=total, global_=global_)):
            raise UsageError(fault)
        if not ways and method.counts != "nothing":
            raise UsageError(f"the amount is missing; give {AMOUNT} 0.5, 50% or a number of elements like 1000")
        if len(ways) > 1:
            raise UsageError(f"{ways[0]} and {ways[1]} both say how much is pruned; leave one out")
        if rule is not None:
            find_rule(rule)
        self._check_slices(global_=global_)
        if global_ and rule not in (None, _GLOBAL):
            raise UsageError(f"{GLOBAL} and {ALLOCATION} {rule} divide the total in different ways; leave one out")
        if (rule is not None or global_) and not total:
            option = ALLOCATION if rule is not None else GLOBAL
            raise UsageError(f"{option} divides a total; give it as {AMOUNT} 0.9, or leave {option} out")
        if self.order is not None and rule is None:
            raise UsageError(f"{ORDER} is the order of layers for {ALLOCATION}; add that, or leave {ORDER} out")

    def _settings(self, *, total: bool, global_: bool) -> dict[str, str]:
        """Return the settings that are given, by their names in recipes, with the terms of their options."""
        found = {
            "amount": (AMOUNT, total),
            "amounts": (AMOUNT if self.ratios is None else RATIOS, self.amounts or self.ratios is not None),
            "global": (GLOBAL if global_ else ALLOCATION, global_ or self.allocation == _GLOBAL),
            "allocation": (ALLOCATION, self.allocation is not None),
            "order": (ORDER, self.order is not None),
            "like": (LIKE, self.like is not None),
            "per_row": (PER_ROW, self.per_row),
            "per_slice": (PER_SLICE, self.per_slice),
        }
        return {key: option for key, (option, is_given) in found.items() if is_given}

    def _check_slices(self, *, global_: bool) -> None:
        others = {LIKE: self.like is not None}
        if self.per_row:
            others |= {ALLOCATION: self.allocation is not None, GLOBAL: global_, PER_SLICE: self.per_slice}
        other = next((option for option, is_given in others.items() if is_given), None)
        if other is not None and (self.per_row or self.per_slice):
            own, what = (PER_ROW, "every row") if self.per_row else (PER_SLICE, "every slice")
            raise UsageError(f"{own} needs an amount of {what}, which {other} does not give; leave one out")

    def group(self, selection: Selection, amount: Amount | None, *, global_: bool) -> PruneGroup:
        """Return the group that checked options describe; reads the files except that of `like`.

        Raises:
            PrunecliError: as `read_ratios` and `read_order`.
        """
        everywhere = global_ or self.allocation == _GLOBAL
        amounts, where = self.amounts, ""
        if self.ratios is not None:
            amounts, where = read_ratios(input_location(self.ratios, RATIOS))
        return PruneGroup(
            replace(selection, per_slice=self.per_slice),
            amount,
            everywhere,
            allocation=None if everywhere else self.allocation,
            amounts=amounts,
            amounts_where=where,
            order=() if self.order is None or everywhere else read_order(input_location(self.order, ORDER)),
            like=self.like,
            per_row=self.per_row,
            method=self.method or MethodRequest(),
        )
