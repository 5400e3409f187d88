"""The text of `--help`: options in groups, and examples, as plain text for 80 columns.

The group of an option is its `rich_help_panel`, one of the names here; rich is not used.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from prunecli.cli.examples import EXAMPLES
from prunecli.cli.typos import command_error, extra_error, meant, option_error

__all__ = [
    "AMOUNT",
    "CONTENT",
    "GATE",
    "INPUT",
    "ORDER",
    "OTHER",
    "OUTPUT",
    "REPORT",
    "RUN",
    "SELECTION",
    "Command",
    "CommandGroup",
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
REPORT = "Report"
RUN = "Run"
OTHER = "Other"
ORDER = (SELECTION, AMOUNT, INPUT, CONTENT, GATE, OUTPUT, REPORT, RUN)

_TYPES = {"int": "N", "int range": "N", "float": "X", "float range": "X", "str": "TEXT"}
"""The placeholders of options without a metavar, by typer's name of their type."""


class _Formatter(Protocol):
    """The methods of typer's formatter that this module uses."""

    def section(self, name: str) -> AbstractContextManager[None]: ...
    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 30) -> None: ...
    def write(self, string: str) -> None: ...


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


def record(param: TyperOption) -> tuple[str, str]:
    """Return an option as shown in help: its names with the placeholder of its value, and its text."""
    names = sorted((*param.opts, *param.secondary_opts), key=lambda name: name.startswith("--"))
    head = " ".join(filter(None, (", ".join(names), metavar_of(param))))
    text = param.help or ""
    default = getattr(param.default, "value", param.default)
    if param.required:
        text += "  [required]"
    elif not param.is_flag and default is not None and not callable(default) and "default" not in text:
        text += f"  [default: {default}]"
    return head, text


def _options(params: Iterable[Any], formatter: _Formatter) -> None:
    for name, options in grouped(params):
        with formatter.section(name):
            formatter.write_dl([record(option) for option in options], col_max=26)


class Command(TyperCommand):
    """A command whose help has groups and examples, and whose errors suggest the intended option."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the usage with the metavars of arguments."""
        arguments = [param.metavar or param.name for param in self.params if isinstance(param, TyperArgument)]
        return ["[OPTIONS]", *arguments]

    def format_options(self, ctx: Any, formatter: _Formatter) -> None:
        """Write the arguments, the options in groups, and the examples."""
        params = self.get_params(ctx)
        arguments = [param for param in params if isinstance(param, TyperArgument)]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl([(param.metavar or param.name, param.help or "") for param in arguments])
        _options(params, formatter)
        examples = EXAMPLES.get(self.name or "", ())
        if examples:
            with formatter.section("Examples"):
                shown = (f"  # {what}\n" + textwrap.indent(lines, "  ") + "\n" for what, lines in examples)
                formatter.write("\n".join(shown))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options; what cannot be parsed is answered with what was probably meant."""
        typed, ctx.allow_extra_args = list(args), True
        try:
            rest = super().parse_args(ctx, args)
        except typer.TyperException as error:
            option_error(error, ctx, self.get_params(ctx))
        if rest and not ctx.resilient_parsing:
            raise extra_error(rest, typed, ctx)
        return rest


class CommandGroup(TyperGroup):
    """The program: its help lists the commands, and its errors suggest the intended command."""

    def format_options(self, ctx: Any, formatter: _Formatter) -> None:
        """Write the commands, then the options."""
        rows = [(name, _first_sentence(self.commands[name].help)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        _options(self.get_params(ctx), formatter)
        formatter.write("\n`prunecli COMMAND --help` shows a command's options, with examples.\n")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options before the command."""
        try:
            return super().parse_args(ctx, meant(args))
        except typer.TyperException as error:
            option_error(error, ctx, self.get_params(ctx))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; an unknown command is an error that suggests the nearest one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise command_error(args[0], self.commands)
        return super().resolve_command(ctx, args)


def _first_sentence(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0].rstrip(".")
