"""What a person is shown of a string from a file, and of an error that holds long ones."""

import ast
import functools
import importlib
import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecli import errors
from prunecli.errors import UsageError, fit_line, messages_for, raised_in, show
from prunecli.terms import CLONE, FORCE, HERE, OUTPUT, SUBJECT, Interface, render

PACKAGE = Path(errors.__file__).parent


def test_what_is_printable_is_shown_as_it_is_and_nothing_else() -> None:
    unfit = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    printable = [char for char in map(chr, range(sys.maxunicode + 1)) if char.isprintable()]
    assert not [char for char in printable if unicodedata.category(char) in unfit]
    assert [char for char in printable[::100] if show(char) != char] == []
    for char in ("\x1b", "\x85", "\u200b", "\u202e", "\u2028", "\ud800", "\ue000", "\U0010ffff"):
        assert show(f"a{char}b") == "a" + char.encode("unicode_escape").decode("ascii") + "b"
    assert show("a\u00a0b") == "a\u00a0b"


LONG = "/scratch/" + "a-very-long-name-of-a-folder/" * 40 + "model.safetensors"
SPACED = LONG.replace("-", " ")
LINE = 300 - len("prunecli: error: ")
OPTION = re.compile(r"(?<![\w-])(--[a-z]|-o\b)")


def errors_of(path: Path) -> Iterator[tuple[str, list[ast.expr]]]:
    """Yield where an error or a note of ours is made, and what its message is put together from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if isinstance(getattr(errors, name, None), type) or name == "note":
            message = node.args[0]
            if isinstance(message, ast.JoinedStr):
                yield f"{path.name}:{node.lineno}", message.values
            elif isinstance(message, ast.Constant):
                yield f"{path.name}:{node.lineno}", [message]


def filled(parts: list[ast.expr], module: ModuleType, value: str) -> str:
    """Put a message together; what is not known before is a long value, as it is shown."""
    text = ""
    for part in parts:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id.isupper():
            constant = str(getattr(module, part.value.id))
            text += "\0" + show(value) + "\0" if constant == HERE else render(constant)
        else:
            text += "\0" + show(value) + "\0"
    return text


@functools.cache
def messages() -> list[tuple[str, list[ast.expr], str]]:
    """Return where each message of the package is made, its parts, and the module."""
    return [
        (where, parts, ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
        for path in sorted(PACKAGE.rglob("*.py"))
        for where, parts in errors_of(path)
    ]


def test_there_are_messages_to_look_at() -> None:
    assert len(messages()) > 200
    assert sum("; " in filled(parts, importlib.import_module(name), "") for _, parts, name in messages()) > 100


@pytest.mark.parametrize("value", [LONG, SPACED], ids=["words", "spaces"])
def test_a_long_path_never_costs_the_remedy(value: str) -> None:
    """Of each message that the package can make, what follows the last semicolon is there, and a line holds it all."""
    lost = []
    for where, parts, name in messages():
        message = filled(parts, importlib.import_module(name), value)
        line = fit_line(message.replace("\0", ""), LINE)
        assert len(line) <= LINE, where
        head, mark, remedy = message.rpartition("; ")
        if "\0" in remedy and value == SPACED:
            continue  # such a name may be cut anywhere
        fixed = [each for number, each in enumerate(remedy.split("\0")) if number % 2 == 0]
        at = line.find("; " + fixed[0]) if mark else 0
        for each in fixed if mark else []:
            at = line.find(each, at) if at >= 0 else at
        if at < 0 or (mark and "\0" not in remedy and not line.endswith("; " + remedy)):
            lost.append((where, line))
        if head and "\0" not in head.partition(" ")[0]:
            assert line.startswith(head.partition(" ")[0]), where
    assert lost == []


def test_both_ends_of_a_long_path_are_shown() -> None:
    line = fit_line(f"cannot write {show(LONG)}: No space left on device; free some, or write elsewhere with -o", LINE)
    assert line.startswith("cannot write /scratch/a-very-long")
    assert line.endswith("/model.safetensors: No space left on device; free some, or write elsewhere with -o")
    assert len(line) <= LINE
    assert line.count("…") == 1


def test_what_is_resumed_is_said_behind_the_remedy_of_the_error() -> None:
    message = f"cannot write {show(SPACED)}: it needs 9 bytes; free some; what is finished is kept, go on with --resume"
    line = fit_line(message, LINE)
    assert line.endswith(": it needs 9 bytes; free some; what is finished is kept, go on with --resume")


@given(st.text(), st.integers(80, 300))
def test_any_message_becomes_one_printable_line(message: str, limit: int) -> None:
    line = fit_line(message, limit)
    assert len(line) <= limit
    assert line.isprintable()
    if len(message) <= limit and message.isprintable():
        assert line == " ".join(message.split())


def test_a_message_uses_the_terms_of_the_interface() -> None:
    message = f"{SUBJECT} is there; name another {OUTPUT}, or give {FORCE}"
    assert str(UsageError(message)) == "the checkpoint is there; name another -o, or give --force"
    with pytest.raises(UsageError) as files, messages_for(Interface.FILES):
        raise UsageError(message)
    assert str(files.value) == "the checkpoint is there; name another output, or give force=True"
    with pytest.raises(UsageError) as modules, messages_for(Interface.MODULES):
        raise UsageError(f"{message}, or {CLONE}")
    assert str(modules.value).startswith("the module is there; ")
    assert str(modules.value).endswith("force=True, or give one of them memory of its own by clone()")


def test_what_is_added_to_an_error_uses_these_terms_too() -> None:
    with pytest.raises(UsageError) as failed, messages_for(Interface.FILES):
        raise UsageError(f"no {FORCE}").inside("group 2").advising(f"go on with {OUTPUT}")
    assert str(failed.value) == "group 2: no force=True; go on with output"


def test_who_reads_a_file_names_it_in_the_errors_of_its_parts() -> None:
    with (
        pytest.raises(UsageError, match=r"^m\.pt: payload w is cut$"),
        raised_in("m.pt"),
        raised_in(f"{HERE}: payload w"),
    ):
        raise UsageError(f"{HERE} is cut")
    with pytest.raises(UsageError, match=r"^inner is cut$"), raised_in("outer"), raised_in("inner"):
        raise UsageError(f"{HERE} is cut")
    assert str(UsageError(f"{HERE} is cut")) == "the file is cut"


def test_a_name_from_a_file_cannot_make_a_term() -> None:
    assert render(show(FORCE)) == show(FORCE)
    assert str(UsageError(f"{show(FORCE)} is a name")).startswith("\\ue000--force")


def test_no_message_spells_an_option_out() -> None:
    """Options in messages are terms: what is `--untie` in a shell is `untie=True` in Python."""
    spelled = [
        where
        for layer in ("surgery", "formats")
        for path in sorted((PACKAGE / layer).rglob("*.py"))
        if path.parent.name != "outputs"
        for where, parts in errors_of(path)
        if any(OPTION.search(str(part.value)) for part in parts if isinstance(part, ast.Constant))
    ]
    assert spelled == []
