"""What `--help` says of a command: its options in groups, and examples.

The group of an option is its `rich_help_panel`, one of the names here; rich is not used.
"""

import os
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from prunecli.cli.coercion import convert_without_pydantic
from prunecli.cli.examples import EXAMPLES
from prunecli.cli.help_page import Section, help_page
from prunecli.cli.typos import command_error, extra_error, help_error, meant, option_error
from prunecli.reporting.terminal import screen_of

__all__ = [
    "AMOUNT",
    "CONTENT",
    "GATE",
    "INPUT",
    "ORDER",
    "OTHER",
    "OUTPUT",
    "SELECTION",
    "Command",
    "CommandGroup",
    "commands_of",
    "grouped",
    "metavar_of",
    "record",
]

SELECTION = "Selection"
AMOUNT = "Amount"
INPUT = "Input"
CONTENT = "Content"
GATE = "Gates"
OUTPUT = "Output"
OTHER = "Other"
ORDER = (INPUT, SELECTION, AMOUNT, CONTENT, GATE, OUTPUT)

_FOLDED = {
    "apply": {
        "--abs-scores",
        "--allow-foreign-objects",
        "--block",
        "--dim",
        "--follow-links",
        "--key-prefix",
        "--link",
        "--missing",
        "--n-of-m",
        "--no-report",
        "--norm",
        "--order",
        "--per-row",
        "--per-slice",
        "--print-recipe",
        "--ratios",
        "--rescale",
        "--scores",
        "--seeds",
        "--stamp",
        "--untie",
        "--with-state",
        "--zeros-are-pruned",
    }
}
"""Options by command that `--help` only names at its end, so that it fits two screens."""

_ALL = "--help-all"
"""Prints the help with the folded options described in their groups."""

_NAMES = 76
"""The most characters of a line of names."""

_JOINED = "\N{NO-BREAK SPACE}"

_TYPES = {"int": "N", "int range": "N", "float": "X", "float range": "X", "str": "TEXT"}
"""The placeholders of options without a metavar, by typer's name of their type."""


def grouped(params: Iterable[Any]) -> Iterator[tuple[str, list[TyperOption]]]:
    """Yield the visible options of a command by group: first the groups of `ORDER`, then the others."""
    groups: dict[str, list[TyperOption]] = {}
    for param in params:
        if isinstance(param, TyperOption) and not param.hidden:
            groups.setdefault(param.rich_help_panel or OTHER, []).append(param)
    own = [name for name in groups if name not in (*ORDER, OTHER)]
    for name in (*ORDER, *own, OTHER):
        if name in groups:
            yield name, groups[name]


def metavar_of(param: TyperOption) -> str:
    """Return the placeholder of an option's value: its metavar, its choices, or a letter; empty for a flag."""
    if param.is_flag or param.count:
        return ""
    if param.metavar:
        return param.metavar
    choices = param.type_descriptor.choices
    if choices:
        return "|".join(str(getattr(choice, "value", choice)) for choice in choices)
    kind = param.display_type(_NO_CONTEXT).strip("<>")
    return _TYPES.get(kind, kind.upper())


_NO_CONTEXT: Any = None
"""An unused context: names of types do not depend on it, but typer's signature requires one."""


def record(param: TyperOption, *, negations: bool = True) -> tuple[str, str]:
    """Return an option as shown in help: its names with the placeholder of its value, and its text.

    The first line of the text is complete in itself, and all that `--help` shows. Without `negations`, names such as
    `--no-bake` are left out.
    """
    names = sorted((*param.opts, *(param.secondary_opts if negations else ())), key=lambda name: name.startswith("--"))
    head = " ".join(filter(None, (", ".join(names), metavar_of(param))))
    text, *more = (param.help or "").split("\n")
    default = getattr(param.default, "value", param.default)
    if param.required:
        text += "  [required]"
    elif param.show_default and not (param.is_flag or default is None or callable(default) or "default" in text):
        text += f"  [default: {default}]"
    return head, "\n".join((text, *more))


