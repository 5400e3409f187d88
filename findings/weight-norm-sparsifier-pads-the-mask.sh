#!/usr/bin/env bash
# torch 2.13.0: WeightNormSparsifier with its 2:4 settings gives a layer of width 10 a mask of width 12.
#
# `torch.ao.pruning.WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)` is the
# documented way to 2:4. If the width is not a multiple of four, the sparsifier pads it and keeps the padding in the
# mask. `step` raises nothing; the next forward does, and so does `squash_mask`, so that the layer cannot be saved
# without its parametrization either. With blocks that are pruned whole, the padding counts as pruned: the level is
# missed in both directions.
#
# Seen: mask (10, 12) for a weight (10, 10), then AssertionError; level 0.5 prunes 46 of 100 elements, and 291 of 576.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch
from torch import nn
from torch.ao.pruning import WeightNormSparsifier


def sparsified(rows, columns, level, zeros):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(columns, rows, bias=False))
    sparsifier = WeightNormSparsifier(sparsity_level=level, sparse_block_shape=(1, 4), zeros_per_block=zeros)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    return model, sparsifier, model[0].parametrizations.weight[0].mask


model, sparsifier, mask = sparsified(10, 10, 1.0, 2)
print("mask", tuple(mask.shape), "of a weight (10, 10)")
assert mask.shape == (10, 12)
for name, use in (("forward", lambda: model(torch.ones(1, 10))), ("squash_mask", sparsifier.squash_mask)):
    try:
        use()
        raise SystemExit(f"{name} was expected to raise")
    except AssertionError as error:
        print(f"{name}: AssertionError: {error}")
for rows, columns, expected in ((10, 10, 46), (64, 9, 291), (16, 16, 128)):
    _, _, mask = sparsified(rows, columns, 0.5, 4)
    pruned = int((mask == 0).sum())
    print(f"level 0.5 of ({rows}, {columns}): {pruned} of {mask.numel()} elements pruned")
    assert pruned == expected
PYTHON
echo "as stated"
