"""README.md: what CI takes from it is there, and every command line in it runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bucket_server import KEYS, serving
from folder_zoo import make_folder
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
FENCE = re.compile(r"^(?:<!-- ci: (?P<mark>[^\n]*) -->\n)?```bash\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(found["mark"], found["code"]) for found in FENCE.finditer(README.read_text(encoding="utf-8"))]
MARKED = dict(each for each in BLOCKS if each[0])
OTHERS = [code for mark, code in BLOCKS if not mark]


def test_ci_finds_its_two_command_lines() -> None:
    assert [mark for mark, _ in BLOCKS if mark] == ["main job", "tests"]
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the README names."""
    example = ROOT / "examples" / "digits.pt"
    (tmp_path / "model.pt").write_bytes(example.read_bytes())
    tensors = torch.load(example, weights_only=True)["state_dict"]
    save_file(tensors, tmp_path / "model.safetensors")
    make_folder(tmp_path / "model", [{name: tensor} for name, tensor in tensors.items()])
    with pytest.warns(UserWarning, match="save in a single process"):
        save_distributed(tensors, checkpoint_id=tmp_path / "dcp", no_dist=True)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
    torch.save(module, tmp_path / "whole.pt")
    torch.jit.save(torch.jit.script(module), tmp_path / "program.pt")
    return tmp_path


@pytest.fixture
def environment(request: pytest.FixtureRequest, folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a command, which has the bucket that it names, with the same files."""
    if "s3://" not in request.getfixturevalue("code"):
        yield dict(os.environ)
        return
    with serving() as server:
        server.name = "bucket"
        server.client.create_bucket(Bucket=server.name)
        for path in folder.rglob("*"):
            if path.is_file():
                server.put(str(path.relative_to(folder)), path.read_bytes())
        yield {**os.environ, **KEYS, "AWS_ENDPOINT_URL": server.endpoint}


@pytest.mark.parametrize("code", OTHERS, ids=[code.partition("\n")[0] for code in OTHERS])
def test_every_other_block_runs(folder: Path, environment: dict[str, str], code: str) -> None:
    """In a folder with the files that they name; a line that fails, or a part of a pipe, fails the block."""
    programs = {"prunecli": "prunecli", "torchrun": "torch.distributed.run"}
    functions = [f'{name}() {{ {sys.executable} -m {module} "$@"; }}' for name, module in programs.items()]
    script = "\n".join(["set -euo pipefail", *functions, code])
    command = ["bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "prunecli " in code


def test_the_code_for_live_models_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n([^`]*prune_module.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8, bias=False), torch.nn.LayerNorm(8, bias=False))
    exec(compile(code, "README.md", "exec"), {"model": model})  # noqa: S102
    assert capsys.readouterr().out == "0.444\n"
    assert int((model.get_parameter("0.weight") == 0).sum()) == 32


def test_the_session_shows_what_the_command_prints(tmp_path: Path) -> None:
    """```console blocks: a line after `$ ` is run, what follows is its standard output."""
    (session,) = re.findall(
        r"^```console\n\$ prunecli ([^\n]*)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL
    )
    example = ROOT / "examples" / "digits.pt"
    tensors = torch.load(example, weights_only=True)["state_dict"]
    save_file(tensors, tmp_path / "model.safetensors")
    make_folder(tmp_path / "model", [{name: tensor} for name, tensor in tensors.items()])
    line = [sys.executable, "-m", "prunecli", *shlex.split(session[0])]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True)
    assert done.stdout == session[1]
