"""Completion in real shells: what stands on the line after a TAB, and that nothing else happens."""

import functools
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from terminals import Terminal, has, program, terminal

from prunecli.cli.completion_scripts import SCRIPTS

SHELLS = [
    pytest.param(name, marks=[] if has(name) else pytest.mark.skip(reason=f"{name} is not installed"))
    for name in SCRIPTS
]
BASH = r"""bind 'set bell-style none'; bind 'set enable-bracketed-paste off'
bind -x '"\C-t": printf "<<%s>>\n" "$READLINE_LINE"'
source ./script
PS1='rea''dy '
"""
ZSH = r"""autoload -Uz compinit; compinit -u -D
source ./script
shown() { print -r -- "<<$BUFFER>>" }; zle -N shown; bindkey '^T' shown
unsetopt list_beep
PS1='rea''dy '
"""
FISH = r"""source ./script
bind \ct 'echo "<<"(commandline)">>"'
function fish_prompt; echo -n rea''dy' '; end
"""
INSTALLED = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        BASH.replace("./script", "~/.local/share/bash-completion/completions/prunecli"),
    ),
    "zsh": (["zsh", "-f", "-i"], "fpath+=(~/.zfunc)\n" + ZSH.replace("source ./script\n", "")),
    "fish": (["fish", "--private"], FISH.replace("source ./script\n", "")),
}
"""With the script where `--install-completion` put it, after what that says is to be done."""

START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], BASH),
    "zsh": (["zsh", "-f", "-i"], ZSH),
    "fish": (["fish", "--private", "--no-config"], FISH),
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("shells")
    (home := place / "home").mkdir()
    path = f"{program(place / 'bin')}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "TERM": "xterm", "LANG": "C.UTF-8", "COLUMNS": "200"}


@pytest.fixture(scope="module")
def screens(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Terminal]]:
    """Each shell on one terminal for all tests: some take longer to start than to complete a line."""
    with ExitStack() as stack:

        @functools.cache
        def started(shell: str) -> Terminal:
            script = tmp_path_factory.mktemp(shell) / "script"
            script.write_text(SCRIPTS[shell])
            command, setup = START[shell]
            screen = stack.enter_context(terminal(command, environment))
            _prepare(screen, setup.replace("./script", str(script)))
            return screen

        yield started


@pytest.fixture
def shown(folder: Path, screens: Callable[[str], Terminal]) -> Callable[[str, str], re.Match[str]]:
    """Type something and TAB into a shell; return what that showed, and the line that is there then."""

    def call(shell: str, line: str) -> re.Match[str]:
        screen = screens(shell)
        screen.send(f"\x15cd {folder}; echo arr''ived\n")  # ^U: without the line of the test before
        screen.wait_for("arrived.*ready ")
        screen.send(line + "\t\x14")
        return screen.wait_for(r"^(.*?)<<(.*?)>>")

    return call


@pytest.fixture
def typed(shown: Callable[[str, str], re.Match[str]]) -> Callable[[str, str], str]:
    """Type something and TAB into a shell, and return the line that is there then."""
    return lambda shell, line: shown(shell, line)[2].rstrip()


def _prepare(screen: Terminal, setup: str) -> None:
    screen.send(setup)
    screen.wait_for("ready ")


CASES = [
    ("prunecli app", "prunecli apply"),
    ("prunecli params --excl", "prunecli params --exclude"),
    ("prunecli report m.pt --format js", "prunecli report m.pt --format json"),
    ("prunecli report m.pt --format=js", "prunecli report m.pt --format=json"),
    ("prunecli params model.safet", "prunecli params model.safetensors"),
    ("prunecli apply model.pt -p fc1.w", "prunecli apply model.pt -p fc1.weight"),
    (
        "prunecli apply --min-dim 2 -q model.safetensors -a 0.5 --exclude bn1.running_m",
        "prunecli apply --min-dim 2 -q model.safetensors -a 0.5 --exclude bn1.running_mean",
    ),
    ("prunecli apply -p fc1.w", "prunecli apply -p fc1.w"),
    ("prunecli apply none.pt -p fc1.w", "prunecli apply none.pt -p fc1.w"),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "then"), CASES)