def _sections(params: Sequence[Any], folded: Collection[str] = ()) -> list[Section]:
    """Return the groups of options, with the arguments before the first, and without the folded ones."""
    arguments = [
        (param.metavar or param.name, param.help or "") for param in params if isinstance(param, TyperArgument)
    ]
    rows: dict[str, list[tuple[str, str]]] = {INPUT: arguments} if arguments else {}
    for name, options in grouped(params):
        rows.setdefault(name, []).extend(_row(option) for option in options if not _is_folded(option, folded))
    return [Section(name, found) for name, found in rows.items()]


def _row(option: TyperOption) -> tuple[str, str]:
    head, text = record(option, negations=False)
    return head, text.partition("\n")[0]


def _is_folded(option: TyperOption, folded: Collection[str]) -> bool:
    return any(name in folded for name in option.opts)


def _names_of(params: Sequence[Any], folded: Collection[str]) -> Section:
    """Return the section that only names the folded options."""
    options = [each for _, options in grouped(params) for each in options if _is_folded(each, folded)]
    names = ", ".join(record(each, negations=False)[0].replace(" ", _JOINED) for each in options)
    lines = [f"  {line}".replace(_JOINED, " ") for line in textwrap.wrap(names, _NAMES, break_on_hyphens=False)]
    return Section(f"More ({_ALL} describes them)", lines=lines)


def _write(ctx: Any, formatter: Any, sections: Sequence[Section], closing: str = "") -> None:
    screen = screen_of(sys.stdout)
    ctx.color = screen.colour or None  # otherwise typer would remove the colours that FORCE_COLOR asks for in a pipe
    usage = " ".join((ctx.command_path, *ctx.command.collect_usage_pieces(ctx)))
    formatter.write(help_page(usage, (ctx.command.help or "").strip(), sections, closing, screen))


class Command(TyperCommand):
    """A command whose help has groups and examples, and whose errors suggest the intended option."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage with the metavars of arguments."""
        arguments = [param.metavar or param.name for param in self.params if isinstance(param, TyperArgument)]
        return ["[OPTIONS]", *arguments]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options in groups, and the examples."""
        examples = EXAMPLES.get(ctx.command_path.partition(" ")[2], ())
        lines = [f"  # {what}\n{textwrap.indent(lines, '  ')}" for what, lines in examples]
        shown = [Section("Examples", lines="\n".join(lines).split("\n"))] if lines else []
        params, folded = self.get_params(ctx), () if _ALL in ctx.meta else _FOLDED.get(self.name or "", ())
        named = [_names_of(params, folded)] if folded else []
        _write(ctx, formatter, [*_sections(params, folded), *named, *shown])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options; what cannot be parsed is answered with what was probably meant."""
        typed, ctx.allow_extra_args = list(args), True
        if _ALL in args:
            ctx.meta[_ALL], args = True, ["--help"]
        convert_without_pydantic(self.get_params(ctx))
        if typed == ["help"] and not os.path.lexists("help"):
            raise help_error(ctx)
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as error:
            option_error(error, ctx, self.get_params(ctx), typed)
        if rest and not ctx.resilient_parsing:
            raise extra_error(rest, typed, ctx)
        return rest


class CommandGroup(TyperGroup):
    """The program, or a group of commands: its help lists them, and its errors suggest the intended command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        rows = [(name, _first_sentence(self.commands[name].help)) for name in self.list_commands(ctx)]
        closing = f"`{ctx.command_path} COMMAND --help` shows a command's options, with examples."
        _write(ctx, formatter, [Section("Commands", rows), *_sections(self.get_params(ctx))], closing)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command; a group of commands without one shows its help."""
        convert_without_pydantic(self.get_params(ctx))
        try:
            return super().parse_args(ctx, meant(args) or ["--help"])
        except typer.TyperException as error:
            option_error(error, ctx, self.get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; an unknown command is an error that suggests the nearest one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise command_error(args[0], ctx)
        return super().resolve_command(ctx, args)


def commands_of(group: Any, prefix: str = "") -> dict[str, Any]:
    """Return all commands by their names; those of a group within the program have two words (`mask extract`)."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        below = getattr(command, "commands", None) is not None
        found |= commands_of(command, f"{prefix}{name} ") if below else {prefix + name: command}
    return found


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
