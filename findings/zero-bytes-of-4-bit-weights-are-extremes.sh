#!/usr/bin/env bash
# bitsandbytes 0.50.2 and mlx 0.32.4: a 4-bit weight whose bytes are all zero has the largest magnitudes, not zeros.
#
# In nf4, code 0 is -1 times the block's largest magnitude. In mlx's affine format, code 0 is the group's minimum (its
# "bias"). So zeroing bytes of a packed weight, or counting zero bytes as sparsity, has the opposite effect of pruning.
# The neighbour fp4 behaves as one would guess: code 0 is zero.
#
# Seen: every element of nf4 dequantises to minus its block's absmax; every element of mlx to its group's minimum.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 bitsandbytes==0.50.2 'mlx[cpu]==0.32.4'
"$folder/venv/bin/python" - <<'PYTHON'
import bitsandbytes.functional as bnb
import mlx.core as mx
import torch

torch.manual_seed(0)
weight = torch.randn(64, 64)
packed, state = bnb.quantize_4bit(weight, quant_type="nf4", blocksize=64)
zeroed = bnb.dequantize_4bit(torch.zeros_like(packed), state)
print("nf4: first block", zeroed[0, :3].tolist(), "absmax", float(state.absmax[0]))
assert torch.allclose(zeroed, -state.absmax.view(-1, 1).expand(-1, 64).reshape(64, 64))

packed, state = bnb.quantize_4bit(weight, quant_type="fp4", blocksize=64)
assert not bnb.dequantize_4bit(torch.zeros_like(packed), state).any()
print("fp4: all zero")

mx.random.seed(0)
matrix = mx.random.normal((64, 64))
codes, scales, biases = mx.quantize(matrix, bits=4, group_size=32)
zeroed = mx.dequantize(mx.zeros_like(codes), scales, biases, bits=4, group_size=32)
print("mlx: first group", zeroed[0, :3].tolist(), "bias", float(biases[0, 0]))
assert mx.all(zeroed.reshape(64, 2, 32) == biases.reshape(64, 2, 1)).item()
assert mx.all(mx.abs(zeroed) > 0).item()
PYTHON
echo "as stated"
