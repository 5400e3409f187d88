"""What a mistyped command line is answered with: what was typed, and the likeliest thing that was meant."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperArgument, TyperOption

from prunecli.cli.completion_scripts import SCRIPTS
from prunecli.errors import UsageError, show

__all__ = ["command_error", "extra_error", "help_error", "meant", "option_error"]

_COMPLETION = ("--install-completion", "--show-completion")

_PARENT = "/proc/{}/comm"
"""Where Linux names the program of a process."""

_WORDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "apply": {
        "-a 0.5": ("sparsity", "ratio", "rate", "fraction", "density", "percent"),
        "-p": ("layer", "module", "name", "pattern", "include"),
        "--bake": ("zero", "zeros", "permanent"),
        "-j": ("threads", "workers"),
        "--seed": ("s",),
    },
    "report": {
        "--format json": ("json",),
        "--format csv": ("csv",),
        "--format html": ("html",),
        "--format markdown": ("markdown", "md"),
        "--fail-under 0.5": ("sparsity",),
        "--baseline": ("diff", "compare"),
    },
    "params": {"--format json": ("json",)},
}
"""Options that other programs have, by the command and by what is called so here."""

_LIKE_A_FILE = re.compile(r"-.*\.[a-z][a-z_]+")
"""Arguments that are more likely files than options."""

_OUTPUT = re.compile(r"\.(safetensors|pt|pth|bin|ckpt)$")
"""How the path of a checkpoint ends, and the name of a parameter does not."""

_SELECTING = ("-p", "--param", "-x", "--exclude")


def meant(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of the program with `version`, `help [COMMAND]` and a missing shell's name filled in."""
    if list(arguments) == ["version"]:
        return ["--version"]
    if arguments and arguments[0] == "help":
        return [*arguments[1:2], "--help"]
    if arguments and arguments[-1] in _COMPLETION:
        return [*arguments, _shell(arguments[-1])]
    return list(arguments)


def _shell(option: str) -> str:
    """Return the name of the shell that started this process, or else of the user's login shell.

    Raises:
        UsageError: neither has completions.
    """
    names = [Path(os.environ.get("SHELL", "")).name]
    with suppress(OSError):  # systems other than Linux
        names.insert(0, Path(_PARENT.format(os.getppid())).read_text(encoding="utf-8", errors="replace").strip())
    found = next((name for name in names if name in SCRIPTS), None)
    if found is None:
        raise UsageError(f"{option}: which shell? name it: {' or '.join(f'{option} {each}' for each in SCRIPTS)}")
    return found


def command_error(word: str, ctx: Any) -> UsageError:
    """Return the error for a word that is not a command of the program, or of a group of commands."""
    known, root = list(ctx.command.commands), ctx.find_root().command.commands
    near = _nearest(word, known)
    within = next((name for name, each in root.items() if word in getattr(each, "commands", ())), None)
    if within is not None:
        near = None
    elif near is None and _exists(word):
        like = "prunecli report" if ctx.parent is None else f"{ctx.command_path} {known[0]}"
        return UsageError(f"{show(word, 80)} is not a command; write {like} {show(word, 80)}")
    guess = f"did you mean {near}?" if near else f"commands are {', '.join(known)}"
    if within is not None:
        guess = f"write prunecli {within} {word}"
    return UsageError(f"no command {show(word, 40)}; {guess}")


def option_error(
    error: typer.TyperException, ctx: Any, params: Iterable[Any], arguments: Sequence[str] = ()
) -> NoReturn:
    """Raise the error of an option in our own words; an error of another kind is raised as it is.

    `arguments` are those of the command, as they were typed.
    """
    options = {name: each for each in params if isinstance(each, TyperOption) for name in _names(each)}
    typed, param = getattr(error, "option_name", None), getattr(error, "param", None)
    if typed is not None and hasattr(error, "possibilities"):
        file = next((each for each in arguments if each.startswith(typed) and _LIKE_A_FILE.fullmatch(each)), None)
        if file is not None:
            raise UsageError(
                f"{show(file, 60)} begins like an option; if it is a file, write ./{show(file, 60)}"
            ) from None
        raise UsageError(_unknown(typed, ctx, options)) from None
    if typed is not None:
        raise UsageError(_misused(typed, options.get(typed), ctx)) from None
    if isinstance(param, TyperArgument):
        forms = re.split(r"[;.\n]", param.help or "")[0]
        named = (param.metavar or param.name or "").rstrip(".")
        raise UsageError(f"no {named} is given; name {forms[:1].lower()}{forms[1:]}") from None
    wrong: Any = error.__cause__  # of pydantic
    if isinstance(param, TyperOption) and hasattr(wrong, "errors"):
        raise UsageError(_bad_value(param, str(wrong.errors()[0]["input"]))) from None
    raise error


