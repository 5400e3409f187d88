"""Whether any output depends on what the heap held before: the same runs, under two fillings of fresh memory.

glibc's MALLOC_PERTURB_ sets every byte that is handed out, and every one that is given back, to a value; with
PYTHONMALLOC=malloc, Python's own objects come from there, too.
"""

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from hostile_makers import folder_of
from hostile_table import Row

__all__ = ["digests", "row"]

FILLINGS = (85, 170)
_PROGRAM = """
import sys
from prunecli.cli.app import run
for name in sys.argv[1:]:
    for way in ([], ["--remove"]):
        out = name + ".out" + "".join(way)
        code = run(["apply", name, "-p", "*", "-a", "0.5", "--seed", "3", "-q", "-o", out, *way])
        assert code == 0, (name, way, code)
        assert run(["report", out, "--format", "json", "-o", out + ".json"]) == 0
"""


def _state() -> dict[str, torch.Tensor]:
    weight = torch.arange(1.0, 300_001).reshape(300, 1000)
    return {"w": weight, "half": weight[:7].half(), "t": torch.arange(1.0, 61).reshape(6, 10), "n": torch.arange(9)}


def _saved(*, old: bool) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        out = io.BytesIO()
        strided = _state()["t"].t()
        torch.save(
            {**_state(), "strided": strided.clone(memory_format=torch.preserve_format)},
            out,
            _use_new_zipfile_serialization=not old,
        )
        path.write_bytes(out.getvalue())

    return make


INPUTS: Mapping[str, Callable[[Path], object]] = {
    "m.safetensors": lambda path: path.write_bytes(safetensors.torch.save(_state())),
    "m.pt": _saved(old=False),
    "old.pt": _saved(old=True),
    "folder": folder_of,
}
"""One of each container."""


def digests(inputs: Path, filling: int) -> dict[str, str]:
    """Make all outputs under one filling of the heap; return their checksums by name."""
    with tempfile.TemporaryDirectory(prefix="heap-") as folder:
        root = Path(folder, "at")
        shutil.copytree(inputs, root)
        environment = {**os.environ, "MALLOC_PERTURB_": str(filling), "PYTHONMALLOC": "malloc"}
        command = [sys.executable, "-c", _PROGRAM, *INPUTS]
        subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
        outputs = sorted(path for path in root.rglob("*") if path.is_file() and ".out" in str(path))
        return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in outputs}


def row() -> Row:
    """Return the table's row."""
    with tempfile.TemporaryDirectory(prefix="heap-") as root:
        for name, make in INPUTS.items():
            make(Path(root, name))
        one, other = (digests(Path(root), filling) for filling in FILLINGS)
    differ = [name for name in one if one[name] != other.get(name)]
    enough = len(one) >= 6 * len(INPUTS)  # masked and baked, with reports beside and counted again
    reached = f"{len(one)} files of {len(INPUTS)} containers, {len(differ)} differ"
    met = enough and one.keys() == other.keys() and not differ
    return Row("outputs under two MALLOC_PERTURB_ values", "identical", reached, met)
