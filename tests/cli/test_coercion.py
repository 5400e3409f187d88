"""Law: options get the values that typer gives them, and a command imports little of what it does not need."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from prunecli.cli.app import app
from prunecli.cli.coercion import convert_without_pydantic

ROOT = Path(__file__).parents[2]


def option(command: str, name: str) -> Any:
    """Return a fresh option of a command."""
    group: Any = typer.main.get_command(app)
    return next(each for each in group.commands[command].params if each.name == name)


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("apply", "param", ["a", "b*"]),
        ("apply", "param", None),
        ("apply", "checkpoint", "model.pt"),
        ("apply", "seed", "7"),
        ("apply", "seed", "007"),
        ("apply", "seed", " 7"),
        ("apply", "seed", str(2**128 - 1)),
        ("apply", "seed", None),
        ("apply", "min_dim", 0),
        ("apply", "min_dim", "2"),
        ("apply", "mask_dtype", "same"),
        ("params", "form", "json"),
        ("report", "sort", "size"),
    ],
)
def test_values_are_those_of_typer(command: str, name: str, value: Any) -> None:
    theirs, ours = option(command, name), option(command, name)
    convert_without_pydantic([ours])
    expected = theirs.get_runtime_param().coerce(value, param=theirs, ctx=None)
    found = ours.get_runtime_param().coerce(value, param=ours, ctx=None)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(("name", "value"), [("seed", "-1"), ("seed", "1.5"), ("seed", "x"), ("mask_dtype", "int8")])
def test_what_typer_refuses_is_refused_with_its_message(name: str, value: str) -> None:
    theirs, ours = option("apply", name), option("apply", name)
    convert_without_pydantic([ours])
    messages = []
    for each in (theirs, ours):
        with pytest.raises(typer.TyperException) as raised:
            each.get_runtime_param().coerce(value, param=each, ctx=None)
        messages.append(raised.value.format_message())
    assert messages[0] == messages[1]


def test_a_list_of_parameters_needs_few_imports() -> None:
    program = (
        "import sys; from prunecli.cli.app import run; run(['params', 'examples/digits.pt']); "
        "print([name for name in ('pydantic', 'numpy', 'prunecli.surgery.jobs', 'torch', 'rich', 'fsspec') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
