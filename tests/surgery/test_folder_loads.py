"""Folders as transformers writes them, pruned and loaded by it again: variants, and indexes that are not right."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import index_of, load_shard, save_shard
from late import Late
from surgery_zoo import ask

from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

tf = Late("transformers")

CONFIG: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model() -> Any:
    torch.manual_seed(0)
    return tf.LlamaForCausalLM(tf.LlamaConfig(**CONFIG))


def pruned(path: Path, out: Path) -> list[str]:
    with open_any(path) as opened:
        rewrite(opened, plan_prune(opened, ask(0.5, "*.weight", min_dim=2, remove=True)), Destination(out))
        return list(opened.notes)


def zeros(state: Any) -> dict[str, int]:
    return {name: int((each == 0).sum()) for name, each in state.items() if each.dim() == 2}


def halves(state: Any) -> dict[str, int]:
    return {name: each.numel() // 2 for name, each in state.items() if each.dim() == 2}


def test_a_variant_beside_the_plain_model_loads_as_that_variant(tmp_path: Path) -> None:
    whole = model()
    whole.save_pretrained(tmp_path / "m", max_shard_size="8KB")
    whole.half().save_pretrained(tmp_path / "m", max_shard_size="4KB", variant="fp16")
    pruned(tmp_path / "m" / "model.safetensors.index.fp16.json", tmp_path / "out")
    state = tf.LlamaForCausalLM.from_pretrained(tmp_path / "out", variant="fp16", dtype=torch.float16).state_dict()
    assert zeros(state) == halves(state)
    plain = tf.LlamaForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert set(zeros(plain).values()) == {0}


def test_the_index_of_a_variant_whose_shards_transformers_removed_is_passed_over(tmp_path: Path) -> None:
    whole = model()
    whole.save_pretrained(tmp_path / "m", max_shard_size="8KB", variant="fp16")
    whole.save_pretrained(tmp_path / "m", max_shard_size="8KB")
    notes = pruned(tmp_path / "m", tmp_path / "out")
    left = (tmp_path / "m" / "model.safetensors.index.fp16.json").exists()
    assert bool(notes) is left  # a later transformers may remove it
    state = tf.LlamaForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert zeros(state) == halves(state)


@pytest.fixture
def bent(tmp_path: Path) -> Path:
    """A folder with a surplus name, a surplus tensor, a stale copy in the first shard, and an odd size."""
    path = tmp_path / "m"
    model().save_pretrained(path, max_shard_size="8KB")
    index = index_of(path)
    weight_map = index["weight_map"]
    first, last = min(weight_map.values()), max(weight_map.values())
    name = next(name for name, file in weight_map.items() if file == last and "norm" not in name)
    shard = load_shard(path / first)
    shape = load_shard(path / last)[name].shape
    save_shard({**shard, "extra.weight": torch.ones(3, 4), name: torch.full(shape, 7.0)}, path / first)
    index = {"metadata": {"total_size": "much"}, "weight_map": {**weight_map, "lost.weight": last}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    return path


def test_surplus_and_stale_tensors_come_along_and_the_model_loads(bent: Path, tmp_path: Path) -> None:
    assert len(pruned(bent, tmp_path / "out")) == 3
    index = index_of(tmp_path / "out")
    assert index == index_of(bent)
    first = load_shard(tmp_path / "out" / min(index["weight_map"].values()))
    assert torch.equal(first["extra.weight"], torch.ones(3, 4))
    assert sum(bool((each == 7).all()) for each in first.values()) == 1
    state = tf.LlamaForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    assert zeros(state) == halves(state)


def test_transformers_loads_the_copy_in_the_last_shard(bent: Path) -> None:
    """Whatever the index says: why the note on stale copies warns of those who read whole shards."""
    weight_map = index_of(bent)["weight_map"]
    first, last = min(weight_map.values()), max(weight_map.values())
    name = next(name for name, file in weight_map.items() if file == first)
    shard = load_shard(bent / last)
    save_shard({**shard, name: torch.full_like(load_shard(bent / first)[name], 5.0)}, bent / last)
    state = tf.LlamaForCausalLM.from_pretrained(bent).state_dict()
    assert bool((state[name] == 5).all())
