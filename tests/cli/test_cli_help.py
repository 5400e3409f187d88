"""Help and version come at once: exit code 0, on standard output, and without importing torch."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from forked import python
from typer.core import TyperOption

from prunecli import __version__
from prunecli.cli import examples, reference
from prunecli.cli.app import app
from prunecli.cli.help import _FOLDED, ORDER, OTHER, commands_of, record

Cli = Callable[..., Any]
MASKS = ("mask extract", "mask overlap", "mask combine", "mask invert")
COMMANDS = ("apply", "remove", "restore", "report", "diff", "params", "verify", "pack", "unpack", *MASKS)
LINES = [["--help"], ["-h"], ["--version"], ["mask", "-h"], *([*command.split(), "--help"] for command in COMMANDS)]
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
    assert all(f"\n  {command.split()[0]} " in cli("--help").out for command in COMMANDS)
    assert all(f"\n  {command.split()[1]} " in cli("mask").out for command in MASKS)


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
    assert options(cli("apply", "--help-all").out) >= common | writing | both | own
    assert options(cli("remove", "--help").out) >= common | writing | both
    assert options(cli("report", "--help").out) >= common | writing | {"--format", "--fail-under"}
    assert options(cli("params", "--help").out) >= common


def test_no_arguments_are_a_call_for_help(cli: Cli) -> None:
    assert cli() == cli("--help")


@pytest.mark.parametrize("command", ["", "mask", *COMMANDS])
def test_the_help_fits_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = cli(*command.split(), "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 48, "two screens of 24 lines"
    assert text.isascii()


def test_options_that_the_help_only_names_are_described_by_help_all(cli: Cli) -> None:
    short, full = cli("apply", "--help").out, cli("apply", "model.pt", "--help-all").out
    for name in _FOLDED["apply"]:
        assert re.search(rf"^  .*{name}\b", short, re.MULTILINE)
        assert not re.search(rf"^  {name} .*  \S", short, re.MULTILINE)
        assert re.search(rf"^  {name} ", full, re.MULTILINE)
    assert "--help-all" in short
    assert "--help-all" not in full
    assert cli("remove", "--help-all").out == cli("remove", "--help").out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_texts_of_all_groups_begin_in_one_column(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = re.findall(r"^(  -.*?  +)\S.*$", cli(*command.split(), "--help").out, re.MULTILINE)
    assert len(rows) > 3
    assert len({len(row) for row in rows}) == 1


def test_colours_where_typer_has_them(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = cli("verify", "--help").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = cli("verify", "--help").out
    assert "  \x1b[1;32m-j\x1b[0m, \x1b[1;36m--jobs\x1b[0m \x1b[1;33mN\x1b[0m  " in coloured
    assert "\n\x1b[1mInput:\x1b[0m\n" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli("verify", "--help").out == plain


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return commands_of(group)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_its_group_and_a_short_metavar(command: str) -> None:
    for param in commands()[command].params:
        if isinstance(param, TyperOption):
            assert param.rich_help_panel in (*ORDER, OTHER), param.opts
            assert "<" not in record(param)[0]
            assert param.help


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_the_examples(cli: Cli, command: str) -> None:
    text = cli(*command.split(), "--help").out
    assert 2 <= len(examples.EXAMPLES[command]) <= 4
    assert all(f"\n  # {what}\n  {lines.splitlines()[0]}\n" in text for what, lines in examples.EXAMPLES[command])


def test_every_command_has_examples() -> None:
    assert set(examples.EXAMPLES) == set(commands()) == set(COMMANDS)


@pytest.mark.parametrize("wrong", ["aply", "appyl", "app", "Apply"])
def test_a_mistyped_command_is_answered_with_its_neighbour(cli: Cli, wrong: str) -> None:
    outcome = cli(wrong, "model.pt")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"prunecli: error: no command {wrong}; did you mean apply?\n"


def test_a_command_on_masks_without_its_group_is_answered_with_both_words(cli: Cli) -> None:
    assert cli("invert", "a").err == "prunecli: error: no command invert; write prunecli mask invert\n"
    assert cli("mask", "inver", "a").err == "prunecli: error: no command inver; did you mean invert?\n"
    assert "no option --bits here; it belongs to" not in cli("mask", "invert", "--bits").err
    assert "it belongs to prunecli mask combine" in cli("mask", "invert", "--xor", "a").err


def test_a_mistyped_option_is_answered_with_its_neighbour(cli: Cli) -> None:
    assert "no option --amout; did you mean --amount" in cli("apply", "model.pt", "--amout", "1").err
    assert "no option --min_dim; did you mean --min-dim?" in cli("params", "model.pt", "--min_dim=2").err
    assert "no option --qqqq; see prunecli apply --help" in cli("apply", "--qqqq").err
    assert "no option --verson; did you mean --version?\n" in cli("--verson").err


def test_the_reference_is_up_to_date() -> None:
    """`python -m prunecli.cli.reference > docs/cli.md` makes it so."""
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == reference.reference()


def test_the_reference_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = reference.reference()
    monkeypatch.setenv("COLUMNS", "200")
    assert reference.reference() == narrow


def imports(*arguments: str, start: Sequence[str] = (sys.executable,)) -> tuple[int, set[str]]:
    done = subprocess.run([*start, "-c", IMPORTED, *arguments], capture_output=True, check=True, timeout=60)
    code, modules = json.loads(done.stderr.decode().splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("line", [["--help"], ["--version"], ["apply", "--help"]], ids=" ".join)
def test_nothing_slow_is_imported(line: list[str]) -> None:
    code, modules = imports(*line)
    assert code == 0
    assert not modules & {"torch", "numpy", "rich"}
    assert line != ["--help"] or "pydantic" not in modules  # typer imports it to parse options of commands


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
        code, modules = imports(*command, start=python())
        assert code == 0
        assert "torch" not in modules
