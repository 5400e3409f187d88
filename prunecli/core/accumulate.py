"""Counts gathered from blocks of data: in any order, by many threads, by several runs and ranks.

The work on a block and the sum are apart. Threads compute what is *found* in a block, each by itself, from things that
do not change. What they found is then added to accumulators by one thread at a time, so that no accumulator needs a
lock, and an edit that holds none can be carried out any number of times.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar

__all__ = ["Accumulator", "Accumulators"]

Found = TypeVar("Found", contravariant=True)


class Accumulator(Protocol[Found]):
    """A sum of what was found in blocks, whatever their order; not for several threads at once."""

    def add(self, found: Found) -> None:
        """Add what was found in one block."""

    def drain(self) -> Any:
        """Return all that was added, as JSON data, and start anew; None if nothing was."""

    def merge(self, drained: Any) -> None:
        """Add what an accumulator of the same kind returned from `drain`, here or in another process."""


class Accumulators:
    """Several accumulators by name as one, which drains into an object with an entry for each that has something.

    Only what was added through it is drained: of very many, a block concerns few.
    """

    __slots__ = ("_parts", "_touched")

    def __init__(self, parts: Mapping[str, Accumulator[Any]]) -> None:
        self._parts = parts
        self._touched: dict[str, None] = {}

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add what was found, each with the name of its accumulator."""
        for name, each in found:
            self._parts[name].add(each)
            self._touched[name] = None

    def drain(self) -> dict[str, Any] | None:
        """Drain all of them; None if none has anything."""
        touched, self._touched = self._touched, {}
        drained = {name: self._parts[name].drain() for name in touched}
        return {name: each for name, each in drained.items() if each is not None} or None

    def merge(self, drained: Mapping[str, Any]) -> None:
        """Add what accumulators of the same names were drained into."""
        for name, each in drained.items():
            self._parts[name].merge(each)
            self._touched[name] = None
