"""Suggestions for mistyped names and words ("did you mean")."""

import difflib
import heapq
import re
from collections.abc import Iterable, Sequence

from prunecli.errors import show
from prunecli.terms import LISTING

__all__ = ["nearest_names", "nearest_word", "no_match"]

_PART = re.compile(r"\d+|[^\W\d_]+")
"""A part of a name: letters or digits in a row. Separators are ignored, as they are often mistyped."""

_SHORTLIST = 40
"""The most names to compare letter by letter."""

_MOST_PARTS = 20_000
"""With more distinct parts than this, a mistyped part is compared only with parts of similar length and beginning."""

_ALIKE = 0.65
_ALIKE_WORDS = 0.7
_LONGEST = 400
"""The number of characters of a name that are compared."""


def nearest_word(word: str, known: Sequence[str]) -> str | None:
    """Return the known word most like a mistyped one, or else the only one that begins with it; None without either.

    Dashes at the beginning are not compared, as they would make all options alike; nor are case, `-` and `_`.

    >>> nearest_word("aply", ["apply", "remove", "report"])
    'apply'
    >>> nearest_word("N-of-M", ["params", "n_of_m"])
    'n_of_m'
    """
    bare = {_bare(each): each for each in known}
    word = _bare(word)
    near = difflib.get_close_matches(word, bare, n=1, cutoff=_ALIKE_WORDS)
    begun = [each for each in bare if len(word) > 1 and each.startswith(word)]
    found = near or (begun if len(begun) == 1 else [])
    return bare[found[0]] if found else None


def _bare(word: str) -> str:
    return word.lstrip("-").replace("_", "-").casefold()


def no_match(option: str, pattern: str, names: Sequence[str]) -> str:
    """Return the sentence on a pattern that matches none of the names: what was probably meant, if anything is alike.

    >>> no_match("-p", "fc1", ["fc1.weight", "fc2.weight"])
    "-p fc1 is a module; for its parameters, write -p 'fc1.*'"
    """
    shown = show(pattern, 80) or "''"
    if pattern and any(name.startswith(f"{pattern}.") for name in names):
        return f"{option} {shown} is a module; for its parameters, write {option} '{shown}.*'"
    if pattern and sum(name.startswith(pattern) for name in names) > 1:
        return f"{option} {shown} matches nothing; did you mean {option} '{shown}*'?"
    near = nearest_names(pattern.removeprefix("re:"), names, 1)
    remedy = f"did you mean {show(near[0], 80)}?" if near else f"{LISTING} lists all names"
    return f"{option} {shown} matches nothing; {remedy}"


def nearest_names(wanted: str, names: Sequence[str], most: int) -> list[str]:
    """Return the names most like a mistyped one, or like a pattern that matches nothing; the likeliest first.

    Names are compared part by part, which is fast even for 90,000 names. A wrong letter in a part, another separator,
    and a missing or additional part reduce the likeness a little. Names without a common part are never returned.

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
    """Return for each known part how well it matches one of the wanted parts."""
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
    """Return the sum of the wanted parts' weights; numbers alone do not count, and an extra part costs little."""
    total = sum(weights.get(part, 0.0) for part in dict.fromkeys(found))
    words = any(part in weights for part in found if not part.isdigit())
    return total - 0.05 * abs(len(found) - wanted) if words or not any(not part.isdigit() for part in weights) else 0.0
