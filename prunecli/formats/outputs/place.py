"""A place for one file of an output, of whatever kind the output is."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from prunecli.formats.io.sinks import NullSink, Sink
from prunecli.lean import dataclass

__all__ = ["NOWHERE", "Place"]


@dataclass(frozen=True, slots=True)
class Place:
    """A place for a file: `begin` returns a sink for a file of some size, None if that is not known yet.

    An `ordered` place takes bytes in order only, and must know the size.
    """

    begin: Callable[[int | None], AbstractContextManager[Sink]]
    ordered: bool = False


NOWHERE = Place(lambda size: nullcontext(NullSink()))
"""The place of a dry run."""
