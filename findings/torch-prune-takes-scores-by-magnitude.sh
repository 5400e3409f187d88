#!/usr/bin/env bash
# torch 2.13.0: `importance_scores` are taken by magnitude: a score of -5 is the most important of -5, 1, 2, 3.
#
# The documentation calls them the importance of the elements. `L1Unstructured` and `global_unstructured` take their
# absolute values before they compare. Scores that are signed by definition (a first-order Taylor term, the change of
# the loss when a weight is removed, movement pruning) come out the other way round at the end that matters most: what
# harms the model is kept, since its score is large and negative.
#
# Seen: amount 1 of the scores -5, 1, 2, 3 prunes the element with the score 1; so does the global function.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import prune

scores = torch.tensor([[-5.0, 1.0, 2.0, 3.0]])
layer = prune.l1_unstructured(nn.Linear(4, 1, bias=False), "weight", amount=1, importance_scores=scores)
print("l1_unstructured:    ", layer.weight_mask.tolist())
assert layer.weight_mask.tolist() == [[1.0, 0.0, 1.0, 1.0]]
layer = nn.Linear(4, 1, bias=False)
prune.global_unstructured(
    [(layer, "weight")],
    pruning_method=prune.L1Unstructured,
    importance_scores={(layer, "weight"): scores},
    amount=1,
)
print("global_unstructured:", layer.weight_mask.tolist())
assert layer.weight_mask.tolist() == [[1.0, 0.0, 1.0, 1.0]]
PYTHON
echo "as stated"
