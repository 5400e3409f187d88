#!/usr/bin/env bash
# transformers 5.24.0: saving a plain checkpoint deletes the shards of a variant and leaves the variant's index.
#
# `save_pretrained` removes weight files of an earlier save that it does not write again. Saved after a sharded variant
# (`variant="fp16"`) into one folder, a plain save removes the variant's shards, but not
# `model.safetensors.index.fp16.json`, which from then on names files that are not there.
#
# Seen: after both saves, the fp16 index exists and none of the shards that it names does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0 safetensors==0.8.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/model" 2>&1 <<'PYTHON'
import json
import sys
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
path = Path(sys.argv[1])
config = LlamaConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=64
)
model = LlamaForCausalLM(config)
model.save_pretrained(path, max_shard_size="4KB", variant="fp16")
named = sorted(set(json.loads((path / "model.safetensors.index.fp16.json").read_text())["weight_map"].values()))
assert len(named) > 1
assert all((path / shard).exists() for shard in named)
model.save_pretrained(path, max_shard_size="4KB")
print("index of the variant:", (path / "model.safetensors.index.fp16.json").exists())
print("its shards:", [(path / shard).exists() for shard in named])
assert (path / "model.safetensors.index.fp16.json").exists()
assert not any((path / shard).exists() for shard in named)
PYTHON
echo "as stated"
