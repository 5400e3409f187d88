#!/usr/bin/env bash
# safetensors 0.8.0: `load(bytes)` fails on a file that `load_file(path)` reads.
#
# The two functions of `safetensors.torch` have separate tables of element types. The scales of MX formats
# (float8_e8m0fnu, "F8_E8M0") are in one of them only. A service that receives checkpoints as bytes fails on the models
# that a script with a path loads.
#
# Seen: load_file returns torch.float8_e8m0fnu; load raises KeyError: 'F8_E8M0'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" -W error - "$folder/scales.safetensors" <<'PYTHON'
import sys
from pathlib import Path

import torch
from safetensors.torch import load, load_file, save_file

path = Path(sys.argv[1])
save_file({"scales": torch.tensor([126, 127], dtype=torch.uint8).view(torch.float8_e8m0fnu)}, path)
print("load_file:", load_file(path)["scales"].dtype)
assert load_file(path)["scales"].dtype == torch.float8_e8m0fnu
try:
    load(path.read_bytes())
    raise SystemExit("load was expected to raise")
except KeyError as error:
    print("load: KeyError", error)
    assert error.args == ("F8_E8M0",)
PYTHON
echo "as stated"
