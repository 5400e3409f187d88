"""Tied embeddings that are stored twice: pruned as one, unless the model's configuration says that they are two."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import make_folder, tensors_of
from safetensors.torch import load_file, save_file
from small_blocks import small_blocks
from surgery_zoo import ask, noise

from prunecli.errors import UsageError
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.opening import open_any
from prunecli.surgery.names.parameters import parameters_of
from prunecli.surgery.names.stored_twice import find_stored_twice
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

small_blocks = pytest.fixture(scope="module", autouse=True)(small_blocks)

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
ROWS = {"vocab_size": 300}


def folder_with(root: Path, config: Any, second: torch.Tensor | None = None, name: str = OUTPUT) -> Path:
    matrix = noise((300, 225), seed=5)  # more than one of the small blocks of a mask
    shards = [{INPUT: matrix, "model.norm.weight": noise((225,))}, {name: matrix if second is None else second}]
    path = make_folder(root / "m", shards)
    (path / "config.json").unlink(missing_ok=True)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def pruned(path: Path, out: Path, prune: PruneRequest) -> Report:
    with open_any(path) as folder:
        return rewrite(folder, plan_prune(folder, prune), Destination(out))


def ties(report: Report) -> dict[str, tuple[str, ...]]:
    return {each.name: each.tied_to for each in report.parameters}


@pytest.mark.parametrize(
    "config",
    [
        ROWS,
        {**ROWS, "tie_word_embeddings": True},
        {"text_config": {**ROWS, "tie_word_embeddings": True}},
        {"tie_word_embeddings": True, "text_config": {**ROWS, "tie_word_embeddings": False}},
        {"thinker_config": {"text_config": ROWS}},
        {"decoder": ROWS, "encoder": {"vocab_size": 7, "tie_word_embeddings": True}},
        {"llm_config": ROWS},
        {"vocab_size": 7, "decoder_vocab_size": 300},
        {"n_words": 300},
        {**ROWS, "vision_config": {"tie_word_embeddings": False}},
    ],
)
def test_they_get_one_mask_and_count_once(tmp_path: Path, config: Any) -> None:
    path = folder_with(tmp_path, config)
    masked = pruned(path, tmp_path / "masked", ask(0.5, "*.weight", min_dim=2))
    assert (ties(masked)[INPUT], ties(masked)[OUTPUT]) == ((OUTPUT,), (INPUT,))
    assert masked.totals.pruned_now == 300 * 225 // 2
    tensors = tensors_of(tmp_path / "masked")
    assert torch.equal(tensors["lm_head.weight_mask"], tensors["model.embed_tokens.weight_mask"])
    pruned(path, tmp_path / "direct", ask(0.5, "*.weight", min_dim=2, remove=True))
    with open_any(tmp_path / "masked") as folder:
        rewrite(folder, plan_bake(folder, None), Destination(tmp_path / "baked"))
    baked, direct = tensors_of(tmp_path / "baked"), tensors_of(tmp_path / "direct")
    assert all(torch.equal(baked[name].view(torch.int32), direct[name].view(torch.int32)) for name in direct)
    assert torch.equal(direct[INPUT].view(torch.int32), direct[OUTPUT].view(torch.int32))
    with open_any(tmp_path / "direct") as folder:
        assert ties(measure(folder, None))[INPUT] == (OUTPUT,)


def _one_bit_apart() -> torch.Tensor:
    other = noise((300, 225), seed=5).clone()
    other.view(torch.int32)[-1, -1] ^= 1
    return other


@pytest.mark.parametrize(
    "arguments",
    [
        {"config": {**ROWS, "tie_word_embeddings": False}},
        {"config": {"text_config": {**ROWS, "tie_word_embeddings": False}}},
        {"config": {"tie_word_embeddings": False, "text_config": ROWS}},
        {"config": None},
        {"config": "no JSON"},
        {"config": "[]"},
        {"config": '{"vocab_size": 300, "vocab_size": 300}'},
        {"config": ROWS, "second": _one_bit_apart()},
        {"config": {"vocab_size": 225}},
        {"config": {"vocab_size": "300"}},
        {"config": {"hidden_size": 300}},
        {"config": {"text_config": [ROWS]}},
        {"config": {**ROWS, "more": "x" * (1 << 20)}},
    ],
    ids=[
        "configured",
        "configured deeper",
        "configured above",
        "no config",
        "a broken config",
        "a list",
        "a name twice",
        "one bit apart",
        "other rows",
        "no number",
        "no vocabulary",
        "no nested configuration",
        "too large",
    ],
)
def test_what_is_not_known_to_be_tied_is_not(tmp_path: Path, arguments: Any) -> None:
    path = folder_with(tmp_path, **arguments)
    report = pruned(path, tmp_path / "out", ask(0.5, "*.weight", min_dim=2))
    assert set(ties(report).values()) == {()}
    one, other = (each for each in report.parameters if len(each.shape) == 2)
    assert one.mask_sha256 != other.mask_sha256


def test_one_without_the_other_needs_a_decision(tmp_path: Path) -> None:
    path = folder_with(tmp_path, ROWS)
    with pytest.raises(UsageError, match=r"lm_head.weight is tied to model.embed_tokens.weight .*; select both"):
        pruned(path, tmp_path / "out", ask(0.5, OUTPUT))
    report = pruned(path, tmp_path / "out", ask(0.5, OUTPUT, untie=True))
    assert report.totals.pruned_now == 300 * 225 // 2


def test_candidates_are_read_where_they_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = {f"layers.{number}.output.weight": noise((40, 50), seed=number) for number in range(60)}
    path = make_folder(tmp_path / "m", [{name: matrix} for name, matrix in matrices.items()])
    looks, read_into = [], Concatenated.read_into

    def look(self: Concatenated, offset: int, buffer: memoryview) -> None:
        looks.append(offset)
        read_into(self, offset, buffer)

    monkeypatch.setattr(Concatenated, "read_into", look)
    for vocabulary, expected in ((40, len(matrices)), (50, 0)):
        looks.clear()
        (path / "config.json").write_text(json.dumps({"vocab_size": vocabulary}))
        with open_any(path) as folder:
            assert find_stored_twice(folder, parameters_of(folder)) == {}
        assert len(looks) == expected


def test_a_crowd_of_equal_matrices_is_not_tied(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", [{f"layers.{number}.output.weight": torch.zeros(4, 5)} for number in range(9)])
    (path / "config.json").write_text('{"vocab_size": 4}')
    with open_any(path) as folder:
        assert find_stored_twice(folder, parameters_of(folder)) == {}


# --- one file


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A file in which both stand, with a configuration beside it."""
    matrix = noise((12, 9), seed=5)
    path = tmp_path / "m" / "model.safetensors"
    path.parent.mkdir()
    save_file({INPUT: matrix, OUTPUT: matrix.clone(), "norm": noise((9,))}, path)
    (path.parent / "config.json").write_text('{"vocab_size": 12}')
    return path


