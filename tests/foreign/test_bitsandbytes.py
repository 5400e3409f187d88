"""bitsandbytes writes 4-bit and 8-bit layers; what `-p '*'` prunes of them loads there again, and computes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_tools import library, load, prune, raw, save
from torch import Tensor, nn

bnb: Any = library("bitsandbytes")
pytestmark = pytest.mark.foreign


def quantised(kind: str) -> Any:
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 64))
    layers: list[Any] = [
        bnb.nn.Linear8bitLt(plain[0].in_features, 32, has_fp16_weights=False)
        if kind == "int8"
        else bnb.nn.Linear4bit(64, 32, quant_type=kind, compress_statistics=True),
        nn.LayerNorm(32),
        nn.Linear(32, 64),
    ]
    model: Any = nn.Sequential(*layers)
    model.load_state_dict(plain.state_dict())
    return model.to("cpu")


def stored(model: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict; what is a word there is left out, as safetensors would need it."""
    return {name: each for name, each in model.state_dict().items() if isinstance(each, Tensor)}


def loaded_into(kind: str, state: Mapping[str, Tensor]) -> Any:
    """Load a state dict as transformers does: the weight is rebuilt from its parts."""
    model = quantised(kind)
    if kind == "int8":
        model.load_state_dict(state, strict=True)
        return model
    parts = {name.removeprefix("0.weight."): each for name, each in state.items() if name.startswith("0.weight.")}
    model[0].weight = bnb.nn.Params4bit.from_prequantized(state["0.weight"], parts, device="cpu", module=model[0])
    rest = {name: each for name, each in state.items() if not name.startswith("0.weight")}
    model.load_state_dict(rest, strict=False)
    return model


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_quantised_layers_keep_every_byte_and_compute_after_a_prune_of_everything(
    kind: str, suffix: str, tmp_path: Path
) -> None:
    model = quantised(kind)
    rows = torch.randn(3, 64)
    model(rows)
    state = stored(model)
    source, target = save(state, tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    pruned = prune(source, target)
    assert pruned == {"0.bias", "1.weight", "1.bias", "2.weight", "2.bias"}
    after = load(target)
    for name, tensor in state.items():
        assert raw(after[name]) == raw(tensor) or name in pruned
    assert int((after["2.weight"] == 0).sum()) == 1024
    before, now = loaded_into(kind, load(source))(rows), loaded_into(kind, after)(rows)
    assert torch.equal(before, model(rows))
    assert bool(now.isfinite().all())
    assert not torch.equal(now, before)


def test_exact_names_take_8_bit_weights_and_refuse_4_bit_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    states = {
        kind: {k: v for k, v in quantised(kind).state_dict().items() if isinstance(v, Tensor)}
        for kind in ("int8", "nf4")
    }
    eight, four = (save(state, tmp_path / f"{kind}.safetensors") for kind, state in states.items())
    prune(eight, tmp_path / "out.safetensors", "0.weight")
    after = load(tmp_path / "out.safetensors")
    assert int((after["0.weight"] == 0).sum()) >= 1024
    weight = loaded_into("int8", after)[0].weight
    assert int((weight == 0).sum()) == int((after["0.weight"] == 0).sum())
    capfd.readouterr()
    prune(four, tmp_path / "never.safetensors", "0.weight", code=2)
    assert "0.weight cannot be pruned: it is a packed weight" in capfd.readouterr().err
    assert not (tmp_path / "never.safetensors").exists()
