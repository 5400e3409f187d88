"""The program run in this process on copies of a small real checkpoint, and what a refusal has to look like."""

import functools
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from safetensors.torch import save

from prunecli.cli.app import run

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.pt"
PREFIX = "prunecli: error: "
NOTE = "prunecli: note: "

torch.set_num_threads(1)  # several that wait for each other take twice the time on tiny tensors
gc.disable()  # until all tests are collected, of which those in this folder are the first


def pytest_collection_finish() -> None:
    """Exclude what was imported and collected from garbage collection, which took a tenth of the time of all tests.

    And let no file that a test writes in this process wait for the disk: that took a third of the time, and most of it
    on a slow disk. Processes that tests start do sync, and tests that look at it put their own call in place of this.
    """
    gc.freeze()
    gc.enable()
    pytest.MonkeyPatch().setattr(os, "fsync", os.fstat)  # fails as fsync does if the file is not open
    if hasattr(os, "posix_fadvise"):  # it starts writing to the disk
        pytest.MonkeyPatch().setattr(os, "posix_fadvise", lambda *_: None)


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """Standard output as text."""
        return os.fsdecode(self.raw)

    @property
    def json(self) -> Any:
        """The report on standard output."""
        return json.loads(self.out)


Cli = Callable[..., Outcome]
Refusal = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def commands_made_once() -> Iterator[None]:
    """Have typer keep the commands that it makes of the functions: a process of a user makes them once, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def safetensors_bytes() -> bytes:
    return save(torch.load(EXAMPLE, weights_only=True)["state_dict"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, safetensors_bytes: bytes) -> Path:
    """A working directory that holds the example as model.pt and as model.safetensors."""
    monkeypatch.chdir(tmp_path)
    Path("model.pt").write_bytes(EXAMPLE.read_bytes())
    Path("model.safetensors").write_bytes(safetensors_bytes)
    return tmp_path


@pytest.fixture
def cli(capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Cli]:
    """Run a command line in this process; its standard input, if given, is a file."""
    stdin = os.dup(0)

    def call(*arguments: object, stdin: Path | None = None) -> Outcome:
        source = os.open(stdin or os.devnull, os.O_RDONLY)
        os.dup2(source, 0)
        os.close(source)
        capfdbinary.readouterr()
        code = run([str(each) for each in arguments])
        captured = capfdbinary.readouterr()
        return Outcome(code, captured.out, captured.err.decode())

    yield call
    os.dup2(stdin, 0)
    os.close(stdin)


def digests(folder: Path) -> dict[str, str]:
    """Fingerprint all regular files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def refused(cli: Cli, folder: Path) -> Refusal:
    """Run a command line that must fail with a code: one line after any notes, nothing on stdout, nothing written."""

    def call(code: int, *arguments: object, stdin: Path | None = None) -> str:
        before, names = digests(folder), sorted(folder.rglob("*"))
        outcome = cli(*arguments, stdin=stdin)
        assert outcome.code == code, outcome.err
        assert outcome.out == ""
        assert outcome.err.endswith("\n")
        *notes, line = outcome.err[:-1].split("\n")  # what is left out is said before the output is looked at
        assert all(note.startswith(NOTE) and note.isprintable() for note in notes), outcome.err
        assert line.startswith(PREFIX)
        assert line.isprintable()
        assert len(line) <= 300
        assert digests(folder) == before
        assert sorted(folder.rglob("*")) == names
        return line.removeprefix(PREFIX)

    return call
