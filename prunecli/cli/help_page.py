"""The page that `--help` prints: two columns that are aligned in all groups, in colours on a terminal."""

import re
from collections.abc import Sequence

from prunecli.lean import dataclass
from prunecli.reporting.terminal import Screen
from prunecli.reporting.wrap import wrap

__all__ = ["Section", "help_page"]

_WIDEST = 100
_HEAD = 26
"""The most characters of the first column; the text of a longer head is on the next line."""

_HEIGHT = 48
"""Two screens of 24 lines: empty lines between sections are left out where the page would be longer with them."""

_BOLD, _DIM, _USAGE = "1", "2", "33"
_LONG, _SHORT, _VALUE = "1;36", "1;32", "1;33"
"""The styles of names, one-letter names and placeholders, as typer has them with rich."""

_PARTS = re.compile(r"(?P<long>(?<![^ ])(?:--[\w-]+|[a-z]+\Z))|(?P<short>(?<![^ ])-\w\b)|(?P<value>[^ ,]+)")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, with rows of two columns or, for examples, with lines as they are."""

    heading: str
    rows: Sequence[tuple[str, str]] = ()
    lines: Sequence[str] = ()


def help_page(usage: str, summary: str, sections: Sequence[Section], closing: str, screen: Screen) -> str:
    """Return the page; `usage` begins with the name of the command, and `closing` may be empty."""
    width = min(screen.width or 80, _WIDEST)
    heads = [len(head) for section in sections for head, _ in section.rows]
    column = max(length for length in heads if length <= _HEAD)
    parts = [[f"  {line}" for line in wrap(summary, width - 2)]]
    parts += [_section(section, column, width, screen) for section in sections]
    parts += [wrap(closing, width)] if closing else []
    height = 2 + sum(len(part) + 1 for part in parts)
    lines = [f"{screen.paint('Usage:', _USAGE)} {screen.paint(usage, _BOLD)}", "", *parts[0], ""]
    for part in parts[1:]:
        lines += [*part, ""] if height <= _HEIGHT else part
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(section: Section, column: int, width: int, screen: Screen) -> list[str]:
    lines = [screen.paint(f"{section.heading}:", _BOLD)]
    lines += [screen.paint(line, _DIM) if line.startswith("  #") else line for line in section.lines]
    for head, text in section.rows:
        first, *rest = wrap(text, max(width - column - 4, 20))
        left = f"  {_painted(head, screen)}"
        if len(head) > column:
            lines.append(left)
            left, head = "  ", ""
        lines.append(f"{left}{' ' * (column - len(head))}  {first}".rstrip())
        lines += [" " * (column + 4) + line for line in rest]
    return lines


def _painted(head: str, screen: Screen) -> str:
    styles = {"long": _LONG, "short": _SHORT, "value": _VALUE}
    return _PARTS.sub(lambda found: screen.paint(found[0], styles[found.lastgroup or "value"]), head)
