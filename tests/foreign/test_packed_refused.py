"""Packed folders and files are refused by loaders with an error: none of them starts a model at random."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library
from torch import nn

from prunecli import files

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]


def packed(folder: Path) -> str:
    """Pack a folder, and check that it comes back."""
    found = files.pack(folder).path
    assert found is not None
    files.unpack(found, output=folder.with_name("again"))
    assert {each.name for each in folder.iterdir()} == {each.name for each in folder.with_name("again").iterdir()}
    return found


def test_transformers(tmp_path: Path) -> None:
    transformers: Any = library("transformers")
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=16)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "m")
    folder = packed(tmp_path / "m")
    with pytest.raises((OSError, ValueError)):
        transformers.AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises((OSError, ValueError)):
        transformers.GPT2LMHeadModel.from_pretrained(folder, config=config)


def test_diffusers(tmp_path: Path) -> None:
    diffusers: Any = library("diffusers")
    model = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    model.save_pretrained(tmp_path / "m")
    folder = packed(tmp_path / "m")
    with pytest.raises((OSError, ValueError)):
        diffusers.UNet2DModel.from_pretrained(folder)
    with pytest.raises((OSError, ValueError)):
        diffusers.DiffusionPipeline.from_pretrained(folder)


def test_peft(tmp_path: Path) -> None:
    peft: Any = library("peft")
    base = nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 8))
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["0"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "m")
    folder = packed(tmp_path / "m")
    with pytest.raises((OSError, ValueError)):
        peft.PeftModel.from_pretrained(nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 8)), folder)


def test_a_packed_file_in_the_place_of_the_weights_is_refused(tmp_path: Path) -> None:
    """Its names are not those of tensors, so a strict loader finds every one missing."""
    module = nn.Linear(40, 40)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    files.pack(tmp_path / "m.pt", output=tmp_path / "model.safetensors")
    safetensors: Any = library("safetensors.torch")
    with pytest.raises(RuntimeError, match="Missing key"):
        safetensors.load_model(nn.Linear(40, 40), tmp_path / "model.safetensors")
