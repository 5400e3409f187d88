"""What the tests against other libraries share: a prune from the command line, and bytes to compare."""

import importlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from prunecli.cli.app import run

__all__ = ["library", "llama", "load", "prune", "raw", "save", "script"]


def library(name: str) -> Any:
    """Return a library of the extra [foreign].

    Without PRUNECLI_FOREIGN=1, which CI sets, the tests of the file are skipped: some libraries take seconds to import,
    and each worker of the other tests would import them only to leave these tests out.
    """
    if os.environ.get("PRUNECLI_FOREIGN") != "1":
        pytest.skip(f"needs {name}, and runs with PRUNECLI_FOREIGN=1", allow_module_level=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a library says while it is imported is not about us
        return importlib.import_module(name)


def script(name: str) -> str:
    """Return the path of a script of this folder, for a process of its own."""
    return str(Path(__file__).with_name(name))


def llama() -> Any:
    """Return a tiny Llama of transformers, always the same."""
    transformers = library("transformers")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=50,
    )
    return transformers.LlamaForCausalLM(config).eval()


def save(tensors: dict[str, Tensor], path: Path) -> Path:
    """Write a checkpoint in the format of its suffix."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def load(path: Path) -> Any:
    """Read a checkpoint with the library that owns its format."""
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    return torch.load(path, weights_only=True)


def raw(tensor: Tensor) -> bytes:
    """Return the bytes of a tensor's elements, row-major."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def prune(source: Path, target: Path, *patterns: str, code: int = 0) -> set[str]:
    """Bake half of all that the patterns take; return the names of what was pruned."""
    report = target.parent / "report.json"
    chosen = [part for pattern in patterns or ("*",) for part in ("-p", pattern)]
    asked = ["apply", str(source), *chosen, "-a", "0.5", "--seed", "7", "--remove", "-o", str(target)]
    assert run([*asked, "--report", str(report), "--force"]) == code
    if code:
        return set()
    return {each["name"] for each in json.loads(report.read_bytes())["parameters"] if each["pruned_now"]}
