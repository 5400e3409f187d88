"""Pruning methods by name; a new method is a module of its own and a row in `METHODS`."""

from prunecli.core.methods.base import Method
from prunecli.core.methods.masks import Masks
from prunecli.core.methods.random import Random
from prunecli.errors import UsageError, show

__all__ = ["DEFAULT_METHOD", "METHODS", "parse_method"]

METHODS: dict[str, type[Method]] = {each.name: each for each in (Random, Masks)}

DEFAULT_METHOD = Random.name


def parse_method(name: str) -> Method:
    """Return the method with a name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in METHODS:
        raise UsageError(f"{show(name, 60)} is not a method; known are {', '.join(METHODS)}")
    return METHODS[name]()
