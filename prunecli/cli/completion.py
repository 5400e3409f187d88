"""Answer a shell's request for completions, made when a user presses TAB.

Names from a checkpoint reach a prompt here. So names that a terminal would not show unchanged are not candidates, and
any problem with a checkpoint gives an empty answer. The scripts in `completion_scripts` make the requests.
"""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from typer.core import TyperArgument, TyperOption

from prunecli.cli.help import metavar_of
from prunecli.cli.shell_words import Typed, last_word, quoted, typed_words
from prunecli.errors import show
from prunecli.formats.base import ReadOptions, TensorInfo
from prunecli.formats.opening import open_any
from prunecli.lean import dataclass
from prunecli.reporting.numbers import shape_of
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.roles.mask_layouts import masked_weights

__all__ = ["Answer", "answer", "complete", "in_steps"]

_SECONDS = 4.0
"""The longest time that a shell waits; after that there are no candidates."""

_MANY = 100
"""The most names to offer at once; more are offered module by module, since bash asks before it lists more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The completions of a word. `kind` is "words", "steps" (no space after them) or "files" (left to the shell).

    A candidate is a whole word and its description. `start` is the length of an option and `=` at its beginning.
    """

    kind: str = "words"
    candidates: Sequence[tuple[str, str]] = ()
    start: int = 0


_FILES = Answer("files")


def answer(group: Any, shell: str, arguments: Sequence[str]) -> int:
    """Print the answer to a shell: a line with its kind, then one line per candidate, with its description.

    Bash passes its line up to the cursor and the part of the last word that it will replace; the others pass the words,
    of which fish leaves the last one quoted.
    Returns always 0, and prints nothing on standard error.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    with suppress(Exception):  # a prompt is not the place for errors
        if shell == "bash":
            typed = typed_words(arguments[0], arguments[1])
            lines = _bash_lines(complete(group, typed.before, typed.word), typed)
        else:
            word = last_word(arguments[-1]) if shell == "fish" else arguments[-1]
            found = complete(group, arguments[:-1], word)
            lines = [found.kind, *_lines(found, found.start if shell == "zsh" else 0)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        sys.stdout.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


def _give_up(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


def _lines(found: Answer, start: int) -> Iterator[str]:
    for word, what in found.candidates:
        yield f"{word[start:]}\t{what}" if what else word[start:]


def _bash_lines(found: Answer, typed: Typed) -> list[str]:
    words = (quoted(word[typed.kept :], typed.quote) for word, _ in found.candidates if word.startswith(typed.word))
    return [found.kind, *(word for word in words if word is not None)]


def complete(group: Any, before: Sequence[str], word: str) -> Answer:
    """Return the completions of the last word of a command line, given the words before it."""
    scan = _Scan(group)
    for each in before:
        scan.take(each)
    if scan.waiting is not None:
        return _value(scan, scan.waiting, word, 0)
    if word.startswith("--") and "=" in word and not scan.ended:
        name = word.partition("=")[0]
        option = scan.options.get(name)
        return _value(scan, option, word, len(name) + 1) if option is not None else Answer()
    if word.startswith("-") and not scan.ended:
        return Answer(candidates=[each for each in scan.names() if each[0].startswith(word)])
    if hasattr(scan.command, "commands"):
        commands = ((name, _summary(each.help)) for name, each in scan.command.commands.items())
        return Answer(candidates=[each for each in commands if each[0].startswith(word)])
    arguments = [each for each in scan.command.params if isinstance(each, TyperArgument)]
    several = any(each.nargs == -1 for each in arguments)
    return _FILES if several or len(scan.arguments) < len(arguments) else Answer()


class _Scan:
    """The position of the cursor in a command line: the command, the option that needs a value, the values given."""

    def __init__(self, group: Any) -> None:
        self.arguments: list[str] = []
        self.given: list[tuple[TyperOption, str]] = []
        self.waiting: TyperOption | None = None
        self.ended = False
        self._enter(group)

    def _enter(self, command: Any) -> None:
        self.command = command
        params = [each for each in command.params if isinstance(each, TyperOption) and not each.hidden]
        self.options = {name: each for each in params for name in (*each.opts, *each.secondary_opts)}

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield the long names of the options that may still be given, with their summaries."""
        given = [option for option, _ in self.given]
        for name, option in self.options.items():
            if name.startswith("--") and (option.multiple or option not in given):
                yield name, _summary(option.help)
        yield "--help", "Show this message and exit"

    def value_of(self, name: str) -> str | None:
        """Return the value given to an option, None if it was not given."""
        return next((value for option, value in self.given if name in option.opts), None)

    def take(self, word: str) -> None:
        """Read a word before the cursor."""
        if self.waiting is not None:
            self.given.append((self.waiting, word))
            self.waiting = None
        elif self.ended or not word.startswith("-") or word == "-":
            commands = getattr(self.command, "commands", None)
            if commands is None:
                self.arguments.append(word)
            elif word in commands:
                self._enter(commands[word])
        elif word == "--":
            self.ended = True
        elif word.startswith("--"):
            name, _, value = word.partition("=")
            self._option(name, value if "=" in word else None)
        else:
            self._letters(word[1:])

    def _letters(self, letters: str) -> None:
        """Read `-qp NAME`: flags, and perhaps one option with its value."""
        for place, letter in enumerate(letters, 1):
            option = self.options.get(f"-{letter}")
            self._option(f"-{letter}", letters[place:] or None)
            if option is None or not option.is_flag:
                return

    def _option(self, name: str, value: str | None) -> None:
        option = self.options.get(name)
        if option is None:
            return
        if option.is_flag or value is not None:
            self.given.append((option, value or ""))
        else:
            self.waiting = option


