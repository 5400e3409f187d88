"""What the note on masks says of transformers, diffusers and peft is so: their from_pretrained does not read masks."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library, llama
from torch import Tensor

from prunecli.cli.app import run

os.environ.setdefault("HF_HUB_OFFLINE", "1")
diffusers: Any = library("diffusers")
peft: Any = library("peft")
transformers: Any = library("transformers")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore::FutureWarning")]


def masked(folder: Path, pattern: str, capfd: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """Put masks into a folder; return the new one, and the note on what reads it."""
    out = folder.with_name("masked")
    assert run(["apply", str(folder), "-p", pattern, "-a", "0.5", "--seed", "1", "-o", str(out)]) == 0
    (note,) = [line for line in capfd.readouterr().err.splitlines() if "from_pretrained" in line]
    return out, note


def test_transformers_starts_them_at_random(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "model")
    out, note = masked(tmp_path / "model", "*.q_proj.weight", capfd)
    assert "transformers starts layers with masks (weight_orig, weight_mask) at random" in note
    weights: list[Tensor] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        loaded = transformers.LlamaForCausalLM.from_pretrained(out)
        weights.append(loaded.model.layers[0].self_attn.q_proj.weight)
    dense = model.model.layers[0].self_attn.q_proj.weight
    kept = [float((each == dense).float().mean()) for each in weights]
    assert kept == [0.0, 0.0]
    assert not torch.equal(*weights)


def test_diffusers_leaves_them_on_the_meta_device(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unet = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    unet.save_pretrained(tmp_path / "unet")
    out, note = masked(tmp_path / "unet", "conv_in.weight", capfd)
    assert "diffusers leaves layers with masks (weight_orig, weight_mask) on the meta device" in note
    loaded = diffusers.UNet2DModel.from_pretrained(out)
    assert {name for name, each in loaded.named_parameters() if each.is_meta} == {"conv_in.weight"}


def test_peft_starts_them_untrained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    adapter = peft.get_peft_model(llama(), peft.LoraConfig(r=4, target_modules=["q_proj"]))
    for name, each in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(each)
    adapter.save_pretrained(tmp_path / "adapter")
    out, note = masked(tmp_path / "adapter", "*.lora_B.weight", capfd)
    assert "peft starts layers with masks (weight_orig, weight_mask) untrained, lora_B at zero" in note
    with pytest.warns(UserWarning, match="missing adapter keys"):
        loaded = peft.PeftModel.from_pretrained(llama(), out)
    (up,) = [each for name, each in loaded.named_parameters() if "lora_B" in name]
    assert not up.any()
