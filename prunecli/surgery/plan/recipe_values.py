"""The keys of a recipe, and the checks of their values."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from prunecli.core.allocation import RULES
from prunecli.core.amount import Amount, check_amount, parse_amount
from prunecli.core.methods import known_methods
from prunecli.core.methods.request import spelled
from prunecli.errors import UsageError
from prunecli.surgery.plan.ratios import named_amounts

__all__ = ["GROUP", "SETTINGS", "TOP", "Checks"]

_SEEDS = 1 << 128


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError("is not true or false")
    return value


def _whole(value: object, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < limit:
        raise UsageError(f"must be an integer from 0 to {limit - 1 if limit < _SEEDS else '2**128 - 1'}")
    return value


def _mask_dtype(value: object) -> str:
    if value not in ("bool", "same"):
        raise UsageError('is neither "bool" nor "same"')
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError("is not text")
    return value


def _method_name(value: object) -> str:
    known = known_methods()
    if not isinstance(value, str) or spelled(value) not in known:
        raise UsageError(f"is not one of {', '.join(known)}")
    return value


def _setting(value: object) -> object:
    """Return a setting of a method as it is: `method_request` checks it."""
    return value


def _allocation(value: object) -> str:
    if not isinstance(value, str) or value not in RULES:
        raise UsageError(f"is not an allocation; known are {', '.join(RULES)}")
    return value


def _place(value: object) -> str:
    if not isinstance(value, str) or value in ("", "-"):
        raise UsageError("is not the path or URL of a checkpoint or report")
    return value


def _patterns(value: object) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, list) or not all(isinstance(each, str) and each for each in patterns):
        raise UsageError("is not a list of names and patterns")
    return tuple(patterns)


def _some_patterns(value: object) -> tuple[str, ...]:
    patterns = _patterns(value)
    if not patterns:
        raise UsageError("is empty; a group needs a name or a pattern")
    return patterns


def _amount(value: object) -> Amount:
    try:
        return parse_amount(value) if isinstance(value, str) else check_amount(value)
    except UsageError as error:
        raise error.inside("cannot be taken") from None
    except (TypeError, ValueError):  # Python prints integers of 4,300 digits at most
        raise UsageError('is not an amount; write 0.5, "50%" or a count like 1000') from None


def _amounts(value: object) -> tuple[tuple[str, Amount], ...]:
    if not isinstance(value, dict) or not value:
        raise UsageError("is not a table of patterns with amounts")
    return named_amounts(value)


Checks = Mapping[str, Callable[[object], Any]]

TOP: Checks = {
    "seed": partial(_whole, limit=_SEEDS),
    "remove": _boolean,
    "bake": _boolean,
    "mask_dtype": _mask_dtype,
    "untie": _boolean,
    "zeros_are_pruned": _boolean,
    "key_prefix": _text,
    "with_state": _boolean,
    "method": _method_name,
    "rescale": _boolean,
}
GROUP: Checks = {
    "params": _some_patterns,
    "exclude": _patterns,
    "amount": _amount,
    "global": _boolean,
    "min_dim": partial(_whole, limit=65),
    "allocation": _allocation,
    "amounts": _amounts,
    "order": _patterns,
    "like": _place,
    "per_slice": _boolean,
    "per_row": _boolean,
    "method": _method_name,
    "dim": _setting,
    "norm": _setting,
    "n_of_m": _setting,
    "block": _setting,
    "scores": _place,
    "abs_scores": _boolean,
}
SETTINGS = ("dim", "norm", "n_of_m", "block", "scores", "abs_scores")
