"""Counts gathered from blocks of data: in any order, by many threads, by several runs and ranks.

The work on a block and the sum are separate. Each thread computes what it *found* in a block from data that do not
change. One thread at a time then adds the findings to accumulators. So accumulators do not need locks, and an edit,
which does not contain any, can run any number of times.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

__all__ = ["Accumulator", "Accumulators"]

Found = TypeVar("Found", contravariant=True)


class Accumulator(Protocol[Found]):
    """A sum of findings in blocks, independent of their order; only one thread at a time may use it."""

    def add(self, found: Found) -> None:
        """Add the findings of one block."""

    def drain(self) -> Any:
        """Return the sum as JSON data, and reset it; None if nothing was added."""

    def merge(self, drained: Any) -> None:
        """Add the result of `drain` of an accumulator of the same kind, in this or another process."""


class Accumulators:
    """Several accumulators by name, used as one; it drains into an object with an entry for each that is not empty.

    Only accumulators that were added to through it are drained: there can be very many, and a block concerns only few.
    """

    __slots__ = ("_parts", "_touched")

    def __init__(self, parts: Mapping[str, Accumulator[Any]]) -> None:
        self._parts = parts
        self._touched: list[str] = []  # with a name for each block, since a set of very many names takes more memory

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add findings, given as pairs with the name of the accumulator."""
        for name, each in found:
            self._parts[name].add(each)
            self._touched.append(name)

    def drain(self) -> dict[str, Any] | None:
        """Return the drained accumulators by name; None if all are empty."""
        touched, self._touched = dict.fromkeys(self._touched), []
        drained = {name: self._parts[name].drain() for name in touched}
        return {name: each for name, each in drained.items() if each is not None} or None

    def merge(self, drained: Mapping[str, Any]) -> None:
        """Add the result of `drain` of accumulators with the same names."""
        for name, each in drained.items():
            self._parts[name].merge(each)
            self._touched.append(name)
