"""The program around the commands: it prints errors as one line, returns exit codes, and cleans up after signals.

Nothing slow is imported before a command runs, so that `--help` starts fast.
"""

import enum
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from prunecli import __version__
from prunecli.cli.apply import apply
from prunecli.cli.completion_scripts import ASKED, SCRIPTS, install
from prunecli.cli.diff import diff
from prunecli.cli.help import Command, CommandGroup
from prunecli.cli.mask import mask
from prunecli.cli.messages import print_error, print_note, print_sentence
from prunecli.cli.pack import pack, unpack
from prunecli.cli.params import params
from prunecli.cli.remove import remove
from prunecli.cli.report import report
from prunecli.cli.restore import restore
from prunecli.cli.signals import Interrupted, die_of, interruptible
from prunecli.cli.streams import standard_streams
from prunecli.cli.verify import verify
from prunecli.errors import PeerError, PrunecliError

__all__ = ["Shell", "app", "run"]

_OPEN_MAX = 10_240
"""The most files that a process can have open on macOS."""

app = typer.Typer(
    name="prunecli",
    help="Prune model checkpoints directly on the file, at random or by other methods.",
    # With rich's markup, names from a file could style, link or break the output.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    # Our own completes parameter names. Shells evaluate what typer's scripts print, and names come from files.
    add_completion=False,
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (apply, remove, restore, report, diff, params, verify, pack, unpack):
    app.command(cls=Command)(_command)
app.add_typer(mask)


class Shell(enum.StrEnum):
    """Shells with a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"prunecli {__version__}")
        raise typer.Exit


def _install(shell: Shell | None) -> None:
    if shell:
        path, advice = install(shell.value)
        typer.echo(path)
        print_note(advice)
        raise typer.Exit


def _show(shell: Shell | None) -> None:
    if shell:
        typer.echo(SCRIPTS[shell.value], nl=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    install_completion: Annotated[
        Shell | None,
        typer.Option(
            "--install-completion",
            callback=_install,
            is_eager=True,
            help="Install the completion script of a shell.",
        ),
    ] = None,
    show_completion: Annotated[
        Shell | None,
        typer.Option(
            "--show-completion", callback=_show, is_eager=True, help="Print the completion script of a shell."
        ),
    ] = None,
) -> None:
    """Prune model checkpoints directly on the file, at random or by other methods: exact, reproducible, streamed."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a signal ends the process by that signal instead."""
    with standard_streams():
        _allow_many_files()
        if shell := os.environ.get(ASKED):
            return _answer(shell, arguments)
        return _outcome(arguments)


def _outcome(arguments: Sequence[str]) -> int:
    code = signum = 0
    # Users who are asked for the output of --debug append it to the line that failed.
    debug = "--debug" in arguments
    try:
        with interruptible():
            code = _run([each for each in arguments if each != "--debug"], debug=debug)
    except Interrupted as interrupted:
        signum = interrupted.signum
        _print_interruption(interrupted)
    except BrokenPipeError:
        signum = signal.SIGPIPE
    if signum:
        die_of(signum)
    return code


def _print_interruption(interrupted: Interrupted) -> None:
    """Print in one line what an interruption left behind; of several ranks, the first one does."""
    if os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            notes = getattr(interrupted, "__notes__", None) or ["nothing was written"]
            print_sentence(f"prunecli: interrupted; {notes[-1]}")
            sys.stderr.flush()


def _answer(shell: str, arguments: Sequence[str]) -> int:
    from prunecli.cli.completion import answer

    return answer(typer.main.get_command(app), shell, arguments)


def _allow_many_files() -> None:
    """Raise the limit of open files as far as allowed: a folder may have more shards than the usual 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for soft in (hard, _OPEN_MAX):  # macOS allows no more than the second, whatever its hard limit
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            return


def _run(arguments: Sequence[str], *, debug: bool) -> int:
    try:
        code = app(arguments or ["--help"], prog_name="prunecli", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except PeerError as error:
        return error.exit_code
    except PrunecliError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except typer.TyperException as error:
        return _fail(_with_help(error), error.exit_code, debug=debug)
    except (BrokenPipeError, Interrupted):
        raise
    except SystemExit as leaving:  # typer and rich turn a broken pipe into SystemExit
        if isinstance(leaving.__context__, BrokenPipeError):
            raise leaving.__context__ from None
        raise
    except Exception as error:  # a user must never see a traceback
        what = f"internal error, please report it with the output of --debug: {type(error).__name__}: {error}"
        return _fail(what, PrunecliError.exit_code, debug=debug)


def _with_help(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "prunecli"
    return f"{error.format_message().rstrip('.')}; see {command} --help"


def _fail(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print_error(message)
    return code
