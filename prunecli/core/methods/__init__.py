"""Pruning methods by name; a new method is a module of its own and a row in `METHODS`."""

from prunecli.core.methods.base import Method
from prunecli.core.methods.lamp import Lamp
from prunecli.core.methods.masks import Masks
from prunecli.core.methods.random import Random
from prunecli.core.methods.request import MethodRequest, spelled
from prunecli.core.methods.smallest import L1, Scores
from prunecli.core.methods.structured import Ln, RandomSlices
from prunecli.errors import UsageError, show

__all__ = ["METHODS", "known_methods", "make_method", "unknown_method"]

METHODS: dict[str, type[Method]] = {each.name: each for each in (Random, L1, Lamp, Scores, RandomSlices, Ln, Masks)}


def make_method(request: MethodRequest) -> Method:
    """Return the method of a request.

    Raises:
        UsageError: the name is unknown, or the method does not take one of the settings, or lacks one.
    """
    if request.name not in METHODS:
        raise unknown_method(request.name)
    return METHODS[request.name].of(request)


def unknown_method(name: str) -> UsageError:
    """Return the error for a name that users cannot give as that of a method."""
    return UsageError(f"{show(name, 60)} is not a method; known are {', '.join(known_methods())}")


def known_methods() -> list[str]:
    """Return the names of methods as users write them, without `masks`, which the option for a mask file stands for."""
    return [spelled(name) for name, each in METHODS.items() if not each.reads_given]
