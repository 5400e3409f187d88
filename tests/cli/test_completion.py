"""What the program answers a shell: candidates that stand for themselves, and never an error."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from forked import prunecli
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from test_cli_hostile_names import NAMES

from prunecli.cli.app import app
from prunecli.cli.completion import Answer, complete, in_steps
from prunecli.cli.completion_scripts import ASKED, SCRIPTS
from prunecli.cli.shell_words import quoted, typed_words

Cli = Callable[..., Any]
GROUP: Any = typer.main.get_command(app)


def words(line: str) -> list[str]:
    """Return the candidates at the end of a line."""
    *before, word = line.split(" ")
    return [each for each, _ in complete(GROUP, before, word).candidates]


@pytest.mark.usefixtures("folder")
def test_where_the_cursor_is_decides() -> None:
    names = ["fc1.weight", "fc1.bias"]
    assert words("re") == ["remove", "restore", "report"]
    assert words("apply model.pt -p fc1.") == names
    assert words("apply -p fc1. model.pt") == []  # it is not known yet which checkpoint
    assert words("apply model.pt --param=fc1.") == [f"--param={each}" for each in names]
    assert words("apply -q -a 0.5 model.pt -x fc1.") == names
    assert words("apply -qa 0.5 model.pt -x fc1.") == names
    assert words("apply -qa0.5 model.pt -x fc1.") == names
    assert words("apply --seed=3 --min-dim 2 model.pt -p fc2.weight -p fc1.") == names
    assert words("--debug report model.pt --format js") == ["json"]
    assert words("apply --mask-dtype ") == ["bool", "same"]
    assert words("apply model.pt --see") == ["--seed", "--seeds"]
    assert words("apply model.pt --seed 1 --see") == ["--seeds"]
    assert words("apply model.pt -p a --para") == ["--param", "--params-from"]
    assert words("apply -- model.pt --se") == []
    assert words("apply model.pt --seed ") == []
    assert words("none model.pt -p fc1.") == []
    assert words("params model.pt --key state_dict -p fc1.") == names


@pytest.mark.usefixtures("folder")
def test_files_are_left_to_the_shell() -> None:
    files = Answer("files")
    for line in (
        "apply ",
        "params mod",
        "apply model.pt -o x",
        "apply model.pt --report ",
        "apply -p a --params-from ",
    ):
        *before, word = line.split(" ")
        assert complete(GROUP, before, word) == files, line
    assert complete(GROUP, ["apply", "model.pt"], "x") == Answer()
    assert complete(GROUP, ["report", "a.pt", "b.pt"], "c") == files, "report takes several"


@pytest.mark.usefixtures("folder")
def test_remove_is_offered_what_is_masked(cli: Cli) -> None:
    assert words("remove model.pt -p ") == []
    cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "masked.pt")
    assert words("remove masked.pt -p ") == ["fc1.weight"]
    save_file({"fc.weight": torch.ones(2), "fc.mask": torch.ones(2), "b": torch.ones(2)}, "made.safetensors")
    assert words("remove made.safetensors -p ") == ["fc.weight"]
    assert words("apply made.safetensors -p ") == ["b", "fc.weight"]


@pytest.mark.usefixtures("folder")
def test_commands_on_masks_complete_within_their_group(cli: Cli) -> None:
    assert words("mas") == ["mask"]
    assert words("mask in") == ["invert"]
    assert words("mask combine --m") == ["--minus"]
    assert words("mask overlap a.pt b.pt --format js") == ["json"]
    assert complete(GROUP, ["mask", "combine", "a.pt"], "") == Answer("files")
    assert complete(GROUP, ["mask", "combine", "a.pt", "b.pt"], "") == Answer()
    cli("apply", "model.pt", "-p", "fc1.weight", "-a", "0.5", "-o", "masked.pt")
    cli("mask", "extract", "masked.pt", "-o", "masks.safetensors")
    assert words("mask extract masked.pt -p fc") == ["fc1.weight"]
    assert words("mask extract masked.pt --from-zeros -p fc1.") == ["fc1.weight", "fc1.bias"]
    assert words("mask extract masks.safetensors -p fc") == ["fc1.weight"]


def asked(shell: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [*prunecli(), *arguments]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, env={**os.environ, ASKED: shell})


@pytest.mark.parametrize("shell", SCRIPTS)
def test_hostile_names_are_no_candidates(folder: Path, shell: str) -> None:
    save_file({name: torch.ones(2) for name in [*NAMES, "re:x", "-p", "fine.weight"]}, "hostile.safetensors")
    arguments = (
        ["prunecli params hostile.safetensors -p ", ""]
        if shell == "bash"
        else ["params", "hostile.safetensors", "-p", ""]
    )
    done = asked(shell, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    kind, *lines = done.stdout.split("\n")[:-1]
    assert kind == "words"
    plain = [name for name in NAMES if name.isprintable()] + ["fine.weight"]
    found = [shlex.split(line)[0] if shell == "bash" else line.split("\t")[0] for line in lines]
    assert sorted(found) == sorted(plain)


@pytest.mark.parametrize(
    "arguments", [[], [""], ["prunecli"], ["'"], ["prunecli x", "y", "z"], ["prunecli apply \\", ""]]
)
@pytest.mark.parametrize("shell", [*SCRIPTS, "csh", "complete_bash"])
def test_whatever_is_asked_there_is_no_error(arguments: list[str], shell: str) -> None:
    done = asked(shell, *arguments)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "path",
    ["none.pt", ".", "pipe", "/dev/zero", "s3://bucket/model.pt", "https://127.0.0.1:9/m", "-", "\0", "~nobody/x"],
)
def test_checkpoints_that_are_none(folder: Path, path: str) -> None:
    os.mkfifo(folder / "pipe")
    line = shlex.join(["prunecli", "apply", path, "-p", ""]).removesuffix("''")
    done = asked("bash", line.replace("\0", ""), "")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in ("", "words\n")


def test_neither_torch_nor_rich_is_imported(folder: Path) -> None:
    code = (
        "import sys; from prunecli.cli.app import run; run(sys.argv[1:]); print({'torch', 'rich'} & set(sys.modules))"
    )
    line = [sys.executable, "-c", code, "apply", "model.pt", "-p", "fc1."]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, ASKED: "zsh"})
    assert done.stdout.splitlines() == ["words", "fc1.weight\tfloat32 64x512", "fc1.bias\tfloat32 64", "set()"]


NAME = st.lists(st.sampled_from(["a", "b", "layer", "0", "1", "10"]), min_size=1, max_size=5).map(".".join)


@given(st.lists(NAME, unique=True), st.integers(0, 8), st.integers(1, 10))
def test_steps_lead_to_every_name_and_to_no_other(names: list[str], length: int, many: int) -> None:
    for name in names:
        typed = name[:length]
        while typed != name:
            steps, whole = in_steps(names, typed, many)
            assert all(any(each.startswith(step) for each in names) for step in steps)
            assert len(steps) == len(set(steps))
            if whole:
                assert steps == [each for each in names if each.startswith(typed)]
                break
            (step,) = [each for each in steps if name == each or (each.endswith(".") and name.startswith(each))]
            assert len(step) > len(typed)
            typed = step


@given(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"])))
def test_a_quoted_word_is_read_back(word: str) -> None:
    """By the rules of POSIX shells, which Python's shlex has, too."""
    written = quoted(word, "")
    assert written is not None
    assert (shlex.split(written) or [""]) == [word]
    for quote in "'\"":
        inside = quoted(word, quote)
        if inside is not None:
            assert shlex.split(quote + inside + quote) == [word]


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF)), min_size=1))
def test_a_line_is_taken_apart_as_a_shell_does(line: list[str]) -> None:
    parts = shlex.split(shlex.join(line))
    typed = typed_words("prunecli " + " ".join(map(shlex.quote, line)), "")
    assert [*typed.before, typed.word] == parts or "" in line


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_shown_and_installed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    shown = cli("--show-completion", shell)
    assert (shown.code, shown.out, shown.err) == (0, SCRIPTS[shell], "")
    for _ in range(2):
        outcome = cli("--install-completion", shell)
        assert outcome.code == 0
        assert Path(outcome.out.strip()).read_text() == SCRIPTS[shell]
        assert Path(outcome.out.strip()).is_relative_to(tmp_path)
        assert outcome.err.startswith("prunecli: note: ")


def test_a_script_that_cannot_be_installed(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    outcome = cli("--install-completion", "fish")
    assert (outcome.code, outcome.out) == (6, "")
    assert outcome.err.startswith("prunecli: error: cannot write ")