def test_a_single_file_that_is_named_has_its_configuration_beside_it(alone: Path, tmp_path: Path) -> None:
    pruned(alone, tmp_path / "out.safetensors", ask(0.5, "*", remove=True))
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found[INPUT], found[OUTPUT])
    assert int((found[INPUT] == 0).sum()) == 54
    masked = pruned(alone, tmp_path / "masked.safetensors", ask(0.5, "*"))
    assert ties(masked) == {INPUT: (OUTPUT,), OUTPUT: (INPUT,), "norm": ()}
    assert masked.totals.pruned_now == 54 + 4


def test_the_folder_gives_the_masks_of_the_file(alone: Path, tmp_path: Path) -> None:
    folder = pruned(alone.parent, tmp_path / "out", ask(0.5, "*"))
    file = pruned(alone, tmp_path / "out.safetensors", ask(0.5, "*"))
    assert folder.parameters == file.parameters


def test_a_link_into_a_cache_has_its_configuration_beside_it(alone: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    for each in alone.parent.iterdir():
        (snapshot / each.name).symlink_to(each)
    assert ties(pruned(snapshot / alone.name, tmp_path / "out.safetensors", ask(0.5, "*")))[INPUT] == (OUTPUT,)


@pytest.mark.parametrize("kind", ["missing", "a pipe", "a folder", "a link to a device", "a dangling link"])
def test_what_is_not_a_regular_file_is_not_a_configuration(alone: Path, tmp_path: Path, kind: str) -> None:
    config = alone.parent / "config.json"
    config.unlink()
    if kind == "a pipe":
        os.mkfifo(config)
    elif kind == "a folder":
        config.mkdir()
    elif kind.startswith("a "):
        config.symlink_to("/dev/zero" if "device" in kind else "nowhere")
    report = pruned(alone, tmp_path / "out.safetensors", ask(0.5, "*"))
    assert set(ties(report).values()) == {()}


def test_biases_of_the_vocabulary_are_tied_as_well(alone: Path, tmp_path: Path) -> None:
    """BERT has `cls.predictions.bias` and `cls.predictions.decoder.bias` tied."""
    save_file({"a.bias": noise((12,)), "b.bias": noise((12,)), "c.bias": noise((9,)), "d.bias": noise((9,))}, alone)
    report = pruned(alone, tmp_path / "out.safetensors", ask(0.5, "*"))
    assert ties(report) == {"a.bias": ("b.bias",), "b.bias": ("a.bias",), "c.bias": (), "d.bias": ()}
