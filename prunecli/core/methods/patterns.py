"""Patterns of the methods that choose single elements: N:M, and whole blocks."""

from prunecli.core.methods.base import Method
from prunecli.core.methods.groups import GroupsOf
from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.structured import Blocks

__all__ = ["pattern_of"]


def pattern_of(request: MethodRequest) -> Method | None:
    """Return the method of the pattern in a request; None without a pattern.

    Raises:
        UsageError: it does not take one of the settings.
    """
    if request.n_of_m is not None:
        return GroupsOf.of(request)
    return None if request.block is None else Blocks.of(request)
