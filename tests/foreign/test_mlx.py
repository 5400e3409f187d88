"""mlx writes quantised layers; what `-p '*'` prunes of them loads there again, and computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_tools import library, load, prune, raw

mx: Any = library("mlx.core")
nn: Any = library("mlx.nn")
utils: Any = library("mlx.utils")
pytestmark = pytest.mark.foreign


def quantised(**options: Any) -> Any:
    mx.random.seed(1)
    model = nn.Sequential(nn.Linear(128, 64), nn.RMSNorm(64), nn.Linear(64, 8))
    nn.quantize(model, class_predicate=lambda path, _: path.endswith("layers.0"), **options)
    return model


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({"group_size": 64, "bits": 4}, {"scales", "biases"}),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, {"scales"}),
    ],
)
def test_quantised_layers_keep_every_byte_and_compute_after_a_prune_of_everything(
    options: dict[str, Any], state: set[str], tmp_path: Path
) -> None:
    model = quantised(**options)
    model.save_weights(str(tmp_path / "in.safetensors"))
    pruned = prune(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    before, after = load(tmp_path / "in.safetensors"), load(tmp_path / "out.safetensors")
    expected = {"layers.0.bias", "layers.1.weight", "layers.2.weight", "layers.2.bias"}
    assert pruned == expected
    assert before.keys() == pruned | {"layers.0.weight"} | {f"layers.0.{each}" for each in state}
    assert all(raw(after[name]) == raw(before[name]) for name in before.keys() - pruned)
    again = quantised(**options)
    again.load_weights(str(tmp_path / "out.safetensors"), strict=True)
    rows = mx.random.normal((2, 128))
    found, dense = np.array(again(rows)), np.array(model(rows))
    assert np.isfinite(found).all()
    assert not np.array_equal(found, dense)
    loaded = dict(utils.tree_flatten(again.parameters()))
    assert int((np.array(loaded["layers.2.weight"]) == 0).sum()) == 256
