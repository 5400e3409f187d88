"""A model of transformers with masks: what `apply` made of its folder loads by load_masked, with ties as they were."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library

from prunecli import bake_module, files, load_masked

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers: Any = library("transformers")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore::FutureWarning")]
TOKENS = torch.arange(6).reshape(1, 6)


def model(seed: int) -> Any:
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


@pytest.mark.parametrize("given", ["folder", "file"])
def test_masks_load_into_a_model_from_its_configuration(given: str, tmp_path: Path) -> None:
    expected, fresh, source = model(1), model(2), tmp_path / "m"
    if given == "folder":
        expected.save_pretrained(source)  # without lm_head.weight, which is tied
    else:
        torch.save(expected.state_dict(), source)
    files.apply(source, params="*.weight", min_dim=2, amount=0.5, seed=7, output=tmp_path / "masked")
    files.remove(tmp_path / "masked", output=tmp_path / "baked")
    assert load_masked(fresh, tmp_path / "masked") is fresh
    assert fresh.lm_head.weight_orig is fresh.transformer.wte.weight_orig
    if given == "folder":
        expected = type(fresh).from_pretrained(tmp_path / "baked").eval()
    else:
        expected.load_state_dict(torch.load(tmp_path / "baked", weights_only=True))
    with torch.no_grad():
        assert torch.equal(fresh(TOKENS).logits, expected(TOKENS).logits)
    fresh(TOKENS, labels=TOKENS).loss.backward()
    torch.optim.SGD(fresh.parameters(), 0.1).step()
    bake_module(fresh)
    assert (fresh.transformer.h[0].mlp.c_fc.weight == 0).float().mean().item() == 0.5
    assert fresh.lm_head.weight is fresh.transformer.wte.weight
