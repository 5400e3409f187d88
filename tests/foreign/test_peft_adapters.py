"""Several adapters of peft in one folder: pruned whole, and loaded again one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library
from torch import nn

from prunecli.cli.app import run
from prunecli.formats.opening import open_any

peft: Any = library("peft")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]


def base() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 8))


def test_adapters_saved_together_load_again(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, target_modules=["0", "1"], init_lora_weights=False)
    model = peft.get_peft_model(base(), config)
    model.add_adapter("french", config)
    model.save_pretrained(tmp_path / "a")
    with open_any(tmp_path / "a") as opened:
        assert {name for name in opened.tensors if name.endswith("0.lora_A.weight")} == {
            "base_model.model.0.lora_A.weight",
            "french/base_model.model.0.lora_A.weight",
        }
    asked = ["-p", "*.lora_*.weight", "-a", "0.5", "--seed", "7", "--remove", "-o", str(tmp_path / "out")]
    assert run(["apply", str(tmp_path / "a"), *asked]) == 0
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path / "out")
    loaded.load_adapter(tmp_path / "out" / "french", adapter_name="french")
    found = {name: each for name, each in loaded.named_parameters() if ".lora_" in name}
    assert {name.split(".")[-2] for name in found} == {"default", "french"}
    assert all(int((each == 0).sum()) == each.numel() // 2 for each in found.values())
