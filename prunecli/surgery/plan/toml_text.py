"""TOML that a person wrote, parsed in a time that grows with its length."""

import re
from typing import Any

from prunecli.errors import UsageError, show
from prunecli.surgery.names.parameters import DEEPEST

__all__ = ["parse_toml"]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'')
_BETWEEN_NAMES = re.compile(r"[^\w\s.-]")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML text.

    Raises:
        UsageError: a name has more parts than `DEEPEST`; the parser takes time by the square of their number.
        ValueError: it is not TOML (`tomllib.TOMLDecodeError`), or has a number that is too long.
        RecursionError: lists or tables are nested too deeply.
    """
    import tomllib

    for line in text.splitlines():
        if line.count(".") > DEEPEST and _parts(line) > DEEPEST:
            raise UsageError(f"{show(line, 60)} is nested too deeply for a name")
    return tomllib.loads(text)


def _parts(line: str) -> int:
    """Return the number of parts of the longest name in a line; a string is one part."""
    code = _STRING.sub("_", line).partition("#")[0]
    return max(name.count(".") for name in _BETWEEN_NAMES.split(code)) + 1
