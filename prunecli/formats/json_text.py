"""Read JSON from files; an object with the same name twice is refused, because it is ambiguous."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from prunecli.errors import DamagedError, UnsafeError, show

__all__ = ["parse_json", "parse_object"]

_ROOM = 150 << 20
"""The most bytes for the objects of a text, beyond its letters: enough for a header with 200,000 tensors."""

_COSTS = {b"[": 64, b"{": 240, b",": 16, b'"': 30}
"""Approximate bytes of memory for each character: a list, a dict with three entries, a list item, half a string."""


def parse_object(
    raw: bytes, what: str, compact: Callable[[dict[str, Any]], Any] | None = None, ratio: int = 1
) -> dict[str, Any]:
    """Return a JSON object as a dict; `what` names the text in messages.

    `compact` returns what takes the place of each object inside; there may be very many. The objects of a large text
    may take `ratio` times the memory of its letters.

    Raises:
        DamagedError: it is not a JSON object, or has a name twice.
        UnsafeError: its objects would take far more memory than the text.
    """
    content = parse_json(raw, what, compact, ratio)
    if not isinstance(content, dict):
        raise DamagedError(f"{what} is not a JSON object; it is damaged, fetch it again")
    return content


def parse_json(raw: bytes, what: str, compact: Callable[[dict[str, Any]], Any] | None = None, ratio: int = 1) -> Any:
    """Return any JSON value; `what`, `compact` and `ratio` are as for `parse_object`.

    Raises:
        PrunecliError: as for `parse_object`.
    """
    if len(raw) * max(_COSTS.values()) > _ROOM:
        asked = sum(raw.count(letter) * cost for letter, cost in _COSTS.items())
        if asked > _ROOM + ratio * len(raw):
            raise UnsafeError(f"{what} asks for more objects than its size promises; no model's does")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise DamagedError(f"{what} has {show(twice)} twice; fetch it again")
        return found if compact is None else compact(found)

    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise DamagedError(f"{what} is not JSON; it is damaged, fetch it again") from None
