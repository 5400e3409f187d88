"""What a person sees of the text that commands write to a terminal: the lines of the screen after it."""

import re

__all__ = ["Screen"]

_PART = re.compile(
    r"\x1b\[(?P<numbers>\??[\d;]*)(?P<command>[A-Za-z])|\x1b\]8;[^\x1b\a]*(\x1b\\|\a)|(?P<plain>.)", re.DOTALL
)


class Screen:
    """A terminal as wide as `columns`, whose lines are never scrolled away; `broken` are those it had to break."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._lines: list[list[str]] = [[]]
        self._row = 0
        self._column = 0
        self.broken: list[str] = []

    def show(self, text: str) -> "Screen":
        """Take text with control sequences, as a program writes it."""
        for part in _PART.finditer(text):
            if part["plain"]:
                self._put(part["plain"])
            elif part["command"]:
                self._move(part["command"], part["numbers"])
        return self

    @property
    def text(self) -> str:
        """What stands there, without blanks at the ends of lines and empty lines at the end."""
        return "\n".join("".join(line).rstrip() for line in self._lines).rstrip("\n")

    def _put(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\n":
            self._down(1)
        elif character == "\t":
            self._column = min(self._column // 8 * 8 + 8, self._columns - 1)
        elif character.isprintable():
            self._write(character)
        else:
            raise ValueError(f"no terminal is known to show {character!r}")

    def _down(self, lines: int) -> None:
        self._row += lines
        self._lines.extend([] for _ in range(self._row + 1 - len(self._lines)))

    def _write(self, character: str) -> None:
        if self._column == self._columns:
            self.broken.append("".join(self._lines[self._row]) + character)
            self._column = 0
            self._down(1)
        line = self._lines[self._row]
        line.extend(" " * (self._column + 1 - len(line)))
        line[self._column] = character
        self._column += 1

    def _move(self, command: str, numbers: str) -> None:
        if command in "mhl":  # colours, and whether the cursor is seen
            return
        if command == "K":
            del self._lines[self._row][0 if numbers == "2" else self._column :]
        elif command == "A":
            self._row -= int(numbers or 1)
        elif command == "B":
            self._down(int(numbers or 1))
        elif command == "G":
            self._column = int(numbers or 1) - 1
        else:
            raise ValueError(f"this screen does not know CSI {numbers}{command}")
