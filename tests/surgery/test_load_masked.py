"""load_masked: what `apply` wrote loads into a fresh module, which then computes with the masked weights."""

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from prunecli import PrunecliError, bake_module, files, load_masked, prune_module


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(first=nn.Linear(6, 8), inner=nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8)), last=nn.Linear(8, 3))
    )


class Tied(nn.Module):
    """An embedding whose weight is also that of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.head(self.embed(tokens))
        return found


class Attention(nn.Module):
    """Attention reads the weight of `out_proj` without a call; a recurrent layer computes with a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.rnn = nn.LSTM(4, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.rnn(self.attention(inputs, inputs, inputs)[0])[0]
        return found


def same(one: nn.Module, other: nn.Module, inputs: Tensor) -> bool:
    with torch.no_grad():
        return torch.equal(one(inputs), other(inputs))


def masked_file(model: nn.Module, path: Path, wrap: Callable[[Any], Any] = dict, **options: Any) -> Path:
    """Save a module, and let `apply` add masks to the file."""
    torch.save(wrap(model.state_dict()), path.with_name("dense.pt"))
    options = {"params": "*.weight*", "min_dim": 2, "amount": 0.5, "seed": 7, **options}
    files.apply(path.with_name("dense.pt"), output=path, no_report=True, **options)
    return path


@pytest.mark.parametrize("given", ["path", "state dict"])
def test_a_fresh_module_computes_as_the_pruned_one(given: str, tmp_path: Path) -> None:
    path = masked_file(net(), tmp_path / "masked.pt")
    expected, fresh = net(), net(1)
    prune_module(expected, "*.weight", 0.5, min_dim=2, seed=7)
    parameters = [id(each) for each in fresh.parameters()]
    source = path if given == "path" else torch.load(path, weights_only=True)
    assert load_masked(fresh, source) is fresh
    assert set(map(id, fresh.parameters())) == set(parameters)
    state, wanted = fresh.state_dict(), expected.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) and state[name].dtype == wanted[name].dtype for name in state)
    assert torch.equal(fresh.first.weight, expected.first.weight)  # before any forward
    assert same(fresh, expected, torch.ones(2, 6))
    fresh(torch.ones(2, 6)).sum().backward()
    torch.optim.SGD(fresh.parameters(), 1.0).step()
    fresh(torch.ones(2, 6))
    assert bool((fresh.first.weight[fresh.first.weight_mask == 0] == 0).all())
    bake_module(fresh)
    assert fresh.state_dict().keys() == net().state_dict().keys()


def test_a_second_file_loads_into_the_same_module(tmp_path: Path) -> None:
    model = load_masked(net(1), masked_file(net(), tmp_path / "a.pt"))
    hooks = len(model.first._forward_pre_hooks)
    load_masked(model, masked_file(net(2), tmp_path / "b.pt", seed=8))
    expected = net(2)
    prune_module(expected, "*.weight", 0.5, min_dim=2, seed=8)
    assert torch.equal(model.first.weight, expected.first.weight)
    assert same(model, expected, torch.ones(2, 6))
    assert len(model.first._forward_pre_hooks) == hooks == 1


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("side", ["file", "module"])
def test_wrappers_make_no_difference(prefix: str, side: str, tmp_path: Path) -> None:
    def wrapped(state: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": 3, "state_dict": {prefix + name: value for name, value in state.items()}}

    path = masked_file(net(), tmp_path / "masked.pt", wrapped if side == "file" else dict)
    fresh: nn.Module = net(1)
    for part in reversed(prefix.split(".")[:-1]) if side == "module" else ():
        fresh = nn.Sequential(OrderedDict({part: fresh}))
    assert same(load_masked(fresh, path), load_masked(net(2), masked_file(net(), tmp_path / "m.pt")), torch.ones(2, 6))


@pytest.mark.parametrize("stored", ["both", "one", "untied"])
def test_tied_parameters_stay_tied(stored: str, tmp_path: Path) -> None:
    model: Any = Tied()
    tokens = torch.arange(6)
    if stored == "one":
        masked_file(model, tmp_path / "m.pt", lambda state: {"embed.weight": state["embed.weight"]})
    elif stored == "both":
        masked_file(model, tmp_path / "m.pt")
    else:
        masked_file(model, tmp_path / "m.pt", params="embed.weight", untie=True)
    fresh: Any = load_masked(Tied(), tmp_path / "m.pt")
    original = fresh.embed.weight_orig
    assert (fresh.head.weight if stored == "untied" else fresh.head.weight_orig) is original
    prune_module(model, "embed.weight" if stored == "untied" else "*", 0.5, seed=7, untie=stored == "untied")
    assert torch.equal(fresh.embed.weight_mask, model.embed.weight_mask)
    assert same(fresh, model, tokens)


def test_modules_that_read_weights_of_others_get_masked_ones(tmp_path: Path) -> None:
    model: Any = Attention()
    inputs = torch.ones(3, 2, 4)
    fresh: Any = load_masked(Attention(), masked_file(model, tmp_path / "m.pt"))
    prune_module(model, "*.weight*", 0.5, min_dim=2, seed=7)
    assert same(fresh, model, inputs)
    with torch.no_grad():
        fresh.attention.out_proj.weight_orig.zero_()
    assert not torch.equal(fresh(inputs), model(inputs))


def test_a_folder_of_shards_and_safetensors(tmp_path: Path) -> None:
    state = net().state_dict()
    (tmp_path / "m").mkdir()
    names = list(state)
    shards = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for shard, own in shards.items():
        save_file({name: state[name] for name in own}, tmp_path / "m" / shard)
    where = ", ".join(f'"{name}": "{shard}"' for shard, own in shards.items() for name in own)
    (tmp_path / "m" / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{where}}}}}')
    files.apply(tmp_path / "m", params="*.weight", min_dim=2, amount=0.5, seed=7, output=tmp_path / "out")
    expected = load_masked(net(1), masked_file(net(), tmp_path / "masked.pt"))
    assert same(load_masked(net(2), tmp_path / "out"), expected, torch.ones(2, 6))


