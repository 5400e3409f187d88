"""Notes, errors and other sentences on standard error: one line each in a log, wrapped at words on a terminal."""

import os
import shlex
import sys
from typing import TextIO

from prunecli.errors import fit_line, show
from prunecli.reporting.terminal import Screen, screen_of
from prunecli.reporting.wrap import wrap
from prunecli.terms import render

__all__ = ["print_error", "print_note", "print_path", "print_sentence", "shown_path"]

_LINE = 300
"""The most characters of a note, or of an error line with its prefix."""

_PATH = 1000
"""The most characters of a path in a sentence on what was written."""

_NAME = "prunecli: "
_INDENT = "  "
_RED, _DIM = "1;31", "2"


def print_note(text: str) -> None:
    """Print a note on standard error."""
    _print("note:", fit_line(render(text), _LINE), _DIM)


def print_error(text: str) -> None:
    """Print the error that ends a command on standard error."""
    _print("error:", fit_line(text, _LINE - len(f"{_NAME}error: ")), _RED)


def print_sentence(text: str, stream: TextIO | None = None) -> None:
    """Print a sentence without a prefix on standard error, or another stream; its names are safe to print."""
    stream = stream or sys.stderr
    stream.writelines(f"{line}\n" for line in _lines(text, screen_of(stream)))


def print_path(location: object) -> None:
    """Print the path of an output on standard output, unchanged: it may contain any bytes, and scripts read it."""
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(str(location)) + b"\n")


def shown_path(location: object) -> str:
    """Return a path as a shell needs it, for a sentence on what was written."""
    return show(shlex.quote(str(location)), _PATH)


def _print(kind: str, text: str, style: str) -> None:
    screen = screen_of(sys.stderr)
    first, *rest = _lines(f"{_NAME}{kind} {text}", screen)
    first = _NAME + screen.paint(kind, style) + first.removeprefix(_NAME + kind)
    sys.stderr.writelines(f"{line}\n" for line in (first, *rest))


def _lines(text: str, screen: Screen) -> list[str]:
    return [text] if screen.width is None else wrap(text, screen.width, _INDENT)
