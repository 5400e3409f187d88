#!/usr/bin/env bash
# torch 2.13.0: pruning reorders parameters, and Adam's restored moments then belong to another parameter.
#
# `torch.nn.utils.prune` deletes the parameter `weight` and registers `weight_orig`, which puts it behind `bias`. A
# torch optimizer's state dict goes by position, not by name, and `load_state_dict` compares counts only. So the usual
# order (build the model, prune it, restore the optimizer of the dense run) gives each parameter the other's moments.
# Where both have one shape, as in LayerNorm, nothing is ever raised.
#
# Seen: the moment of the bias is the one that was saved for the weight, and the other way round; no warning, no error.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import prune


def layer_and_optimizer():
    torch.manual_seed(0)
    layer = nn.LayerNorm(4)
    return layer, torch.optim.Adam(layer.parameters(), lr=0.1)


layer, optimizer = layer_and_optimizer()
(layer(torch.randn(8, 4))[:, 0] * 3).sum().backward()
optimizer.step()
saved = {name: optimizer.state[value]["exp_avg"].clone() for name, value in layer.named_parameters()}
state = optimizer.state_dict()

pruned, _ = layer_and_optimizer()
prune.random_unstructured(pruned, "weight", amount=1)
assert [name for name, _ in pruned.named_parameters()] == ["bias", "weight_orig"]
restored = torch.optim.Adam(pruned.parameters(), lr=0.1)
restored.load_state_dict(state)
moments = {name: restored.state[value]["exp_avg"] for name, value in pruned.named_parameters()}
print("saved    weight", saved["weight"].tolist(), "bias", saved["bias"].tolist())
print("restored weight", moments["weight_orig"].tolist(), "bias", moments["bias"].tolist())
assert not torch.equal(saved["weight"], saved["bias"])
assert torch.equal(moments["bias"], saved["weight"])
assert torch.equal(moments["weight_orig"], saved["bias"])
PYTHON
echo "as stated"
