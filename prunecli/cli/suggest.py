"""What was probably meant by a word that is none of those known."""

import difflib
from collections.abc import Sequence

__all__ = ["nearest"]


def nearest(word: str, known: Sequence[str], most: int) -> list[str]:
    """Return the known words most like a mistyped one, the likeliest first; those that it begins with count, too.

    >>> nearest("aply", ["apply", "remove", "report"], 1)
    ['apply']
    """
    begun = [each for each in known if len(word.strip("-")) > 1 and each.startswith(word)]
    near = difflib.get_close_matches(word, known, n=most, cutoff=0.6)
    return list(dict.fromkeys((*begun, *near)))[:most]
