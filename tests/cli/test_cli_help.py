"""Help and version come at once: exit code 0, on standard output, and without importing torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from prunecli import __version__

Cli = Callable[..., Any]
COMMANDS = ("apply", "remove", "report", "params")
LINES = [["--help"], ["-h"], ["--version"], *([command, "--help"] for command in COMMANDS)]
IMPORTED = """
import json, sys
from prunecli.cli.app import run
code = run(sys.argv[1:])
json.dump([code, sorted(sys.modules)], sys.stderr)
"""


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_exit_code_and_streams(cli: Cli, line: list[str]) -> None:
    outcome = cli(*line)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"prunecli {__version__}\n" if line == ["--version"] else "Usage: prunecli ")


def test_the_help_names_every_command(cli: Cli) -> None:
    assert all(f"\n  {command} " in cli("--help").out for command in COMMANDS)


def options(text: str) -> set[str]:
    return {word.strip(",") for line in text.splitlines() for word in line.split()[:2] if word.startswith("-")}


def test_the_options_are_those_of_the_design(cli: Cli) -> None:
    common = {"-p", "--param", "-x", "--exclude", "--key", "-h", "--help"}
    writing = {"-o", "--output", "--force", "-j", "--jobs"}
    both = {"--report", "--no-report", "--dry-run", "-q", "--quiet"}
    own = {
        "-a",
        "--amount",
        "--global",
        "--seed",
        "--remove",
        "--mask-dtype",
        "--untie",
        "--min-dim",
        "--zeros-are-pruned",
    }
    assert options(cli("apply", "--help").out) >= common | writing | both | own
    assert options(cli("remove", "--help").out) >= common | writing | both
    assert options(cli("report", "--help").out) >= common | writing | {"--format", "--fail-under"}
    assert options(cli("params", "--help").out) >= common


def imports(*arguments: str) -> tuple[int, set[str]]:
    done = subprocess.run([sys.executable, "-c", IMPORTED, *arguments], capture_output=True, check=True, timeout=60)
    code, modules = json.loads(done.stderr.decode().splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["apply", "--help"]], ids=" ".join)
def test_nothing_slow_is_imported(line: list[str]) -> None:
    code, modules = imports(*line)
    assert code == 0
    assert not modules & {"torch", "rich.table"}


@pytest.mark.parametrize("source", ["model.pt", "model.safetensors"])
@pytest.mark.usefixtures("folder")
def test_work_on_files_needs_no_torch(source: str) -> None:
    line = ["-p", "*.weight", "-a", "0.5", "-q", "-o", "masked"]
    for command in (
        ["apply", source, *line],
        ["remove", "masked", "-o", "baked"],
        ["report", "baked"],
        ["params", source],
    ):
        code, modules = imports(*command)
        assert code == 0
        assert "torch" not in modules
