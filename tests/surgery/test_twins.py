"""Tied embeddings that a folder stores in two shards: pruned as one, unless the model says that they are two."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from folder_zoo import make_folder, tensors_of
from surgery_zoo import ask, noise

from prunecli.errors import UsageError
from prunecli.formats.folders.joined import Joined
from prunecli.formats.opening import open_any
from prunecli.surgery.destinations import Destination
from prunecli.surgery.parameters import parameters_of
from prunecli.surgery.plan import plan_bake, plan_prune
from prunecli.surgery.report import Report, measure
from prunecli.surgery.request import Prune
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.twins import find_twins

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


def folder_with(root: Path, config: Any, second: torch.Tensor | None = None, name: str = OUTPUT) -> Path:
    matrix = noise((1200, 900), seed=5)  # more than one block of a mask
    shards = [{INPUT: matrix, "model.norm.weight": noise((900,))}, {name: matrix if second is None else second}]
    path = make_folder(root / "m", shards)
    (path / "config.json").unlink(missing_ok=True)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def pruned(path: Path, out: Path, prune: Prune) -> Report:
    with open_any(path) as folder:
        return rewrite(folder, plan_prune(folder, prune), Destination(out))


def ties(report: Report) -> dict[str, tuple[str, ...]]:
    return {each.name: each.tied_to for each in report.parameters}


@pytest.mark.parametrize("config", [{}, {"tie_word_embeddings": True}, {"text_config": {"tie_word_embeddings": True}}])
def test_they_get_one_mask_and_count_once(tmp_path: Path, config: Any) -> None:
    path = folder_with(tmp_path, config)
    masked = pruned(path, tmp_path / "masked", ask(0.5, "*.weight", min_dim=2))
    assert (ties(masked)[INPUT], ties(masked)[OUTPUT]) == ((OUTPUT,), (INPUT,))
    assert masked.totals.pruned_now == 1200 * 900 // 2
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
    other = noise((1200, 900), seed=5).clone()
    other.view(torch.int32)[-1, -1] ^= 1
    return other


@pytest.mark.parametrize("arguments", [
    {"config": {"tie_word_embeddings": False}},
    {"config": {"text_config": {"tie_word_embeddings": False}}},
    {"config": None},
    {"config": "no JSON"},
    {"config": "[]"},
    {"config": {}, "second": _one_bit_apart()},
    {"config": {}, "name": "model.layers.0.mlp.experts.1.up_proj.weight"},
], ids=["told", "told deeper", "no config", "a broken config", "a list", "one bit apart", "other names"])  # fmt: skip
def test_what_is_not_known_to_be_tied_is_not(tmp_path: Path, arguments: Any) -> None:
    path = folder_with(tmp_path, **arguments)
    report = pruned(path, tmp_path / "out", ask(0.5, "*.weight", min_dim=2))
    assert set(ties(report).values()) == {()}
    one, other = (each for each in report.parameters if len(each.shape) == 2)
    assert one.mask_sha256 != other.mask_sha256


def test_one_without_the_other_needs_a_decision(tmp_path: Path) -> None:
    path = folder_with(tmp_path, {})
    with pytest.raises(UsageError, match=r"lm_head.weight is tied to model.embed_tokens.weight .*; select both"):
        pruned(path, tmp_path / "out", ask(0.5, OUTPUT))
    report = pruned(path, tmp_path / "out", ask(0.5, OUTPUT, untie=True))
    assert report.totals.pruned_now == 1200 * 900 // 2


def test_matrices_with_such_names_are_read_where_they_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = {f"layers.{number}.output.weight": noise((40, 50), seed=number) for number in range(60)}
    path = make_folder(tmp_path / "m", [{name: matrix} for name, matrix in matrices.items()])
    (path / "config.json").write_text("{}")
    looks, read_into = [], Joined.read_into

    def look(self: Joined, offset: int, buffer: memoryview) -> None:
        looks.append(offset)
        read_into(self, offset, buffer)

    monkeypatch.setattr(Joined, "read_into", look)
    with open_any(path) as folder:
        assert find_twins(folder, parameters_of(folder)) == {}
    assert len(looks) == len(matrices)


def test_a_crowd_of_equal_matrices_is_not_tied(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", [{f"layers.{number}.output.weight": torch.zeros(4, 5)} for number in range(9)])
    (path / "config.json").write_text("{}")
    with open_any(path) as folder:
        assert find_twins(folder, parameters_of(folder)) == {}
