"""The first hour: README's lines in order, as typed on a terminal of 80x24 in a fresh clone, and what is seen.

tests/first_hour.txt is what a person sees who types them, and was looked at. After a change of what commands print:

    FIRST_HOUR=write python -m pytest tests/test_first_hour.py

then look at the difference before you commit it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import README, ROOT, blocks_of
from forked import prunecli, python
from screens import Screen
from terminals import has, terminal

SEEN = Path(__file__).with_name("first_hour.txt")
LINES = [line for block in blocks_of(README) if block.mark != "tests" for line in block.code.splitlines()]
VARYING = [
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b"), "N s"),
    (re.compile(r"\b\d+(\.\d+)? [kMG]?B/s"), "N MB/s"),
]
MODULES = ("torch", "sklearn.datasets")

pytestmark = pytest.mark.skipif(not has("bash") or not has("git"), reason="types into bash, in a clone that git makes")


def clone(folder: Path) -> Path:
    """Put the files that git knows into a folder, as they are here."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def programs(folder: Path) -> Path:
    """Make programs for the path: they install nothing, and a new environment gets them instead of its own."""
    lines = {
        "pip": 'case "$*" in "install -q -c constraints.txt "*) test -f constraints.txt;; *) exit 9;; esac',
        "prunecli": f'exec {shlex.join(prunecli(*MODULES))} "$@"',
        "python": f'exec {shlex.join(python(*MODULES))} "$@"',
        "python3": f'test "$1 $2" = "-m venv" && {sys.executable} -m venv --without-pip "$3" && '
        f'ln -sf {folder}/environment/* "$3/bin"',
    }
    for name, line in lines.items():
        script = folder / ("" if name == "python3" else "environment") / name
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    return folder


def played(folder: Path, columns: int) -> Iterator[Screen]:
    """Type README's lines on a terminal of that width; yield the screen after each."""
    path = f"{programs(folder / 'programs')}:/usr/bin:/bin"
    environment = {"HOME": str(folder), "PATH": path, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    environment |= {"VIRTUAL_ENV_DISABLE_PROMPT": "1", "PS1": r"\036$?\036"}
    shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
    with terminal(shell, environment, size=(24, columns), folder=clone(folder / "prunecli")) as typing:
        for line in ["set -o pipefail", *LINES]:
            typing.wait_for("\x1e0\x1e")
            typing.send(f"{line}\n")
            typing.wait_for(re.escape(line) + "\r\n")
            output = typing.wait_for(r"\A([^\x1e]*)(?=\x1e([0-9]+)\x1e)")
            assert output[2] == "0", f"{line} ended with {output[2]}: {output[1]}"
            if line in LINES:
                yield Screen(columns).show(output[1])


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> list[Screen]:
    return list(played(tmp_path_factory.mktemp("hour"), 80))


def test_it_is_what_was_looked_at(hour: list[Screen]) -> None:
    seen = "\n\n".join(f"$ {line}\n{screen.text}".rstrip() for line, screen in zip(LINES, hour, strict=True)) + "\n"
    for pattern, constant in VARYING:
        seen = pattern.sub(constant, seen)
    if os.environ.get("FIRST_HOUR") == "write":
        SEEN.write_text(seen, encoding="utf-8")
    assert seen == SEEN.read_text(encoding="utf-8")


def test_no_line_is_longer_than_the_screen_is_wide(hour: list[Screen]) -> None:
    assert [screen.broken for screen in hour if screen.broken] == []


def test_no_word_is_broken_and_no_path_cut(hour: list[Screen], tmp_path: Path) -> None:
    """Every word is also there on a screen on which nothing has to be made to fit."""
    for line, screen, wide in zip(LINES, hour, played(tmp_path, 400), strict=True):
        assert words(screen) <= words(wide), line


def words(screen: Screen) -> set[str]:
    """Return what stands on a screen between blanks, without bars."""
    return set(re.sub("[█-▏]", "", screen.text).split())


def test_the_accuracies_in_readme(hour: list[Screen]) -> None:
    before, one_layer, every_matrix = re.findall(r"([\d.]+ %)$", hour[-1].text, re.MULTILINE)
    said = " ".join(README.read_text(encoding="utf-8").split())
    assert f"{before}, {one_layer} with half of one layer pruned, {every_matrix} with half of every matrix" in said


def test_the_screen_shows_what_a_terminal_shows() -> None:
    screen = Screen(8).show("\x1b[?25la bar\r\x1b[2K\x1b[1mdone\x1b[0m\r\n12345678\r\nx\ty")
    assert screen.text == "done\n12345678\nx      y"
    assert not screen.broken
    assert screen.show("z\x1b[1A\rABC").text == "done\n12345678\nABC    y\nz"
    assert screen.broken == ["x      yz"]
