"""Norms of weights: patterns take the parameter and nothing that the norm keeps, and torch loads the result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from roles_by_hand import described
from surgery_zoo import apply, ask, load, raw, save
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import spectral_norm as untyped_spectral_norm
from torch.nn.utils import weight_norm as untyped_weight_norm

from prunecli.surgery.roles.norms import directions_of

spectral_norm: Any = untyped_spectral_norm
weight_norm: Any = untyped_weight_norm
modern: Any = parametrizations


NORMS: dict[str, tuple[Callable[[], nn.Module], set[str], set[str]]] = {
    "spectral": (lambda: spectral_norm(nn.Linear(32, 16)), {"weight_orig", "bias"}, {"weight_u", "weight_v"}),
    "weight": (lambda: weight_norm(nn.Linear(32, 16)), {"weight_v", "bias"}, {"weight_g"}),
    "weight, all of it": (lambda: weight_norm(nn.Linear(32, 16), dim=None), {"weight_v", "bias"}, {"weight_g"}),
    "new spectral": (
        lambda: modern.spectral_norm(nn.Linear(32, 16)),
        {"parametrizations.weight.original", "bias"},
        {"parametrizations.weight.0._u", "parametrizations.weight.0._v"},
    ),
    "new weight": (
        lambda: modern.weight_norm(nn.Conv1d(32, 16, 3), dim=2),
        {"parametrizations.weight.original1", "bias"},
        {"parametrizations.weight.original0"},
    ),
    "orthogonal": (
        lambda: modern.orthogonal(nn.Linear(32, 32)),
        {"parametrizations.weight.original", "bias"},
        {"parametrizations.weight.0.base"},
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # files made with the old one are still there
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_pattern_leaves_alone_what_a_norm_keeps_and_torch_computes_with_the_rest(
    norm: str, suffix: str, tmp_path: Path
) -> None:
    make, taken, kept = NORMS[norm]
    torch.manual_seed(1)
    module = make().eval()
    state = {f"a.0.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    target = tmp_path / f"out{suffix}"
    report = apply(save(state, tmp_path / f"in{suffix}"), target, ask(0.5, "*", remove=True))
    after = {name.removeprefix("a.0."): tensor for name, tensor in load(target).items()}
    assert {each.name.removeprefix("a.0.") for each in report.parameters if each.pruned_now} == taken
    assert after.keys() == taken | kept
    for name in kept:
        assert raw(after[name]) == raw(state[f"a.0.{name}"])
    for name in taken:
        assert int((after[name] == 0).sum()) >= after[name].numel() // 2
    again = make().eval()
    again.load_state_dict(after, strict=True)
    rows = torch.randn(2, 32, 5) if "Conv" in type(module).__name__ else torch.randn(2, 32)
    assert bool(again(rows).isfinite().all())
    assert not torch.equal(again(rows), module(rows))


def test_a_pruned_weight_under_a_norm_is_zero_where_its_direction_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module: Any = modern.weight_norm(nn.Linear(32, 16))
    target = tmp_path / "out.pt"
    apply(save(module.state_dict(), tmp_path / "in.pt"), target, ask(0.5, "*", remove=True))
    module.load_state_dict(load(target), strict=True)
    weight = module.weight
    parametrize.remove_parametrizations(module, "weight")
    assert int((weight == 0).sum()) == 256
    assert bool((weight.norm(dim=1) - load(target)["parametrizations.weight.original0"].flatten()).abs().max() < 1e-5)


def test_a_row_of_a_direction_that_is_all_zero_makes_nan_in_torch() -> None:
    """What the evidence is for: `directions_of` says along which dimension such rows lie."""
    module: Any = modern.weight_norm(nn.Linear(4, 3))
    name = "parametrizations.weight.original1"
    (kept,) = directions_of(described({name: "f32 3x4", name[:-1] + "0": "f32 3x1"}))[name]
    with torch.no_grad():
        module.parametrizations.weight.original1.select(kept, 1).zero_()
        rows = module(torch.ones(1, 4))
    assert rows.isnan().tolist() == [[False, True, False]]
