#!/usr/bin/env bash
# torch 2.13.0: `torch.zeros` of float8_e8m0fnu does not hold zeros, and zero converted to it is 2**-127.
#
# The type stores an exponent and nothing else, so it has no zero; byte 0x00 is 2**-127. `torch.zeros`, `zero_()` and
# conversion from 0.0 raise nothing and write that byte. Whoever masks the scales of an MX format with zeros, or counts
# zero bytes in them, deals with the smallest scale instead.
#
# Seen: torch.zeros(2, dtype=float8_e8m0fnu).float() is [5.877e-39, 5.877e-39], which is 2**-127.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import torch

made = torch.zeros(2, dtype=torch.float8_e8m0fnu)
converted = torch.tensor([0.0, 1.0]).to(torch.float8_e8m0fnu)
print("torch.zeros:", made.float().tolist(), "bytes", made.view(torch.uint8).tolist())
print("from [0, 1]:", converted.float().tolist(), "bytes", converted.view(torch.uint8).tolist())
assert made.float().tolist() == [2.0**-127] * 2
assert converted.view(torch.uint8).tolist() == [0, 127]
PYTHON
echo "as stated"
