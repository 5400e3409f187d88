"""The errors that prunecli raises, and the exit code of a command for each kind.

::

    PrunecliError                  1  our bug, when nothing below fits
    |-- UsageError                 2  a bad option or amount, a pattern that matches nothing, an undecided tie
    |-- UnreadableError            3  the input is missing, forbidden, or not a regular file
    |-- DamagedError               4  the input contradicts itself, or ends early
    |   `-- UnsupportedError       4  the input may be valid, but prunecli cannot operate on it
    |-- UnsafeError                5  the input would run code, leave its folder, or exceed the limits
    |-- OutputError                6  the output was not written: no space, no permission, it exists
    |-- ThresholdError             7  a threshold or a verification was not met
    `-- PeerError                  *  another rank failed and reports why; the code is that rank's

A message is one line that says what failed, where, and the remedy. It names options by `prunecli.terms`. Every string
in it that comes from a file has gone through `show` first, so a hostile name cannot move the cursor or add a line.
"""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Self

from prunecli.terms import HERE, Interface, in_recipe, render

__all__ = [
    "DamagedError",
    "OutputError",
    "PeerError",
    "PrunecliError",
    "ThresholdError",
    "UnreadableError",
    "UnsafeError",
    "UnsupportedError",
    "UsageError",
    "fit_line",
    "messages_for",
    "percent",
    "raised_in",
    "show",
    "worded_as_in_recipe",
]


class PrunecliError(Exception):
    """The base class: `except PrunecliError` catches everything that prunecli raises on purpose."""

    exit_code = 1
    interface = Interface.COMMAND_LINE
    """The interface that the user called; `str` returns the message in its terms."""

    def __str__(self) -> str:
        return render(super().__str__(), self.interface)

    def inside(self, place: str) -> Self:
        """Put the place, which was unknown where the error was raised, before the message, and return the error.

        Without a place (""), the message stays.
        """
        self.args = (f"{place}: {self.args[0]}" if place else self.args[0],)
        return self

    def advising(self, remedy: str) -> Self:
        """Add a remedy to the end of the message, and return the error."""
        self.args = (f"{self.args[0]}; {remedy}",)
        return self


class UsageError(PrunecliError, ValueError):
    """The request cannot be carried out as given. Also a `ValueError`, as torch raises for a bad amount."""

    exit_code = 2


class UnreadableError(PrunecliError):
    """The input is missing, forbidden, or not a regular file."""

    exit_code = 3


class DamagedError(PrunecliError):
    """The input contradicts itself or its format."""

    exit_code = 4


class UnsupportedError(DamagedError):
    """The input may be valid, but prunecli cannot operate on it."""


class UnsafeError(PrunecliError):
    """Reading the input the usual way would run code from it, leave its folder, or exceed the limits."""

    exit_code = 5


class OutputError(PrunecliError):
    """The output was not written. An earlier file or folder with its name is unchanged."""

    exit_code = 6


class ThresholdError(PrunecliError):
    """A threshold that the user set was not met, or a verification failed."""

    exit_code = 7


class PeerError(PrunecliError):
    """Another process of a run with several ranks failed. It has the message; this process has its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another rank failed; its message says why")
        self.exit_code = exit_code


@contextmanager
def raised_in(place: str) -> Iterator[None]:
    """Replace `HERE` by `place` in the messages of errors raised in the block."""
    try:
        yield
    except PrunecliError as error:
        if error.args and HERE in error.args[0]:
            error.args = (error.args[0].replace(HERE, place),)
        raise


@contextmanager
def messages_for(interface: Interface) -> Iterator[None]:
    """Use the terms of an interface in the messages of errors raised in the block."""
    try:
        yield
    except PrunecliError as error:
        error.interface = interface
        raise


@contextmanager
def worded_as_in_recipe() -> Iterator[None]:
    """Use the keys of recipes in the messages of errors raised in the block."""
    try:
        yield
    except PrunecliError as error:
        if error.args:
            error.args = (in_recipe(error.args[0]),)
        raise


# Categories that move a cursor, hide, reorder or break text: controls, formats (bidi, zero width), surrogates,
# private use, unassigned, line and paragraph separators.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def show(text: object, limit: int = 200) -> str:
    r"""Return a string from a file (or a command line) in a form that is safe in a terminal, a log or a table.

    Control, bidirectional, zero-width and unassigned characters and lone surrogates are written as escapes
    (`\x1b`, `\u202e`). A text longer than `limit` characters loses its middle, because both ends of a path or a name
    matter more.

    >>> show("layer\x1b[2J.weight")
    'layer\\x1b[2J.weight'
    >>> show("/scratch/runs/2026/model.safetensors", 25)
    '/scratch/r…el.safetensors'
    """
    clipped = _without_middle(str(text), limit)
    if clipped.isprintable():  # true for nearly all names; then it has no characters of these categories
        return clipped
    shown = "".join(_escape(char) if unicodedata.category(char) in _UNSHOWABLE else char for char in clipped)
    return _without_middle(shown, limit)


def percent(part: float, whole: float, digits: int = 2) -> str:
    """Return a share as a percentage; it is 0% only for nothing, and 100% only for everything.

    >>> percent(1, 4), percent(1, 10**9), percent(10**9 - 1, 10**9), percent(0, 0)
    ('25.00%', '<0.01%', '>99.99%', '0.00%')
    """
    share = part / whole if whole else 0.0
    text = f"{share:.{digits}%}"
    if part > 0 and text == f"{0:.{digits}%}":
        return f"<{10.0**-digits:.{digits}f}%"
    if part < whole and text == f"{1:.{digits}%}":
        return f">{100 - 10.0**-digits:.{digits}f}%"
    return text


def fit_line(message: str, limit: int) -> str:
    """Return a message as one printable line of at most `limit` characters.

    Long words, which are paths and names, lose their middles first; then the text before the remedy does. The remedy,
    which follows the last semicolon, is kept whole unless it alone is too long.

    >>> fit_line("cannot write /data/a-very-long-path-to-a-checkpoint.pt: no space left; free some", 60)
    'cannot write /data/a-ver…kpoint.pt: no space left; free some'
    """
    # Escaped first (an escape has at most ten characters), so that the limit applies to the text as shown.
    line = show(" ".join(message.split()), 10 * len(message))
    if len(line) <= limit:
        return line
    head, mark, remedy = line.rpartition("; ") if "; " in line else (line, "", "")
    remedy = _shorten_words(remedy, limit - len(mark) - min(_LEAST, len(head)))
    room = limit - len(mark) - len(remedy)
    if room < min(_LEAST, len(head)):  # the semicolon was not before a remedy but, for example, in a name
        return _without_middle(line, limit)
    return _without_middle(_shorten_words(head, room), room) + mark + remedy


_LEAST = 60
"""The least number of characters that are kept before the remedy of a message."""

_SHORTEST = 24
"""The length below which long words are not shortened."""


def _shorten_words(text: str, limit: int) -> str:
    """Return a text with the longest words cut in the middle, so that it has `limit` characters if this is enough."""
    words = re.split(r"( )", text)
    lengths = sorted({_SHORTEST, *(len(word) for word in words if len(word) > _SHORTEST)}, reverse=True)
    for longest, shorter in pairwise(lengths):
        excess = len(text) - limit
        if excess <= 0:
            break
        count = sum(len(word) >= longest for word in words)
        length = max(shorter, longest - -(-excess // count))
        words = [_without_middle(word, length) for word in words]
        text = "".join(words)
    return text


def _without_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - 1) * 3 // 5
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
