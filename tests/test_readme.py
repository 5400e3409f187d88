"""README.md: its length, and what CI takes from it. test_first_hour.py types its lines."""

import math
import re
import shlex
import subprocess

import pytest
from doc_pages import README, ROOT, blocks_of

MARKED = {block.mark: block.code for block in blocks_of(README) if block.mark}


def test_it_fits_four_screens() -> None:
    """As a pager shows it on a terminal of 80x24."""
    lines = README.read_text(encoding="utf-8").splitlines()
    assert sum(max(1, math.ceil(len(line) / 80)) for line in lines) <= 4 * 24


def test_ci_finds_its_two_command_lines() -> None:
    assert list(MARKED) == ["main job", "tests"]
    assert README.read_text(encoding="utf-8").count("<!-- ci:") == 2


@pytest.mark.parametrize("mark", ["main job", "tests"])
def test_each_is_one_line_that_pins_its_versions(mark: str) -> None:
    (line,) = MARKED[mark].splitlines()
    parts = [shlex.split(part) for part in line.split(" && ")]
    venv = parts[0][-1]
    assert parts[0][1:3] == ["-m", "venv"]
    assert parts[1][0] == f"{venv}/bin/pip"
    assert "-c constraints.txt" in line
    assert parts[2][0].startswith(f"{venv}/bin/")


def test_ci_extracts_what_stands_there() -> None:
    function = re.search(r"^block\(\) \{.*?^\}$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)
    assert function
    for mark, code in MARKED.items():
        script = f"{function[0]}\nblock '{mark}'"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == code
