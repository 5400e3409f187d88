#!/usr/bin/env bash
# transformers 5.24.0: of a tensor that lies in two shards, the later shard's copy is loaded, whatever the index says.
#
# The index (`weight_map`) says which shard holds a tensor. Tools that edit shards rely on it, and a merge or an
# interrupted rewrite can leave an old copy of a tensor in another shard. `from_pretrained` reads every tensor of every
# shard in turn, so a copy in a later shard replaces the one that the index names. Nothing is reported.
#
# Seen: the index names the first shard, where the tensor holds ones; a copy with sevens lies in the last shard; the
# model has sevens. With the copy in a shard before the indexed one, the model has ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 transformers==5.24.0 safetensors==0.8.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/model" 2>&1 <<'PYTHON'
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
path = Path(sys.argv[1])
config = LlamaConfig(
    hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, vocab_size=64
)
LlamaForCausalLM(config).save_pretrained(path, max_shard_size="4KB")
index = json.loads((path / "model.safetensors.index.json").read_text())["weight_map"]
shards = sorted(set(index.values()))
assert len(shards) > 2


def put(shard: str, name: str, value: float) -> None:
    tensors = load_file(path / shard)
    tensors[name] = torch.full_like(load_file(path / index[name])[name], value)
    save_file(tensors, path / shard, metadata={"format": "pt"})


def loaded(name: str) -> float:
    return float(LlamaForCausalLM.from_pretrained(path).state_dict()[name].flatten()[0])


early = next(name for name, shard in index.items() if shard == shards[0])
late = next(name for name, shard in index.items() if shard == shards[-1])
put(shards[0], early, 1.0)
put(shards[-1], early, 7.0)
put(shards[-1], late, 1.0)
put(shards[0], late, 7.0)
print("indexed in the first shard, a copy in the last:", loaded(early))
print("indexed in the last shard, a copy in the first:", loaded(late))
assert loaded(early) == 7.0
assert loaded(late) == 1.0
PYTHON
echo "as stated"
