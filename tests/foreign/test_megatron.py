"""Megatron-Core's distributed folders (`torch_dist`): read without a flag, baked, loaded by Megatron-Core."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from foreign_tools import library, script

from prunecli.cli.app import run
from prunecli.formats.opening import open_any

library("megatron.core")
pytestmark = pytest.mark.foreign


def megatron(what: str, folder: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-W", "ignore", script("megatron_save.py"), what, str(folder)]
    subprocess.run(command, check=True, timeout=300, env=environment)


def test_a_torch_dist_folder_is_pruned_and_loads_again(tmp_path: Path) -> None:
    megatron("save", tmp_path / "iter_0000005")
    with open_any(tmp_path / "iter_0000005") as checkpoint:
        assert {name: each.shape for name, each in checkpoint.tensors.items()} == {
            "model.output.weight": (8, 6),
            "model.stack.weight": (2, 4, 6),
        }
        assert [each.name for each in checkpoint.carried] == ["optimizer.state.exp_avg.model.output.weight"]
    out = tmp_path / "pruned"
    asked = ["-p", "*.weight", "-a", "0.5", "--seed", "3", "--remove", "-o", str(out)]
    assert run(["apply", str(tmp_path / "iter_0000005"), *asked]) == 0
    megatron("load", out)
    loaded = torch.load(tmp_path / "loaded.pt", weights_only=False)
    assert int((loaded["output.weight"] == 0).sum()) == 24
    assert sum(int((loaded[f"layers.{place}.weight"] == 0).sum()) for place in range(2)) == 24
    assert not (loaded["exp_avg"] == 0).any()
    assert not any((loaded[name] < 0).any() for name in ("output.weight", "exp_avg"))
