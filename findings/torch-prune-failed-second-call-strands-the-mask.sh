#!/usr/bin/env bash
# torch 2.13.0: a second prune that raises leaves a module whose mask is no longer applied and cannot be removed.
#
# The second call takes the first one's hook away before it computes the new mask. When that raises (here a count that
# is larger than what is left), nothing puts the hook back. The mask buffer and `weight_orig` stay, training goes on
# with a stale `weight`, and `prune.remove` says that the parameter was never pruned.
#
# Seen: ValueError, then no forward pre-hook, `weight_mask` still there, and ValueError from `prune.remove`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import prune

layer = nn.Linear(4, 2)
prune.random_unstructured(layer, "weight", amount=4)
assert len(layer._forward_pre_hooks) == 1
try:
    prune.random_unstructured(layer, "weight", amount=99)
    raise SystemExit("the second prune was expected to raise")
except ValueError as error:
    print("second prune:", error)
print("hooks:", len(layer._forward_pre_hooks), "buffers:", [name for name, _ in layer.named_buffers()])
assert len(layer._forward_pre_hooks) == 0
assert "weight_mask" in dict(layer.named_buffers())
before = layer.weight.clone()
with torch.no_grad():
    layer.weight_orig.add_(1)
layer(torch.ones(1, 4))
assert torch.equal(layer.weight, before), "the weight was recomputed after all"
try:
    prune.remove(layer, "weight")
    raise SystemExit("remove was expected to raise")
except ValueError as error:
    print("remove:", error)
PYTHON
echo "as stated"
