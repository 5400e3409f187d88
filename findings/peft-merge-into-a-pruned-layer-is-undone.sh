#!/usr/bin/env bash
# peft 0.21.2 on a layer with torch's pruning: merge_and_unload loses the adapter, and nothing is reported.
#
# LoRA works on a layer that `torch.nn.utils.prune` has masked: the adapter is added to the layer's output. Merging adds
# it to `weight`, which on such a layer is a plain tensor that the next forward pass makes anew from `weight_orig` and
# the mask. The merged model computes what the base model computed, and its state dict never had the adapter.
# `safe_merge=True` does not notice.
#
# Seen: the adapter changes outputs by more than 0.1; after the merge they equal the base model's, and so does the state
# dict, to the bit. Baked with prune.remove before peft, the merge is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 peft==0.21.2 transformers==5.24.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W error::UserWarning - <<'PYTHON'
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.utils import prune

torch.set_grad_enabled(False)


def merged(bake, safe):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    if bake:
        prune.remove(model[0], "weight")
    inputs = torch.randn(8, 16)
    base, before = model(inputs), {name: value.clone() for name, value in model.state_dict().items()}
    adapted = get_peft_model(model, LoraConfig(target_modules=["0"], init_lora_weights=False))
    wanted = adapted(inputs)
    assert (wanted - base).abs().max() > 0.1
    plain = adapted.merge_and_unload(safe_merge=safe)
    found = plain(inputs)
    same = all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    return torch.allclose(found, base, atol=1e-5), torch.allclose(found, wanted, atol=1e-5), same


for bake in (False, True):
    for safe in (False, True):
        as_base, as_adapted, same = merged(bake, safe)
        print(f"baked: {bake}, safe_merge: {safe}; merged equals the base: {as_base}, the adapted model: {as_adapted}")
        assert (as_base, as_adapted, same) == ((False, True, False) if bake else (True, False, True))
PYTHON
echo "as stated"
