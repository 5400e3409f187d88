#!/usr/bin/env bash
# torch-pruning 1.6.1: global pruning leaves the layer whole whose channels are all among the least important ones, and
# takes 31 of 32 from a layer with max_pruning_ratio=0.5.
#
# A layer that would lose all its channels loses none; nothing is removed elsewhere for them, and nothing is reported,
# so a model can come back as it was. If only one of its channels is above the threshold, all others go.
# `max_pruning_ratio` is not a cap on this: it excludes layers from a step by what they had lost before it, not by what
# they lose in it.
#
# Seen (two layers of 32 channels, the second one scaled down, pruning_ratio 0.5): 32 and 32 channels are left; with one
# of the second layer's channels scaled up again 31 and 1, with and without max_pruning_ratio=0.5.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 torch-pruning==1.6.1
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
import torch_pruning
from torch import nn


def channels_left(strong, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    with torch.no_grad():
        model[2].weight[strong:] *= 1e-3
        model[4].weight[:, strong:] *= 1e-3
        model[2].weight[:strong] *= 1e3
    pruner = torch_pruning.pruner.MetaPruner(
        model,
        torch.ones(1, 16),
        importance=torch_pruning.importance.MagnitudeImportance(p=2, normalizer=None),
        global_pruning=True,
        pruning_ratio=0.5,
        ignored_layers=[model[4]],
        **options,
    )
    pruner.step()
    return model[0].out_features, model[2].out_features


for options in ({}, {"max_pruning_ratio": 0.5}):
    print(options, "no strong channel:", channels_left(0, **options), "one:", channels_left(1, **options))
    assert channels_left(0, **options) == (32, 32)
    assert channels_left(1, **options) == (31, 1)
PYTHON
echo "as stated"
