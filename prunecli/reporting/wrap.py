"""Sentences wrapped at words; commands, options with their values, and quoted texts stay on one line if they fit."""

import re

from prunecli.reporting.numbers import cells

__all__ = ["wrap"]

_VALUE = r"(?:'[^']*'\S*|[^\sa-z']\S*)"
"""The value of an option, or another option: quoted, or not in small letters as the words of a sentence are."""

_UNIT = re.compile(
    rf"""
    [(]?`[^`]*`\S*                                           # a command between backticks
    | [(]?'[^']*'\S*                                         # a quoted text
    | prunecli[ ][a-z]+\b\S*(?:[ ](?:{_VALUE}|\S*[./]\S+))*  # a command without marks
    | [(]?--?[a-z]\S*(?:[ ]{_VALUE})*                        # options with their values
    | \S+
    """,
    re.VERBOSE,
)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Return the lines of a text, all but the first of them indented.

    A word longer than a line has a line of its own, unbroken, so that it can be copied.

    >>> wrap("nothing is selected; name parameters with -p '*.weight' --min-dim 2", 60, "  ")
    ['nothing is selected; name parameters with', "  -p '*.weight' --min-dim 2"]
    """
    lines, line = [], ""
    for unit in _UNIT.findall(text):
        for word in [unit] if cells(indent + unit) <= width else unit.split(" "):
            longer = f"{line} {word}" if line else word
            if cells(longer) <= width or not line:
                line = longer
            else:
                lines.append(line)
                line = indent + word
    return [*lines, line]
