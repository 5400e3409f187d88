"""What can go wrong, and the exit code each kind ends a command with.

::

    PrunecliError                  1  our bug, when nothing below fits
    |-- UsageError                 2  a bad option or amount, a pattern that matches nothing, an undecided tie
    |-- UnreadableError            3  the input is missing, forbidden, or not a regular file
    |-- DamagedError               4  the input contradicts itself, or ends early
    |   `-- UnsupportedError       4  the input is sound, and nothing prunecli can operate on
    |-- UnsafeError                5  the input would run code, leave its folder, or exceed the limits
    |-- OutputError                6  the output was not written: no space, no permission, it exists
    |-- ThresholdError             7  a threshold or a verification was not met
    `-- PeerError                  *  another rank failed, and says why; the code is that rank's

A message is one line that says what, where, and the remedy. Every string in it that comes from a file has gone
through `show` first, so that a hostile name can neither move the cursor nor add a line.
"""

import unicodedata

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
    "show",
]


class PrunecliError(Exception):
    """The root: `except PrunecliError` catches everything that prunecli raises on purpose."""

    exit_code = 1


class UsageError(PrunecliError, ValueError):
    """The request cannot be carried out as it was put. Also a `ValueError`, as torch raises for a bad amount."""

    exit_code = 2


class UnreadableError(PrunecliError):
    """The input is missing, forbidden, or not a regular file."""

    exit_code = 3


class DamagedError(PrunecliError):
    """The input contradicts itself or its format."""

    exit_code = 4


class UnsupportedError(DamagedError):
    """The input may be sound, but it is nothing that prunecli can operate on."""


class UnsafeError(PrunecliError):
    """Reading the input the usual way would run code from it, leave its folder, or exceed the limits."""

    exit_code = 5


class OutputError(PrunecliError):
    """The output was not written. Whatever stood under its name is as it was."""

    exit_code = 6


class ThresholdError(PrunecliError):
    """A threshold the user set, or a verification, was not met."""

    exit_code = 7


class PeerError(PrunecliError):
    """Another process of a spread run failed. That one has the message; this one has its exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("another rank failed; its message says why")
        self.exit_code = exit_code


# Categories that move a cursor, hide, reorder or break text: controls, formats (bidi, zero width), surrogates,
# private use, unassigned, line and paragraph separators.
_UNSHOWABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def show(text: object, limit: int = 200) -> str:
    r"""Make a string that came from a file (or a command line) fit for a terminal, a log, a table.

    Control, bidirectional, zero-width and unassigned characters and lone surrogates are written as escapes
    (`\x1b`, `\u202e`), and what is longer than `limit` characters is clipped with an ellipsis.

    >>> show("layer\x1b[2J.weight")
    'layer\\x1b[2J.weight'
    """
    raw = str(text)
    clipped = raw[: limit - 1] + "…" if len(raw) > limit else raw
    if clipped.isprintable():  # nearly every name is, and then it has no character of these categories
        return clipped
    shown = "".join(_escape(char) if unicodedata.category(char) in _UNSHOWABLE else char for char in clipped)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