def test_strides_and_types_come_through(tmp_path: Path) -> None:
    model = net().to(torch.bfloat16)
    with torch.no_grad():
        model.first.weight.set_(torch.randn(6, 8, dtype=torch.bfloat16).t())
    path = masked_file(model, tmp_path / "m.pt", mask_dtype="same")
    fresh = load_masked(net(1).to(torch.bfloat16), path)
    prune_module(model, "*.weight", 0.5, min_dim=2, seed=7)
    assert torch.equal(fresh.first.weight, model.first.weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state | {"g.weight_orig": torch.ones(2), "g.weight_mask": torch.ones(2)}, "g.weight has a mask"),
        (lambda state: state | {"first.weight_mask": torch.ones(2, 2)}, r"mask of first.weight .* \(8, 6\)"),
        (lambda state: state | {"more": torch.ones(2)}, "does not fit the module: unexpected: more"),
        (lambda state: {name: state[name] for name in state if name != "last.bias"}, "missing: last.bias"),
        (lambda state: state | {"last.bias": torch.ones(7)}, "of another shape: last.bias"),
        (lambda state: {"epoch": 1, "model": state}, r"is not a state dict; .*\['model'\]"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    state = torch.load(masked_file(net(), tmp_path / "m.pt"), weights_only=True)
    fresh = net(1)
    hooks, names = [dict(each._forward_pre_hooks) for each in fresh.modules()], list(fresh.state_dict())
    with pytest.raises(PrunecliError, match=words) as caught:
        load_masked(fresh, change(state))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert list(fresh.state_dict()) == names
    assert [dict(each._forward_pre_hooks) for each in fresh.modules()] == hooks
    assert copy.deepcopy(fresh)(torch.ones(2, 6)).shape == (2, 3)


def test_a_module_without_values_and_a_missing_file(tmp_path: Path) -> None:
    path = masked_file(net(), tmp_path / "m.pt")
    with pytest.raises(PrunecliError, match="meta device"):
        load_masked(net().to("meta"), path)
    with pytest.raises(PrunecliError, match="cannot open") as caught:
        load_masked(net(), tmp_path / "missing.pt")
    assert caught.value.exit_code == 3


class Foreign:
    """A class that weights-only loading does not know."""


def test_objects_in_the_file_are_not_made(tmp_path: Path) -> None:
    path = masked_file(net(), tmp_path / "m.pt")
    torch.save({"state_dict": torch.load(path, weights_only=True), "args": Foreign()}, path)
    with pytest.raises(PrunecliError, match="allow_foreign_objects=True"):
        load_masked(net(1), path)
    expected = load_masked(net(2), masked_file(net(), tmp_path / "n.pt"))
    assert same(load_masked(net(1), path, allow_foreign_objects=True), expected, torch.ones(2, 6))


def test_a_mask_of_a_buffer_is_refused_as_that() -> None:
    state = nn.BatchNorm1d(3).state_dict()
    state |= {"running_mean_orig": state.pop("running_mean"), "running_mean_mask": torch.ones(3)}
    with pytest.raises(PrunecliError, match="running_mean is a buffer, and those take no mask; 'prunecli remove' "):
        load_masked(nn.BatchNorm1d(3), state)