def _unknown(typed: str, ctx: Any, options: Mapping[str, TyperOption]) -> str:
    here = ctx.info_name if ctx.parent else ""
    word = typed.lstrip("-")
    for name, words in _WORDS.get(here, {}).items():
        if word in words and name.split()[0] in options:
            return f"no option {typed}; write {name}"
    if word == "json" and here in ("apply", "remove", "restore"):
        return f"no option {typed}; a run's report is written beside the output, as JSON"
    near = _nearest(typed, [name for name in options if name[:2] == "--"])
    if near:
        return f"no option {show(typed, 40)}; did you mean {near}?"
    above = ctx.parent.command if ctx.parent else ctx.command
    path = ctx.parent.command_path if ctx.parent else ctx.command_path
    elsewhere = [name for name, each in above.commands.items() if typed in _all_names(each.params)]
    if ctx.parent and typed in _all_names(above.params):
        return f"{typed} is an option of prunecli itself; write prunecli {typed}"
    if elsewhere:
        if not ctx.parent:
            return f"no option {typed} before the command; write {path} {elsewhere[0]} {typed}"
        return f"no option {typed} here; it belongs to {path} {', '.join(elsewhere)}"
    return f"no option {show(typed, 40)}; see {ctx.command_path} --help"


def _misused(typed: str, option: TyperOption | None, ctx: Any) -> str:
    if option is None:
        return f"{show(typed, 40)} is not complete; see {ctx.command_path} --help"
    if option.is_flag:
        return f"{typed} takes no value; write {typed} alone"
    from prunecli.cli.help import metavar_of

    return f"{typed} needs a value; write {typed} {metavar_of(option)}"


def _bad_value(option: TyperOption, typed: str) -> str:
    name, value = option.opts[-1], show(typed, 60) or "''"
    choices = [str(getattr(each, "value", each)) for each in option.type_descriptor.choices or ()]
    if choices:
        near = _nearest(typed, choices)
        return f"{name} {value}: " + (f"did you mean {near}?" if near else f"choose from {', '.join(choices)}")
    least = getattr(option.type_descriptor.parameter_info, "min", None)
    from_least = "" if least is None else f" from {least} on"
    return f"{name} {value} is not a whole number{from_least}"


def extra_error(extra: Sequence[str], arguments: Sequence[str], ctx: Any) -> UsageError:
    """Return the error for arguments that no parameter of the command takes; `arguments` are all that were typed."""
    first = show(extra[0], 60)
    at = len(arguments) - 1 - arguments[::-1].index(extra[0]) if extra[0] in arguments else 0
    option, value = arguments[max(at - 2, 0) : at] if at > 1 else ("", "")
    if option in _SELECTING:
        if value in _all_names(ctx.command.params):
            return UsageError(f"{option} needs a value; write it before {value}")
        if _exists(value) and _exists(extra[0]):
            return UsageError(f"{option} {show(value, 60)} {first}: the shell put files here; quote the pattern: '*'")
        return UsageError(f"{option} takes one name; write {option} {show(value, 60)} {option} {first}")
    taken = ctx.params.get("checkpoint", ctx.params.get("packed"))
    if not isinstance(taken, str):
        return UsageError(f"{first} is one argument too many; see {ctx.command_path} --help")
    at = arguments.index(taken) if taken in arguments else 0
    option, value = arguments[max(at - 2, 0) : at] if at > 1 else ("", "")
    if option in _SELECTING and not _exists(taken) and any(map(_exists, extra)):
        return UsageError(f"{option} takes one name; write {option} {show(value, 60)} {option} {show(taken, 60)}")
    if first == "%":
        return UsageError("% stands alone; write it behind the number, as in 50%")
    if _exists(taken) and _OUTPUT.search(extra[0]) and "-o" in _all_names(ctx.command.params):
        return UsageError(f"the output is named with -o: write -o {first}")
    if _exists(taken) and not _exists(extra[0]) and "-p" in _all_names(ctx.command.params):
        return UsageError(f"names are given with -p: write -p {first}")
    return UsageError(f"{first} is one argument too many; see {ctx.command_path} --help")


def help_error(ctx: Any) -> UsageError:
    """Return the error for `help` after a command, unless a checkpoint has that name."""
    return UsageError(f"no checkpoint help; see {ctx.command_path} --help")


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long a name, for example
        return False


def _names(option: TyperOption) -> list[str]:
    return [*option.opts, *option.secondary_opts]


def _all_names(params: Iterable[Any]) -> list[str]:
    return [name for each in params if isinstance(each, TyperOption) for name in _names(each)]


def _nearest(word: str, known: Sequence[str]) -> str | None:
    from prunecli.surgery.names.suggest import nearest_word  # imports difflib

    return nearest_word(word, known)
