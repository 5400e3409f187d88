"""Pipelines of diffusers: pruned whole, and loaded again by diffusers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library

from prunecli.cli.app import run
from prunecli.formats.opening import open_any

diffusers: Any = library("diffusers")
transformers: Any = library("transformers")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore")]

ASKED = ("-p", "*.weight", "-a", "0.5", "--min-dim", "2", "--seed", "7")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The components of a tiny Stable Diffusion."""
    path = tmp_path_factory.mktemp("tokenizer")
    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "a", "b"]
    (path / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    text = transformers.CLIPTextConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=1,
    )
    blocks = ("DownEncoderBlock2D",), ("UpDecoderBlock2D",)
    return {
        "text_encoder": transformers.CLIPTextModel(text),
        "tokenizer": transformers.CLIPTokenizer(str(path / "vocab.json"), str(path / "merges.txt")),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(8,), down_block_types=blocks[0], up_block_types=blocks[1], norm_num_groups=4
        ),
        "unet": diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=8,
            cross_attention_dim=16,
            norm_num_groups=4,
            attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        "scheduler": diffusers.DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def prune(source: Path, target: Path, *options: str) -> Path:
    assert run(["apply", str(source), *ASKED, *options, "-o", str(target)]) == 0
    return target


def assert_half_zero(path: Path, *components: str) -> None:
    """Every matrix of these components is half zero in the pipeline that diffusers loads."""
    loaded = diffusers.DiffusionPipeline.from_pretrained(path, local_files_only=True)
    for name in components:
        modules = getattr(loaded, name)
        for module in getattr(modules, "nets", [modules]):
            matrices = [each for key, each in module.named_parameters() if each.dim() > 1 and key.endswith("weight")]
            assert matrices
            assert all(int((each == 0).sum()) == round(each.numel() / 2) for each in matrices), name


@pytest.mark.parametrize("saved", [{}, {"max_shard_size": "20KB"}, {"safe_serialization": False}], ids=str)
def test_a_pipeline_loads_again(tmp_path: Path, parts: dict[str, Any], saved: dict[str, Any]) -> None:
    diffusers.StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "p", **saved)
    prune(tmp_path / "p", tmp_path / "out", "--remove")
    assert_half_zero(tmp_path / "out", "text_encoder", "unet", "vae")


def test_masks_of_a_pipeline_are_baked_to_the_same_files(tmp_path: Path, parts: dict[str, Any]) -> None:
    diffusers.StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "p")
    prune(tmp_path / "p", tmp_path / "direct", "--remove")
    prune(tmp_path / "p", tmp_path / "masked")
    assert run(["remove", str(tmp_path / "masked"), "-o", str(tmp_path / "baked")]) == 0
    assert_half_zero(tmp_path / "baked", "text_encoder", "unet", "vae")
    direct, baked = (
        diffusers.DiffusionPipeline.from_pretrained(tmp_path / name, local_files_only=True)
        for name in ("direct", "baked")
    )
    for name in ("text_encoder", "unet", "vae"):
        one, other = getattr(direct, name).state_dict(), getattr(baked, name).state_dict()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_variant_alone_is_what_is_pruned(tmp_path: Path, parts: dict[str, Any]) -> None:
    diffusers.StableDiffusionPipeline(**parts).save_pretrained(tmp_path / "p", variant="fp16")
    prune(tmp_path / "p", tmp_path / "out", "--remove")
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", variant="fp16", local_files_only=True)
    weight = loaded.unet.conv_in.weight
    assert int((weight == 0).sum()) == weight.numel() // 2


def test_several_controlnets_are_components_each(tmp_path: Path, parts: dict[str, Any]) -> None:
    nets = [diffusers.ControlNetModel.from_unet(parts["unet"]) for _ in range(2)]
    diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=nets).save_pretrained(tmp_path / "p")
    with open_any(tmp_path / "p") as opened:
        components = {name.partition("/")[0] for name in opened.tensors}
    assert components == {"controlnet", "controlnet_1", "text_encoder", "unet", "vae"}
    prune(tmp_path / "p", tmp_path / "out", "--remove", "-p", "controlnet*")
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "out", local_files_only=True)
    one, other = (net.conv_in.weight == 0 for net in loaded.controlnet.nets)
    assert int(one.sum()) == int(other.sum()) == one.numel() // 2
    assert not torch.equal(one, other)
