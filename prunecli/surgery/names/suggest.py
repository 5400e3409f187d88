"""Which names somebody probably meant: by their parts, so that 90,000 of them are looked through in a moment."""

import difflib
import heapq
import re
from collections.abc import Iterable, Sequence

__all__ = ["nearest_names"]

_PART = re.compile(r"\d+|[^\W\d_]+")
"""Parts of names: letters or digits in a row. What stands between them may be mistaken for something else."""

_SHORTLIST = 40
"""Names that are compared letter by letter."""

_MOST_PARTS = 20_000
"""Different parts beyond which only those of a similar length and beginning are compared with a mistyped one."""

_ALIKE = 0.65
_LONGEST = 400
"""Characters of a name that count."""


def nearest_names(wanted: str, names: Sequence[str], most: int) -> list[str]:
    """Return the names most like a mistyped one, or like a pattern that matches nothing; the likeliest first.

    A wrong letter in a part, a wrong separator, a part that is missing or too much: each costs a little. Names that
    have no part in common with it are none that were meant.

    >>> nearest_names("encoder/layer/0/wieght", ["encoder.layer.0.weight", "encoder.layer.1.weight", "head.bias"], 1)
    ['encoder.layer.0.weight']
    """
    wanted = wanted[:_LONGEST]
    parts = _parts(wanted)
    if not parts:
        return []
    split = {name: _parts(name) for name in names}
    weights = _weights(parts, {part for found in split.values() for part in found})
    scores = {name: score for name, found in split.items() if (score := _score(found, weights, len(parts))) > 0}
    short = heapq.nlargest(_SHORTLIST, scores, key=lambda name: scores[name])
    matcher = difflib.SequenceMatcher(autojunk=False)
    matcher.set_seq2(" ".join(parts))

    def likeness(name: str) -> float:
        matcher.set_seq1(" ".join(split[name]))
        return scores[name] / len(parts) + matcher.ratio()

    return heapq.nlargest(most, short, key=likeness)


def _parts(name: str) -> list[str]:
    return _PART.findall(name[:_LONGEST].casefold())


def _weights(parts: Iterable[str], known: set[str]) -> dict[str, float]:
    """Return how well each part that names have stands for one of those wanted."""
    weights: dict[str, float] = {}
    for part in dict.fromkeys(parts):
        if part in known:
            weights[part] = 1.0
        elif not part.isdigit():
            near = difflib.get_close_matches(part, _similar(part, known), n=5, cutoff=_ALIKE)
            weights.update((each, max(weights.get(each, 0.0), 0.8)) for each in near)
    return weights


def _similar(part: str, known: set[str]) -> list[str]:
    if len(known) <= _MOST_PARTS:
        return [each for each in known if abs(len(each) - len(part)) <= len(part)]
    return [each for each in known if abs(len(each) - len(part)) <= 2 and each[:1] == part[:1]]


def _score(found: Sequence[str], weights: dict[str, float], wanted: int) -> float:
    """Add up the parts that were wanted; numbers alone make no likeness, and a part more or less costs little."""
    total = sum(weights.get(part, 0.0) for part in dict.fromkeys(found))
    words = any(part in weights for part in found if not part.isdigit())
    return total - 0.05 * abs(len(found) - wanted) if words or not any(not part.isdigit() for part in weights) else 0.0
