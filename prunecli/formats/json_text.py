"""JSON objects that files hold: read with every name once, as nobody can say which of two is meant."""

import json
from collections import Counter
from typing import Any

from prunecli.errors import DamagedError, show

__all__ = ["parse_object"]


def parse_object(raw: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object; `what` is how messages call it.

    Raises:
        DamagedError: it is none, or has a name twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
            raise DamagedError(f"{what} has {show(twice)} twice; fetch it again")
        return found

    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise DamagedError(f"{what} is no JSON; it is damaged, fetch it again") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{what} is no JSON object; it is damaged, fetch it again")
    return content
