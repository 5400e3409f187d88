"""The words of a shell's line as it is being typed: split, and quoted again."""

import re
from collections.abc import Sequence

from prunecli.lean import dataclass

__all__ = ["Typed", "last_word", "quoted", "typed_words"]

_SPECIAL = re.compile(r"[^\w./:=@%+,-]")
"""The characters that may be special to bash outside quotes."""

_HARMFUL = {"'": "'", '"': '"$`\\!'}
"""The characters that are special inside quotes."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A line up to the cursor: the words before the last, and the last one, without their quotes.

    `quote` is the quote that is still open, if any. The shell does not replace the first `kept` characters of the word.
    """

    before: Sequence[str]
    word: str
    quote: str
    kept: int


def typed_words(line: str, replaced: str) -> Typed:
    """Return the words of a bash line up to the cursor; `replaced` is the end that a candidate will replace.

    >>> typed_words("prunecli params 'my model.pt' -p re:f", "f")
    Typed(before=['params', 'my model.pt', '-p'], word='re:f', quote='', kept=3)
    """
    words, quote = _split(line)
    kept, _ = _split(line[: len(line) - len(replaced)] if line.endswith(replaced) else line)
    before = words[:-1]
    while before and re.fullmatch(r"\w+=.*", before[0], re.DOTALL):  # A=1 prunecli ...
        before = before[1:]
    return Typed(before[1:], words[-1], quote, len(kept[-1]))


def last_word(text: str) -> str:
    """Return the text of a word that may contain quotes and backslashes, including an open quote.

    >>> last_word("'my mod")
    'my mod'
    """
    return _split(text.replace("\n", " "))[0][-1]


def _split(line: str) -> tuple[list[str], str]:
    """Return the words of a line (the last may be empty), and the quote that is open at its end."""
    words, quote, escaped = [""], "", False
    for char in line:
        if escaped:
            words[-1] += char
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif quote:
            if char == quote:
                quote = ""
            else:
                words[-1] += char
        elif char in "'\"":
            quote = char
        elif char in " \t":
            words += [""] if words[-1] else []
        else:
            words[-1] += char
    return words, quote


def quoted(word: str, quote: str) -> str | None:
    r"""Return a word quoted for bash, inside an open quote or outside quotes; None if it cannot be written there.

    >>> quoted("a b", ""), quoted("a b", "'"), quoted("it's", "'")
    ('a\\ b', 'a b', None)
    """
    if quote:
        return None if any(char in word for char in _HARMFUL[quote]) else word
    return _SPECIAL.sub(r"\\\g<0>", word)
