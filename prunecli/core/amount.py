"""How much to prune: a count of elements, or a fraction of them."""

import math
import numbers
from collections.abc import Iterable, Sequence

from prunecli.errors import UsageError, show
from prunecli.terms import AMOUNT, percentage

__all__ = ["LARGEST_PERCENTAGE", "Amount", "amount_list", "check_amount", "parse_amount", "parse_amounts", "to_count"]

LARGEST_PERCENTAGE = 100
"""A count up to this one may have been meant as a percentage."""

_MOST = 1 << 128
"""The limit of counts, as in reports."""

Amount = int | float
"""An int is a number of elements, a float a fraction in [0, 1]: `1` prunes one element, `1.0` all of them."""


def check_amount(amount: object, typed: str = "") -> Amount:
    """Return the amount as a plain int or float, if it is valid for some tensor; messages name it as `typed`.

    Raises:
        TypeError: it is not a real number, or a bool.
        UsageError: it is negative, NaN, or a fraction above 1.
    """
    if isinstance(amount, bool) or not isinstance(amount, numbers.Real):
        raise TypeError(f"amount is an int (elements) or a float (a fraction), not {type(amount).__name__} {amount!r}")
    if isinstance(amount, numbers.Integral):
        if amount < 0:
            named = f"amount {typed}" if typed else "amount"  # an int may have more digits than can be printed
            raise UsageError(f"{named} is negative; give a count from 0 on, or a fraction like 0.5")
        if int(amount) >= _MOST:
            raise UsageError("amount is larger than any number of elements")
        return int(amount)
    value = float(amount)
    if math.isnan(value) or not 0.0 <= value <= 1.0:
        if typed.endswith("%"):
            raise UsageError(f"amount {typed} is not a percentage from 0% to 100%")
        raise UsageError(
            f"amount {typed or value} is not a fraction from 0.0 to 1.0; a count is written in digits alone"
        )
    return value


def to_count(amount: Amount, candidates: int, parameter: str) -> int:
    """Return how many of a parameter's `candidates` an amount prunes; fractions are rounded half to even, as in torch.

    Raises:
        UsageError: a count is larger than the number of candidates.
    """
    if isinstance(amount, float):
        return round(amount * candidates)
    if amount > candidates:
        meant = f"; for {amount} % write {percentage(amount)}" if amount <= LARGEST_PERCENTAGE else ""
        raise UsageError(f"cannot prune {amount:,} elements of {parameter}: {candidates:,} are left unpruned{meant}")
    return amount


def parse_amount(text: str) -> Amount:
    """Return the amount in a text: `0.5`, `5e-1` and `50%` are fractions, `1000` is a count.

    Raises:
        UsageError: it is not a number, or not a valid amount.
    """
    stripped = text.strip()
    shown = show(stripped, 60)
    try:
        if "_" in stripped:  # float() would read 0_1 as 1.0
            raise ValueError(stripped)
        if stripped.endswith("%"):
            return check_amount(float(stripped[:-1]) / 100, shown)
        if stripped.lstrip("+-").isdecimal():
            return check_amount(int(stripped), shown)
        value = float(stripped)
    except UsageError:
        raise
    except ValueError:
        raise UsageError(
            f"amount {show(repr(text), 60)} is not a number; write 0.5, 50% or a count like 1000"
        ) from None
    return check_amount(value, shown)


def amount_list(given: object) -> Sequence[object]:
    """Return amounts as a list: none, one, or those of a list or tuple."""
    if given is None:
        return ()
    return given if isinstance(given, list | tuple) else (given,)


def parse_amounts(given: Iterable[object]) -> tuple[Amount | None, tuple[tuple[str, Amount], ...]]:
    """Return the amount for all parameters, None without one, and those for patterns: `PATTERN=0.5`, the last one last.

    Raises:
        TypeError: one is neither text nor a number.
        UsageError: one is not a valid amount, or two are for all parameters.
    """
    everywhere: list[Amount] = []
    named: dict[str, Amount] = {}
    for each in given:
        pattern, equals, text = each.rpartition("=") if isinstance(each, str) else ("", "", each)
        if equals and not pattern:
            raise UsageError(f"{AMOUNT} {show(each, 60)} has no pattern; write PATTERN=0.5, or 0.5 for all")
        try:
            amount = parse_amount(text) if isinstance(text, str) else check_amount(text)
        except UsageError as error:
            raise (error.inside(show(pattern, 60)) if equals else error) from None
        if not equals:
            everywhere.append(amount)
        else:
            named.pop(pattern, None)
            named[pattern] = amount
    if len(everywhere) > 1:
        first, second = everywhere[:2]
        raise UsageError(f"{AMOUNT} is given twice ({first}, {second}); leave one out, or write PATTERN={second}")
    return next(iter(everywhere), None), tuple(named.items())
