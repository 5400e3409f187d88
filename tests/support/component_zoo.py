"""Folders of components made for the tests, in the way of diffusers, sentence-transformers and peft."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from folder_zoo import Tensors, load_shard, make_folder, save_shard
from torch import Tensor

PIPELINE = {
    "_class_name": "TinyPipeline",
    "_diffusers_version": "0.42.1",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def values(*shape: int, seed: int = 0) -> Tensor:
    """Make a tensor without zeros."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 1


def text_encoder() -> Tensors:
    return {"module.embed.weight": values(7, 4), "module.fc.weight": values(5, 4, seed=1), "logit_scale": values()}


def unet() -> list[Tensors]:
    return [{"conv_in.weight": values(6, 4, 3, 3, seed=2)}, {"conv_out.weight": values(4, 6, 3, 3, seed=3)}]


def vae() -> Tensors:
    return {"conv_in.weight": values(6, 4, 3, 3, seed=4), "conv_in.bias": values(6, seed=5)}


def make_pipeline(path: Path) -> Path:
    """Write a pipeline: one component in one file, one in shards, one in a file of torch, and one without weights."""
    path.mkdir(parents=True)
    (path / "model_index.json").write_text(json.dumps(PIPELINE))
    (path / "README.md").write_text("a pipeline\n")
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text("{}")
    save(path / "text_encoder" / "model.safetensors", text_encoder())
    make_folder(path / "unet", unet())
    save(path / "vae" / "diffusion_pytorch_model.bin", vae())
    return path


def make_modules(path: Path, modules: Any = MODULES) -> Path:
    """Write a model of sentence-transformers: a transformer at the top, a pooling without weights, a dense layer."""
    save(path / "model.safetensors", {"fc.weight": values(6, 5)})
    (path / "modules.json").write_text(json.dumps(modules))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text("{}")
    save(path / "2_Dense" / "model.safetensors", {"linear.weight": values(4, 6, seed=1)})
    return path


def save(path: Path, tensors: Tensors) -> Path:
    """Write a file of weights, and a configuration beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "config.json").write_text("{}")
    save_shard(tensors, path)
    return path


def components_of(path: Path) -> Mapping[str, dict[str, Tensor]]:
    """Read the tensors of each folder below, by its name."""
    found: dict[str, dict[str, Tensor]] = {}
    for file in sorted(path.rglob("*")):
        if file.suffix in (".safetensors", ".bin"):
            found.setdefault(str(file.parent.relative_to(path)), {}).update(load_shard(file))
    return found