def _summary(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")


def _value(scan: _Scan, option: TyperOption, word: str, start: int) -> Answer:
    """Complete an option's value, which begins at `start` of the word: choices, names or files, as its metavar says."""
    typed, before = word[start:], word[:start]
    metavar = metavar_of(option)
    if option.type_descriptor.is_choice:
        known = [str(getattr(each, "value", each)) for each in option.type_descriptor.choices or ()]
        choices = [(before + each, "") for each in known if each.startswith(typed)]
        return Answer(candidates=choices, start=start)
    if "NAME" in metavar:
        names, whole = _names(scan, typed)
        kind = "words" if whole else "steps"
        return Answer(kind, [(before + name, what) for name, what in names], start)
    return _FILES if any(kind in metavar for kind in ("PATH", "FILE", "CKPT", "FOLDER", "TOML", "JSON")) else Answer()


def _names(scan: _Scan, typed: str) -> tuple[list[tuple[str, str]], bool]:
    """Return the names of the parameters that the command accepts, or modules to complete further."""
    path = _checkpoint(scan)
    if path is None:
        return [], True
    reading = ReadOptions(
        scan.value_of("--key"),
        scan.value_of("--allow-foreign-objects") is not None,
        scan.value_of("--follow-links") is not None,
        read_only=True,
    )
    with open_any(path, reading) as opened:
        found = {each.name: each for each in _beginning(opened.tensors, typed)}
    masked = scan.command.name in ("remove", "restore") or (
        scan.command.name == "extract"
        and scan.value_of("--from-zeros") is None
        and any(each.mask is not None for each in found.values())
    )
    names = [
        name for name, each in found.items() if (each.mask is not None if masked else not each.unprunable_reason())
    ]
    steps, whole = in_steps([name for name in names if _speakable(name)], typed)
    return [(step, _what(found[step]) if step in found else "") for step in steps], whole


def _beginning(tensors: Mapping[str, TensorInfo], typed: str) -> Iterator[Parameter]:
    """Yield the parameters whose names begin with the typed text; faster for 90,000 names than `parameters_of`."""
    masked = masked_weights(tensors)
    masks = {each.mask.name for each in masked.values()}
    for name, tensor in tensors.items():
        own = masked.get(name)
        base = own.name if own else name
        if base.startswith(typed) and name not in masks:
            yield Parameter(base, base, tensor, own.mask if own else None)


def _checkpoint(scan: _Scan) -> Path | None:
    """Return the named checkpoint, if it is on this machine; pipes and devices are not opened."""
    for text in scan.arguments[:1]:
        for path in (Path(text), Path(os.path.expandvars(text)).expanduser()):
            if path.is_file() or path.is_dir():
                return path
    return None


def _speakable(name: str) -> bool:
    """Whether a terminal shows a name unchanged, and an option accepts it as an exact name."""
    return bool(name) and not name.startswith(("-", "re:")) and show(name, len(name)) == name


def _what(parameter: Parameter) -> str:
    weight = parameter.weight
    return f"{weight.dtype.name} {shape_of(weight.shape)}"


def in_steps(names: Sequence[str], typed: str, many: int = _MANY) -> tuple[list[str], bool]:
    """Return the names that begin with the typed text (if many, the modules where they differ), and if all are names.

    >>> in_steps(["a.x.w", "a.x.b", "a.y.w"], "a", many=2)
    (['a.x.', 'a.y.'], False)
    """
    names = [name for name in names if name.startswith(typed)]
    if len(names) <= many:
        return names, True
    while True:
        heads = dict.fromkeys(name[: name.find(".", len(typed)) + 1] or name for name in names)
        if len(heads) > 1 or names == list(heads):
            return list(heads), False
        (typed,) = heads
