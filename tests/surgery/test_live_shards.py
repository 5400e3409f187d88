"""Modules whose parameters are spread over ranks: each part is pruned by its part of the mask of the whole.

The oracle is one process without any ranks: the same seed, the same names, the same tensors to the bit.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from dcp_tools import save_from_two_ranks
from live_ranks import CASES, build_edit, outcome
from surgery_zoo import noise, raw
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Shard
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from prunecli import bake_module, prune_module
from prunecli.errors import UnsupportedError
from prunecli.modules import passes
from prunecli.modules.shards import fsdp_records


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    target = save_from_two_ranks(tmp_path_factory.mktemp("ranks") / "outcome", "live_ranks.py")
    return [torch.load(f"{target}.{rank}", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_ranks_together_hold_what_one_process_holds(name: str, outcomes: list[dict[str, Any]]) -> None:
    module, act = build_edit(name, None, None)
    expected = outcome(module, act(module), ":" not in name)
    for found in (each[name] for each in outcomes):
        assert list(found["state"]) == list(expected["state"])
        for key, tensor in expected["state"].items():
            other = found["state"][key]
            assert (tensor.shape, tensor.dtype) == (other.shape, other.dtype)
            assert torch.equal(tensor == 0, other == 0), key
            if name in ("normal order", "after a forward"):  # gradients are summed up in another order
                torch.testing.assert_close(other, tensor)
            else:
                assert raw(other) == raw(tensor), key
        assert found["totals"] == expected["totals"]
        assert found["parameters"] == expected["parameters"]
        if "output" in expected:
            torch.testing.assert_close(found["output"], expected["output"])


def test_ranks_agree_on_a_seed_that_nobody_gave(outcomes: list[dict[str, Any]]) -> None:
    one, other = (each["unseeded"] for each in outcomes)
    assert one["seed"] == other["seed"]
    assert {name: raw(each) for name, each in one["state"].items()} == {
        name: raw(each) for name, each in other["state"].items()
    }
    assert [each["different seeds"] for each in outcomes] == ["the ranks ask for different seeds: 0, 1"] * 2


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """One rank of two that never answer."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield init_device_mesh("cpu", (2,))
    torch.distributed.destroy_process_group()


def spread(mesh: DeviceMesh, *placements: Any) -> nn.Module:
    module = nn.Module()
    module.register_parameter("first", nn.Parameter(noise((4, 6))))
    values = DTensor.from_local(noise((2, 6), seed=2), mesh, placements, run_check=False)
    module.register_parameter("spread", nn.Parameter(values))
    return module


def bits_of(module: nn.Module) -> dict[str, bytes]:
    state = module.state_dict()
    return {name: raw(each.to_local() if isinstance(each, DTensor) else each) for name, each in state.items()}


STRIDED = _StridedShard(0, split_factor=2)


@pytest.mark.parametrize("placement", [Partial(), STRIDED], ids=str)
def test_placements_that_are_not_known_are_refused_before_anything_is_touched(placement: Any, mesh: DeviceMesh) -> None:
    module = spread(mesh, placement)
    before = bits_of(module)
    for pattern in ("*", "spread"):
        with pytest.raises(UnsupportedError, match="spread is a DTensor that cannot be pruned: it is placed as"):
            prune_module(module, pattern, 0.5, seed=1, remove=True)
    module.register_parameter("spread_orig", module._parameters.pop("spread"))
    module.register_buffer("spread_mask", torch.zeros(module.get_parameter("spread_orig").shape))
    with pytest.raises(UnsupportedError, match="the mask of spread cannot be baked: it is a DTensor of float32"):
        bake_module(module)
    assert [*bits_of(module).values()][:2] == [*before.values()]
    prune_module(module, "*", 0.5, seed=1, remove=True, exclude="spread*")
    assert int((module.get_parameter("first") == 0).sum()) == 12


def test_a_shard_takes_no_mask_of_its_own(mesh: DeviceMesh) -> None:
    module = spread(mesh, Shard(0))
    before = bits_of(module)
    with pytest.raises(UnsupportedError, match=r"spread is a DTensor, which takes no mask: .* use bake=True"):
        prune_module(module, "*", 0.5, seed=1)
    with pytest.raises(
        UnsupportedError, match="spread is spread over ranks, and zeros_are_pruned has to see all of it"
    ):
        prune_module(module, "*", 0.5, seed=1, remove=True, zeros_are_pruned=True)
    with pytest.raises(UnsupportedError, match="spread is spread over ranks, and l1 has to see all of it on one"):
        prune_module(module, "*", 0.5, seed=1, remove=True, method="l1")
    assert bits_of(module) == before
    assert list(module.state_dict()) == ["first", "spread"]


def test_if_another_rank_fails_nothing_has_changed_here(mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    module = spread(mesh, Shard(0))
    before = bits_of(module)
    monkeypatch.setattr(
        passes, "exchange", lambda mesh, reported: [reported, reported if isinstance(reported, tuple) else None]
    )
    with pytest.raises(UnsupportedError, match="another rank failed"):
        prune_module(module, "*", 0.5, seed=1, remove=True)
    assert bits_of(module) == before


def test_a_torch_that_keeps_names_elsewhere_is_refused(mesh: DeviceMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(4, 6)
    fully_shard(module, mesh=mesh)
    monkeypatch.delattr(FSDPModule, "_get_fsdp_state")
    with pytest.raises(UnsupportedError, match="keeps the names of sharded parameters where they are not known here"):
        fsdp_records(module)


@pytest.mark.filterwarnings("ignore:FSDP is switching:UserWarning")
def test_fsdp1_is_refused(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        wrapper = cast(Any, FullyShardedDataParallel)
        model = nn.Sequential(wrapper(nn.Linear(4, 6), use_orig_params=True, device_id=torch.device("cpu")))
        before = raw(next(model.parameters()))
        acts: list[Callable[[], Any]] = [lambda: prune_module(model, "*", 0.5), lambda: bake_module(model)]
        for act in acts:
            with pytest.raises(UnsupportedError, match=r"Sequential holds FullyShardedDataParallel \(FSDP1\)"):
                act()
        assert raw(next(model.parameters())) == before
    finally:
        torch.distributed.destroy_process_group()


def test_zero_3_is_refused() -> None:
    model = nn.Linear(4, 6)
    model.weight.ds_tensor = model.weight.data  # type: ignore[attr-defined]
    model.weight.data = torch.empty(0)
    with pytest.raises(UnsupportedError, match=r"weight is partitioned by DeepSpeed \(ZeRO-3\)"):
        prune_module(model, "*", 0.5)


def test_baking_a_shard_makes_a_backward_pass_that_needs_the_old_values_fail(mesh: DeviceMesh) -> None:
    module = spread(mesh, Shard(0))
    loss = (module.get_parameter("spread") ** 2).sum()
    prune_module(module, "spread", 0.5, seed=1, remove=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]
