"""Which settings of amounts do not go together with a method."""

from collections.abc import Mapping

from prunecli.core.methods.base import Method

__all__ = ["method_fault"]

_BY_ELEMENTS = ("global", "allocation", "order", "like", "per_row", "per_slice")
_AMOUNTS = ("amount", "amounts")


def method_fault(method: Method, given: Mapping[str, str]) -> str:
    """Return why a method does not take one of the settings that are given; "" if it takes all.

    `given` are the names of settings in recipes, with those that a message calls them.
    """
    refused, why = _refused(method)
    if (method.reads_values or method.reads_scores) and "global" in given:
        refused, why = (*refused, "per_slice"), why or "all slices together are the whole parameters"
    other = next((given[key] for key in refused if key in given), None)
    return "" if other is None else f"{why}; leave {other} out"


def _refused(method: Method) -> tuple[tuple[str, ...], str]:
    """Return the settings that a method does not take, and why."""
    if method.counts == "nothing":
        return (*_AMOUNTS, *_BY_ELEMENTS), "N:M says itself how much is pruned of every group"
    if method.counts == "units":
        return _BY_ELEMENTS, "the amount is a number of whole slices or blocks of each parameter"
    if method.needs_global:
        return ("allocation", "order", "like", "per_row", "per_slice"), "the scores divide the total themselves"
    return (), ""
