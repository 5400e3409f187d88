"""The program around the commands: errors become one line and an exit code, signals clean up first."""

import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from prunecli import __version__
from prunecli.cli import commands
from prunecli.cli.signals import Interrupted, die_of, interruptible
from prunecli.errors import PrunecliError, show

__all__ = ["app", "run"]

_LINE = 300
"""Characters an error line may have."""

app = typer.Typer(
    name="prunecli",
    help="Random unstructured pruning of model checkpoints, on the file.",
    no_args_is_help=True,
    # rich's markup would let names from a file style, link or break the output.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (commands.apply, commands.remove, commands.report, commands.params):
    app.command()(_command)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"prunecli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Random unstructured pruning of model checkpoints, on the file: exact, reproducible, at the speed of a copy."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a signal ends the process by that signal instead."""
    code = signum = 0
    try:
        with interruptible():
            code = _run(arguments)
    except Interrupted as interrupted:
        signum = interrupted.signum
    except BrokenPipeError:
        signum = signal.SIGPIPE
    if signum:
        die_of(signum)
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        code = app(arguments, prog_name="prunecli", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PrunecliError as error:
        return _fail(arguments, str(error), error.exit_code)
    except typer.TyperException as error:
        return _fail(arguments, error.format_message(), error.exit_code)
    except (BrokenPipeError, Interrupted):
        raise
    except Exception as error:  # the last resort: a user must never see a traceback
        what = f"internal error, please report it with the output of --debug: {type(error).__name__}: {error}"
        return _fail(arguments, what, PrunecliError.exit_code)


def _fail(arguments: Sequence[str], message: str, code: int) -> int:
    if "--debug" in arguments:
        traceback.print_exc()
    line = show(" ".join(message.split()), _LINE)
    sys.stderr.write(f"prunecli: error: {line}\n")
    return code
