"""`dataclass` as the standard library has it, made in a quarter of the time: a command starts with over 100 of them.

The standard library compiles six methods for a class. Here, it compiles `__init__`, and all classes share the others.
Classes are frozen for the type checker only; at run time, assignments would be refused by a slower `__init__`, too.
"""

import functools
import operator
import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses

    def dataclass(cls=None, /, *, frozen=False, eq=True, **options):
        """Make a class a dataclass, as `dataclasses.dataclass` does."""

        def made(cls):
            own = {"__doc__": cls.__doc__ or cls.__name__}  # or the library describes its signature, which is slow
            if options.get("repr", True) and "__repr__" not in vars(cls):
                own["__repr__"] = _repr
            if eq and "__eq__" not in vars(cls):
                own |= {"__eq__": _eq, "__hash__": vars(cls).get("__hash__", _hash if frozen else None)}
            for name, value in own.items():
                setattr(cls, name, value)
            return dataclasses.dataclass(**options | {"eq": False, "repr": False})(cls)

        return made if cls is None else made(cls)

    @functools.cache
    def _getter(cls: type, use: str) -> Callable[[Any], Any]:
        """Return the function that gets the values of the fields that `compare`, or are in the `hash`."""
        used = [
            each for each in dataclasses.fields(cls) if each.compare and (use == "compare" or each.hash is not False)
        ]
        return operator.attrgetter(*(each.name for each in used)) if used else lambda _: ()

    def _eq(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        values = _getter(self.__class__, "compare")
        return values(self) == values(other)

    def _hash(self) -> int:
        return hash(_getter(self.__class__, "hash")(self))

    @reprlib.recursive_repr("...")
    def _repr(self) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in dataclasses.fields(self) if each.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"


__all__ = ["dataclass"]
