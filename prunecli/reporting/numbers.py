"""Numbers, sizes and names as text."""

import unicodedata
from collections.abc import Sequence

from prunecli.errors import percent, show

__all__ = ["bar", "cells", "clip_middle", "label_of", "percent", "shape_of", "size_of"]

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")
_EIGHTHS = " ▏▎▍▌▋▊▉"


def size_of(count: int) -> str:
    """Return a number of bytes with its unit, in powers of a thousand.

    >>> size_of(999), size_of(90_852_864), size_of(999_999)
    ('999 B', '90.9 MB', '1.00 MB')
    """
    if count < 1000:
        return f"{count} B"
    value, left = count / 1000, list(_UNITS)
    while value >= 999.5 and len(left) > 1:
        value /= 1000
        left.pop(0)
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {left[0]}"


def shape_of(shape: Sequence[int]) -> str:
    """Return a shape as text: `64x512`, or `scalar`."""
    return "x".join(map(str, shape)) or "scalar"


def label_of(name: str, limit: int = 200) -> str:
    """Return a name, or a part of one, in a form that is safe to show; '' if it is empty."""
    return show(name, limit) or "''"


def bar(share: float | None, width: int, *, blocks: bool = True) -> str:
    """Return a share as a bar of `width` cells, which is full only for everything and empty only for nothing.

    >>> bar(0.5, 3), bar(0.001, 3), bar(0.999, 3), bar(0.5, 4, blocks=False)
    ('█▌ ', '▏  ', '██▉', '##..')
    """
    if share is None:
        return " " * width
    steps = 8 if blocks else 1
    filled = round(share * width * steps)
    if share > 0:
        filled = max(filled, 1)
    if share < 1:
        filled = min(filled, width * steps - 1)
    if not blocks:
        return "#" * filled + "." * (width - filled)
    whole, part = divmod(filled, 8)
    return ("█" * whole + (_EIGHTHS[part] if part else "")).ljust(width)


def cells(text: str) -> int:
    """Return the number of columns that a text takes in a terminal: wide characters take two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_cell, text))


def _cell(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip_middle(text: str, width: int, mark: str = "…") -> str:
    """Return a text cut in the middle if it takes more than `width` columns: both ends of a name matter.

    >>> clip_middle("encoder.layer.0.weight", 11)
    'encod…eight'
    """
    if cells(text) <= width:
        return text
    room = width - len(mark)
    if room < 1:
        return mark[: max(width, 0)]
    head = _taken(text, room - room // 2)
    tail = _taken(text[::-1], room // 2)[::-1]
    return head + mark + tail


def _taken(text: str, width: int) -> str:
    used = 0
    for number, char in enumerate(text):
        used += _cell(char)
        if used > width:
            return text[:number]
    return text
