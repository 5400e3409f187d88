"""The reference of the command line, docs/cli.md: `python -m prunecli.cli.reference > docs/cli.md` writes it anew."""

import sys
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperArgument

from prunecli.cli.app import app
from prunecli.cli.examples import EXAMPLES
from prunecli.cli.help import grouped, record

__all__ = ["reference"]

_HEAD = """\
# The command line

This page is made from the code by `python -m prunecli.cli.reference > docs/cli.md`; a test holds the two together.
`prunecli COMMAND --help` shows the same on a terminal. Standard output carries data only: the path that was written, a
report, a list, a checkpoint. Tables of `apply`, progress, notes and errors go to standard error.
"""

_TAIL = """\
## Exit codes

| code | meaning |
|---|---|
| 0 | done; the output is complete and synced |
| 1 | a bug of ours |
| 2 | usage: a bad option or amount, a name that matches nothing, a tie that needs a decision |
| 3 | the input cannot be read: missing, no permission, not a regular file |
| 4 | the input is damaged or not supported |
| 5 | refused as unsafe: it would run code in `torch.load`, leaves its folder, or asks for more than the limits |
| 6 | the output was not written: no space, no permission, it exists |
| 7 | a threshold or a verification was not met |
| 128+N | died of signal N, after cleaning up |

An error is one line, and whatever stood under the output's name is then as it was.

## Environment

| variable | effect |
|---|---|
| `NO_COLOR` | no colours |
| `COLUMNS`, `TERM` | width and abilities of the terminal, where it does not tell them itself |
| `RANK`, `WORLD_SIZE`, `LOCAL_WORLD_SIZE`, `MASTER_ADDR`, ... | set by `torchrun`: this process is one of several |
| `AWS_PROFILE`, `AWS_ENDPOINT_URL`, ... | read by the driver of a bucket |
| `XDG_DATA_HOME`, `ZDOTDIR`, `XDG_CONFIG_HOME` | where `--install-completion` puts the script for bash, zsh, fish |
| `_PRUNECLI_COMPLETE` | set by the scripts for completion, for their own calls |
"""


def reference() -> str:
    """Return the whole page."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("prunecli", [], resilient_parsing=True)
    parts = [_HEAD, *_section(context)]
    for name, command in group.commands.items():
        parts += _section(command.make_context(name, [], parent=context, resilient_parsing=True))
    return "\n".join([*parts, _TAIL])


def _section(context: Any) -> Iterator[str]:
    command = context.command
    yield f"## {context.command_path}\n"
    yield f"```text\n{' '.join((context.command_path, *command.collect_usage_pieces(context)))}\n```\n"
    yield f"{(command.help or '').strip()}\n"
    params = command.get_params(context)
    for param in params:
        if isinstance(param, TyperArgument):
            yield f"`{param.metavar or param.name}`: {param.help}\n"
    for name, options in grouped(params):
        yield f"**{name}**\n"
        yield "\n".join(f"- `{head}`: {text}" for head, text in map(record, options)) + "\n"
    for what, lines in EXAMPLES.get(command.name or "", ()):
        yield f"{what[0].upper()}{what[1:]}{'' if what.endswith('?') else ':'}\n\n```bash\n{lines}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
