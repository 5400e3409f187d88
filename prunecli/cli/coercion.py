"""Values of options, converted without pydantic: typer imports it even for texts, which takes as long as numpy does.

Only values that certainly are valid are converted here. Everything else is left to typer, with its messages.
"""

import enum
from typing import Any, Literal, get_args, get_origin

__all__ = ["convert_without_pydantic"]

_LONGEST = 40
"""The most digits of a number; a seed has up to 39."""


def convert_without_pydantic(params: list[Any]) -> None:
    """Let the parameters of a command convert their values by `_Conversion` first."""
    for param in params:
        known = all(hasattr(param, name) for name in ("_runtime_param", "type_descriptor", "get_runtime_param"))
        if known and param._runtime_param is None:  # another version of typer may do all of it in other ways
            param._runtime_param = _Conversion()


class _Conversion:
    """The conversion of a value, in the form of typer's."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Return the converted value."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        wanted = getattr(param.type_descriptor, "annotation", None)
        info = getattr(param.type_descriptor, "parameter_info", None)
        own = getattr(info, "parser", self) is None
        if own and several and get_args(wanted) == (str,) and all(type(each) is str for each in value):
            return list(value)
        if own and not several and get_origin(wanted) is Literal and value in get_args(wanted):
            return value
        if own and not several and isinstance(wanted, type):
            if isinstance(value, wanted):
                return value
            if wanted is int and _is_plain_number(value) and _is_between(int(value), info):
                return int(value)
            if issubclass(wanted, enum.StrEnum) and value in list(wanted):
                return wanted(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _is_plain_number(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _LONGEST


def _is_between(number: int, info: Any) -> bool:
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    return (low is None or number >= low) and (high is None or number <= high)
