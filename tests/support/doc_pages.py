"""The pages of documentation: their blocks of code, and a folder with the files that they name."""

import atexit
import contextlib
import functools
import io
import re
import shlex
import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from export_zoo import save as save_archive
from folder_zoo import make_folder
from forked import executable, python
from ranks import TORCHRUN
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli import files

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
FENCE = re.compile(
    r"(?:^<!-- ci: (?P<mark>[^\n]*) -->\n)?^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
PROGRAMS = {"prunecli": ("-m", "prunecli"), "torchrun": ("-m", "torch.distributed.run"), "python": (), "python3": ()}
LOADED = {"torchrun": TORCHRUN, "examples/": TORCHRUN, "s3://": ("s3fs",)}
"""What is loaded already where a program runs lines with this in them."""


@dataclass(frozen=True)
class Block:
    """Fenced code: bash, console, python; text is not run. `mark` is what CI finds it by."""

    language: str
    code: str
    mark: str | None


def blocks_of(page: Path) -> list[Block]:
    """Return a page's blocks of code in order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(each["language"], textwrap.dedent(each["code"]), each["mark"]) for each in found]


def make_files(folder: Path, page: Path) -> None:
    """Make the files that pages name, but for what this page's own commands make."""
    shutil.copytree(_files(), folder, symlinks=True, dirs_exist_ok=True)
    if "program.pt2" in page.read_text(encoding="utf-8"):
        save_archive(_module(), folder / "program.pt2", torch.ones(1, 8))
    if "-o masked.pt" in page.read_text(encoding="utf-8"):
        (folder / "masked.pt").unlink()


@functools.cache
def _files() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pages-"))
    atexit.register(shutil.rmtree, folder)
    example = ROOT / "examples" / "digits.pt"
    (folder / "model.pt").write_bytes(example.read_bytes())
    (folder / "examples").symlink_to(ROOT / "examples")
    tensors = torch.load(example, weights_only=True)["state_dict"]
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(ROOT / "tests" / "formats" / "golden" / "sparse" / "0.8.1.safetensors", folder / "old.safetensors")
    make_folder(folder / "model", [{name: tensor} for name, tensor in tensors.items()])
    with pytest.warns(UserWarning, match="save in a single process"):
        save_distributed(tensors, checkpoint_id=folder / "dcp", no_dist=True)
    torch.save(_module(), folder / "whole.pt")
    torch.jit.save(torch.jit.script(_module()), folder / "program.pt")
    files.apply(folder / "model.pt", params="fc*.weight", amount=0.5, no_report=True, output=folder / "masked.pt")
    return folder


def _module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))


def run_bash(code: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Run lines as a script; a line that fails, or a part of a pipe, fails all. Return standard output."""
    modules = next((modules for word, modules in LOADED.items() if word in code), ())
    if modules == TORCHRUN:
        environment = {**environment, "PYTHON_EXEC": executable(*modules)}
    functions = [f'{name}() {{ {shlex.join((*python(*modules), *start))} "$@"; }}' for name, start in PROGRAMS.items()]
    command = ["bash", "-c", "\n".join(["set -euo pipefail", *functions, code])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=240)
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


def run_console(code: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Run what follows each `$ `, and compare its standard output with what stands below it."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        line, _, shown = part.partition("\n")
        assert run_bash(line, folder, environment) == shown, line


def run_python(code: str, names: dict[str, Any]) -> None:
    """Run a block with the names of those before it; what a `print` prints stands behind it as a comment."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page", "exec"), names)  # noqa: S102
    assert printed.getvalue().splitlines() == list(_comments(code)), code


def _comments(code: str) -> Iterator[str]:
    for line in code.splitlines():
        if line.lstrip().startswith("print("):
            yield line.rpartition("  # ")[2]
