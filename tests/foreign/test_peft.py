"""peft writes LoRA and DoRA adapters; what `-p '*'` prunes of them loads there again, and computes."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library, llama, load, prune, raw

os.environ.setdefault("HF_HUB_OFFLINE", "1")
peft: Any = library("peft")
pytestmark = [pytest.mark.foreign, pytest.mark.filterwarnings("ignore::FutureWarning")]  # peft and transformers


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_loads_and_computes_after_a_prune_of_everything(dora: bool, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, use_dora=dora, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(llama(), config).eval()
    model.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    before = load(file)
    magnitudes = {name for name in before if name.endswith("lora_magnitude_vector")}
    assert len(magnitudes) == (2 if dora else 0)
    pruned = prune(file, tmp_path / "out.safetensors")
    after = load(tmp_path / "out.safetensors")
    assert pruned == before.keys() - magnitudes
    assert all(raw(after[name]) == raw(before[name]) for name in magnitudes)
    assert all(int((after[name] == 0).sum()) == before[name].numel() // 2 for name in before.keys() - magnitudes)
    (tmp_path / "out.safetensors").replace(file)
    again = peft.PeftModel.from_pretrained(llama(), tmp_path / "adapter").eval()
    tokens = torch.arange(6).reshape(1, 6)
    with torch.no_grad():
        found, dense = again(tokens).logits, model(tokens).logits
    assert bool(found.isfinite().all())
    assert not torch.equal(found, dense)
    state = again.state_dict()
    for name, tensor in after.items():
        stored = next(
            state[each]
            for each in state
            if each.replace(".default", "").removesuffix(".weight") == name.removesuffix(".weight")
        )
        assert torch.equal(stored, tensor), name
