"""The screen that text is formatted for: a terminal, or a stream without a size."""

import os
from collections.abc import Mapping
from typing import TextIO

from prunecli.lean import dataclass

__all__ = ["PAGE", "Screen", "screen_of"]

_SAMPLE = "█▏…├│└×"


@dataclass(frozen=True, slots=True)
class Screen:
    """The width and height that text has to fit; None is unlimited.

    `live`: it is a terminal, for which bars and a tree of modules are drawn. `colour`: escape sequences for colours are
    allowed. `blocks`: the encoding has block and line characters.
    """

    width: int | None = None
    height: int | None = None
    live: bool = False
    colour: bool = False
    blocks: bool = True

    def paint(self, text: str, style: str) -> str:
        """Return a text in a style (numbers of an SGR sequence), if the screen has colours."""
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and style and text else text

    @property
    def mark(self) -> str:
        """The mark for omitted text."""
        return "…" if self.blocks else "~"


PAGE = Screen()
"""A file or a pipe: text is neither shortened nor coloured."""


def screen_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """Return the screen of a stream: a terminal has its own size, or that in `COLUMNS` and `LINES`.

    `NO_COLOR` and `TERM=dumb` turn colours off; `FORCE_COLOR` turns them on, except over `NO_COLOR`. A stream that is
    not a terminal has no width, so nothing is clipped.
    """
    live = stream.isatty()
    colour = bool(environ.get("FORCE_COLOR")) or (live and environ.get("TERM") != "dumb")
    colour = colour and not environ.get("NO_COLOR")
    if not live:
        return Screen(colour=colour, blocks=_encodes(stream))
    size = _terminal_size(stream)
    return Screen(
        _number(environ, "COLUMNS") or size[0], _number(environ, "LINES") or size[1], True, colour, _encodes(stream)
    )


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text[:6]) if text.isascii() and text.isdigit() and int(text[:6]) else None


def _terminal_size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24


def _encodes(stream: TextIO) -> bool:
    try:
        _SAMPLE.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
