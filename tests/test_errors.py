"""What a person is shown of a string from a file."""

import sys
import unicodedata

from prunecli.errors import show


def test_what_is_printable_is_shown_as_it_is_and_nothing_else() -> None:
    unfit = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    printable = [char for char in map(chr, range(sys.maxunicode + 1)) if char.isprintable()]
    assert not [char for char in printable if unicodedata.category(char) in unfit]
    assert [char for char in printable[::100] if show(char) != char] == []
    for char in ("\x1b", "\x85", "\u200b", "\u202e", "\u2028", "\ud800", "\ue000", "\U0010ffff"):
        assert show(f"a{char}b") == "a" + char.encode("unicode_escape").decode("ascii") + "b"
    assert show("a\u00a0b") == "a\u00a0b"