def test_the_line_after_a_tab(typed: Callable[[str, str], str], shell: str, line: str, then: str) -> None:
    assert typed(shell, line) == then


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("shell", SHELLS)
def test_the_installed_script(environment: dict[str, str], shell: str) -> None:
    line = ["prunecli", "--install-completion", shell]
    subprocess.run(line, env=environment, check=True, capture_output=True)
    command, setup = INSTALLED[shell]
    with terminal(command, environment) as screen:
        _prepare(screen, setup)
        for typing, then in (("prunecli app", "apply"), (" model.pt -p fc1.w", "model.pt -p fc1.weight")):
            screen.send(f"{typing}\t\x14")
            assert screen.wait_for(r"<<(.*?)>>")[1].rstrip().endswith(then)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["it's", "a b", "$(touch ran)", "`touch ran`", "x;touch ran", "*", "a:b", 'q"q', "~"])
def test_a_name_reaches_the_program_as_it_is(
    folder: Path, environment: dict[str, str], typed: Callable[[str, str], str], shell: str, name: str
) -> None:
    """The line that the shell completed, given to that shell, is the name, and ran nothing."""
    save_file({"w_" + name: torch.ones(2)}, "odd.safetensors")
    line = typed(shell, "prunecli params odd.safetensors -p w")
    command = line.replace("prunecli", "printf '%s\\n'", 1)
    done = subprocess.run([shell, "-c", command], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["params", "odd.safetensors", "-p", "w_" + name]
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("typing", "then"), [("-p a:b", "a:b:c=d"), ("--param=a:b:", "a:b:c=d"), ("-p z.", "z.é")])
def test_after_the_characters_at_which_shells_break_words(
    typed: Callable[[str, str], str], shell: str, typing: str, then: str
) -> None:
    save_file({"a:b:c=d": torch.ones(2), "z.é": torch.ones(2)}, "odd.safetensors")
    line = typed(shell, f"prunecli params odd.safetensors {typing}")
    start = f"prunecli params odd.safetensors {typing}"
    start = start[: -len(typing.replace("=", " ").partition(" ")[2])]
    assert line.replace("\\", "") == start + then


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("path", ["'my model.pt'", "my\\ model.pt", "~/model.pt", '"my model.pt"'])
def test_a_checkpoint_in_quotes_or_at_home(
    folder: Path, environment: dict[str, str], typed: Callable[[str, str], str], shell: str, path: str
) -> None:
    for place in (folder / "my model.pt", Path(environment["HOME"]) / "model.pt"):
        place.write_bytes((folder / "model.pt").read_bytes())
    assert typed(shell, f"prunecli params {path} -p fc1.w") == f"prunecli params {path} -p fc1.weight"


@pytest.mark.parametrize("shell", SHELLS)
def test_in_an_open_quote(typed: Callable[[str, str], str], shell: str) -> None:
    line = typed(shell, "prunecli params model.pt -p 'fc1.w")
    assert line in ("prunecli params model.pt -p 'fc1.weight'", "prunecli params model.pt -p 'fc1.weight")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04" + b"x" * 100, b"\xff" * 1000])
def test_a_damaged_checkpoint_says_nothing(
    folder: Path, shown: Callable[[str, str], re.Match[str]], shell: str, content: bytes
) -> None:
    """Neither a candidate nor a word on the screen."""
    (folder / "bad.pt").write_bytes(content)
    found = shown(shell, "prunecli apply bad.pt -p fc")
    assert found[2] == "prunecli apply bad.pt -p fc"
    assert "rror" not in found[1]
    assert "Traceback" not in found[1]


def in_bash(line: str, environment: dict[str, str]) -> list[str]:
    """Call the completion function as bash does, and return its candidates."""
    code = f"""source ./script
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        COMP_WORDS=({line}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _prunecli prunecli "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    return done.stdout.split()


def test_all_candidates_in_bash(folder: Path, environment: dict[str, str]) -> None:
    (folder / "script").write_text(SCRIPTS["bash"])
    line = "prunecli apply model.pt --param fc"
    assert in_bash(line, environment) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert in_bash("prunecli apply --min", environment) == ["--min-dim"]
    assert in_bash("prunecli apply model.pt -p none", environment) == []
