"""What transformers writes with `distributed_checkpoint=True`: pruned in slices, and loaded again by two ranks."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from foreign_tools import library, script

from prunecli.cli.app import run
from prunecli.formats.opening import open_any

transformers: Any = library("transformers")
library("accelerate")  # without it, transformers does not load for several ranks
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]


def two_ranks(what: str, folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", script("transformers_ranks.py"), what, str(folder)]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [rank.wait(timeout=400) for rank in ranks] == [0, 0]


def test_a_model_in_slices_is_the_model_that_is_pruned_whole(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "whole")
    two_ranks("save", tmp_path / "whole")
    with open_any(tmp_path / "slices") as opened:
        assert opened.format == "folder of safetensors slices"
        assert any(each.parts for each in opened.tensors.values())
    for name in ("whole", "slices"):
        asked = ["-p", "*.weight", "-a", "0.5", "--min-dim", "2", "--seed", "7", "--remove"]
        assert run(["apply", str(tmp_path / name), *asked, "-o", str(tmp_path / f"{name}.out")]) == 0
    two_ranks("load", tmp_path / "slices.out")
    loaded = torch.load(tmp_path / "loaded.pt", weights_only=True)
    whole = safetensors.torch.load_file(tmp_path / "whole.out" / "model.safetensors")
    assert loaded.keys() == whole.keys()
    assert all(torch.equal(loaded[name], whole[name]) for name in whole)
    assert int((whole["lm_head.weight"] == 0).sum()) == 256
