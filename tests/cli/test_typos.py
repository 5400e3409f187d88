"""Mistyped command lines: what was typed is echoed, one near guess or none, no words of the libraries below."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunecli import __version__
from prunecli.cli import typos
from prunecli.cli.typos import meant

Cli = Callable[..., Any]
Refusal = Callable[..., str]
APPLY = ["apply", "model.pt", "-p", "*", "-a", "0.5"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ([*APPLY, "--seed", "x"], "--seed x is not a whole number from 0 on"),
        ([*APPLY, "--seed", "-1"], "--seed -1 is not a whole number from 0 on"),
        ([*APPLY, "-j", "0"], "--jobs 0 is not a whole number from 1 on"),
        (["report", "model.pt", "--format", "jsn"], "--format jsn: did you mean json?"),
        (["report", "model.pt", "--format", "q\x1b"], r"--format q\x1b: choose from table, json, csv, markdown, html"),
        (["report", "model.pt", "--sort", "siz"], "--sort siz: did you mean size?"),
        (["apply"], "no CKPT is given; name a file, a folder of shards, a URL, or - for stdin"),
        (["apply", "model.pt", "-a"], "-a needs a value; write -a 0.5|50%|1000"),
        ([*APPLY, "--force=yes"], "--force takes no value; write --force alone"),
        ([*APPLY, "--sparsity", "0.5"], "no option --sparsity; write -a 0.5"),
        ([*APPLY, "--parm", "x"], "no option --parm; did you mean --param?"),
        ([*APPLY, "--params", "x"], "no option --params; did you mean --param?"),
        ([*APPLY, "--version"], "--version is an option of prunecli itself; write prunecli --version"),
        (["report", "model.pt", "--json"], "no option --json; write --format json"),
        (["report", "model.pt", "--amount", "1"], "no option --amount here; it belongs to prunecli apply"),
        (["report", "model.pt", "-z"], "no option -z; see prunecli report --help"),
        (["apply", "model.pt", "-p", "a", "b", "-a", "1"], "-p takes one name; write -p a -p b"),
        (["apply", "model.pt", "-p", "-a", "1"], "-p needs a value; write it before -a"),
        (["params", "model.pt", "-x", "a", "b"], "-x takes one name; write -x a -x b"),
        (
            ["apply", "model.pt", "-p", "model.pt", "model.safetensors", "-a", "1"],
            "-p model.pt model.safetensors: the shell put files here; quote the pattern: '*'",
        ),
        (
            ["params", "model.pt", "model.safetensors"],
            "model.safetensors is one argument too many; see prunecli params --help",
        ),
        (["-p", "a", "apply", "model.pt"], "no option -p before the command; write prunecli apply -p"),
        ([*APPLY, "--method", "L1"], "--method L1: did you mean l1?"),
        ([*APPLY, "out.pt"], "the output is named with -o: write -o out.pt"),
        (["unpack", "model.pt", "out.pt"], "the output is named with -o: write -o out.pt"),
        (["apply", "model.pt", "-a", "50", "%"], "% stands alone; write it behind the number, as in 50%"),
        (["diff", "model.pt"], "no NEW is given; name the later one"),
        (["apply", "model.pt", "fc1.weight", "-a", "1"], "names are given with -p: write -p fc1.weight"),
        (["apply", "-p", "a", "b", "-a", "1", "model.pt"], "-p takes one name; write -p a -p b"),
        (["apply", "-p", "a", "b", "c", "-a", "1", "model.pt"], "-p takes one name; write -p a -p b"),
        (["report", "-dash.pt"], "-dash.pt begins like an option; if it is a file, write ./-dash.pt"),
        (["apply", "help"], "no checkpoint help; see prunecli apply --help"),
        ([*APPLY, "-s", "7"], "no option -s; write --seed"),
        ([*APPLY, "--json"], "no option --json; a run's report is written beside the output, as JSON"),
        (
            ["re"],
            "no command re; commands are apply, remove, restore, report, diff, params, verify, pack, unpack, mask",
        ),
        (["ver"], "no command ver; did you mean verify?"),
        (["model.pt"], "model.pt is not a command; write prunecli report model.pt"),
        (["help", "aply"], "no command aply; did you mean apply?"),
        (["--install-completion", "tcsh"], "--install-completion tcsh: choose from bash, zsh, fish"),
    ],
)
def test_a_mistyped_line(refused: Refusal, line: list[str], answer: str) -> None:
    assert refused(2, *line) == answer


def test_other_ways_to_ask_for_version_and_help(cli: Cli) -> None:
    assert cli("-V").out == cli("version").out == f"prunecli {__version__}\n"
    assert cli("help") == cli("--help")
    assert cli("help", "apply") == cli("apply", "--help")


def test_bake_and_remove_are_one_option(cli: Cli, folder: Path) -> None:
    for name in ("bake", "remove"):
        Path("recipe.toml").write_text(f"seed = 7\n{name} = true\n[[group]]\nparams = ['fc1.weight']\namount = 0.5\n")
        assert cli("apply", "model.pt", "--recipe", "recipe.toml", "-o", f"{name}.recipe.pt", "-q").code == 0
        line = ["apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "--seed", "7"]
        assert cli(*line, f"--{name}", "-o", f"{name}.pt", "-q").code == 0
    written = [(folder / name).read_bytes() for name in ("bake.pt", "remove.pt", "bake.recipe.pt", "remove.recipe.pt")]
    assert len(set(written)) == 1
    Path("recipe.toml").write_text("bake = true\nremove = true\n[[group]]\nparams = ['fc1.weight']\namount = 0.5\n")
    assert "two names of one setting" in cli("apply", "model.pt", "--recipe", "recipe.toml").err


@pytest.mark.parametrize(("parent", "login", "shell"), [("fish", "/bin/bash", "fish"), ("uv", "/usr/bin/zsh", "zsh")])
def test_the_shell_is_guessed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parent: str, login: str, shell: str
) -> None:
    monkeypatch.setattr(typos, "_PARENT", str(tmp_path / "comm"))
    (tmp_path / "comm").write_text(f"{parent}\n")
    monkeypatch.setenv("SHELL", login)
    assert meant(["--install-completion"]) == ["--install-completion", shell]
    assert meant(["--show-completion", "bash"]) == ["--show-completion", "bash"]


def test_a_shell_without_completions(refused: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typos, "_PARENT", os.devnull)
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "which shell? name it: --install-completion bash or" in refused(2, "--install-completion")


@pytest.mark.parametrize(
    ("amount", "answer"),
    [
        ("150%", "amount 150% is not a percentage from 0% to 100%"),
        ("-5%", "amount -5% is not a percentage from 0% to 100%"),
        ("1.50", "amount 1.50 is not a fraction from 0.0 to 1.0; a count is written in digits alone"),
        ("-7", "amount -7 is negative; give a count from 0 on, or a fraction like 0.5"),
    ],
)
def test_an_amount_is_echoed_as_typed(refused: Refusal, amount: str, answer: str) -> None:
    assert refused(2, "apply", "model.pt", "-p", "*", f"--amount={amount}") == answer


@pytest.mark.parametrize("command", [APPLY, ["report", "model.pt", "-p", "*"], ["params", "model.pt", "-p", "*"]])
def test_an_exclude_that_matches_nothing_is_a_note(cli: Cli, folder: Path, command: list[str]) -> None:
    expected = cli(*command)
    Path("model.pruned.pt").unlink(missing_ok=True)
    outcome = cli(*command, "-x", "*.LayerNorm.*", "-x", "fc1", *(["--force"] if command == APPLY else []))
    assert (outcome.code, outcome.raw) == (0, expected.raw)
    notes = outcome.err.splitlines()
    assert "prunecli: note: -x *.LayerNorm.* matches nothing; 'prunecli params' lists all names" in notes
    assert "prunecli: note: -x fc1 is a module; for its parameters, write -x 'fc1.*'" in notes
    assert " -x " not in expected.err


@pytest.mark.usefixtures("folder")
def test_what_narrows_a_selection_narrows_everything_that_is_only_read(cli: Cli) -> None:
    for command in ("params", "report"):
        for narrowing in (["--min-dim", "2"], ["-x", "fc1.*"]):
            line = [command, "model.pt", *narrowing]
            outcome = cli(*line)
            assert outcome == cli(*line, "-p", "*") != cli(command, "model.pt")
            assert outcome.code == 0


def test_the_beginning_of_several_names_is_answered_with_a_pattern(refused: Refusal) -> None:
    assert refused(2, "params", "model.pt", "-p", "fc") == "-p fc matches nothing; did you mean -p 'fc*'?"
