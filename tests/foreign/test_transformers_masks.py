"""A model of transformers with masks: what `apply` made of its folder loads by load_masked, with ties as they were."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library

from prunecli import bake_module, files, load_masked, prune_module

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers: Any = library("transformers")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore::FutureWarning")]
TOKENS = torch.arange(6).reshape(1, 6)


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=16)
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("given", ["folder", "file", "state dict"])
def test_masks_load_into_a_model_from_its_configuration(given: str, tmp_path: Path) -> None:
    pruned, fresh = model(1), model(2)
    if given == "folder":
        pruned.save_pretrained(tmp_path / "m")  # without lm_head.weight, which is tied
        source: Any = tmp_path / "m"
    else:
        source = tmp_path / "m.pt"
        torch.save(pruned.state_dict(), source)
    files.apply(source, params="*.weight", min_dim=2, amount=0.5, seed=7, output=tmp_path / "masked.out")
    source = tmp_path / "masked.out"
    if given == "state dict":
        source = torch.load(source, weights_only=True)
    assert load_masked(fresh, source) is fresh
    assert fresh.lm_head.weight_orig is fresh.transformer.wte.weight_orig
    prune_module(pruned, "*.weight", 0.5, min_dim=2, seed=7)
    with torch.no_grad():
        assert torch.equal(fresh(TOKENS).logits, pruned(TOKENS).logits)
    fresh(TOKENS, labels=TOKENS).loss.backward()
    torch.optim.SGD(fresh.parameters(), 0.1).step()
    bake_module(fresh)
    share = (fresh.transformer.h[0].mlp.c_fc.weight == 0).float().mean().item()
    assert share == 0.5
    assert fresh.lm_head.weight is fresh.transformer.wte.weight
