"""Two checkpoints side by side: counts against numpy, whatever container, strides, masks and names they have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dcp_tools import save as save_distributed
from folder_zoo import make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_zoo import BLOCK, FLOATS, apply, ask, bake, bits, noise, save
from torch import Tensor

from prunecli.errors import ThresholdError, UnsupportedError, UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.compare.compare import compare
from prunecli.surgery.compare.model import Change, Comparison, check_comparison
from prunecli.surgery.names.select import Selection
from prunecli.surgery.run.options import Run


def compared(before: Path, after: Path, *patterns: str, jobs: int = 2) -> Comparison:
    with open_any(before) as old, open_any(after) as new:
        return compare(old, new, Selection(patterns) if patterns else None, Run(jobs))


def rows(comparison: Comparison) -> dict[str, Change]:
    return {row.name: row for row in comparison.rows}


def counts(row: Change) -> tuple[int, ...]:
    return row.zeros_before, row.zeros, row.newly_zero, row.revived, row.changed


def expected(before: Tensor, after: Tensor) -> tuple[int, ...]:
    """Count by the definitions; types that torch does not compare go through double."""
    old, new = (bits(each).contiguous().numpy() for each in (before, after))
    was, now = ((each.double() == 0).numpy() for each in (before, after))
    changed = ~was & ~now & (old != new)
    return tuple(int(each.sum()) for each in (was, now, now & ~was, was & ~now, changed))


def worn(tensor: Tensor, seed: int) -> Tensor:
    """Zero some elements, with either sign, revive some, change the bits of some, and keep the rest."""
    tensor = tensor.clone()
    flat, choice = bits(tensor).view(-1), torch.rand(tensor.numel(), generator=torch.Generator().manual_seed(seed))
    flat[choice < 0.2] = 0
    flat[(choice >= 0.2) & (choice < 0.3)] = torch.iinfo(flat.dtype).min
    flat[(choice >= 0.3) & (choice < 0.4)] ^= 1
    return tensor


def only_pruned(comparison: Comparison) -> bool:
    check_comparison(comparison)
    assert comparison.only_zeros_added
    return True


@given(
    dtype=st.sampled_from([each for each in FLOATS if "fnuz" not in str(each)]),
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 2**20),
    turned=st.tuples(st.booleans(), st.booleans()),
)
@settings(max_examples=60, deadline=None)
def test_every_element_is_counted_by_what_it_was_and_is(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    seed: int,
    turned: tuple[bool, bool],
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    before = worn(noise(shape, dtype, seed), seed + 1)
    after = worn(before, seed + 2)
    paths: list[Path] = []
    for name, tensor, turn in zip(("before.pt", "after.pt"), (before, after), turned, strict=True):
        stored = tensor.t().contiguous().t() if turn and tensor.dim() == 2 else tensor
        paths.append(save({"w": stored}, folder / name))
    (row,) = compared(paths[0], paths[1]).rows
    assert counts(row) == expected(before, after)
    assert (row.kind, row.state, row.elements, row.shape) == ("parameter", "compared", before.numel(), shape)


@pytest.mark.parametrize("jobs", [1, 3])
def test_large_tensors_are_counted_whole(jobs: int, tmp_path: Path) -> None:
    before = {"a": noise((2 * BLOCK + 5,), torch.bfloat16), "b": noise((1100, 1000))}
    after = {name: worn(tensor, 3) for name, tensor in before.items()}
    found = compared(save(before, tmp_path / "a.pt"), save(after, tmp_path / "b.safetensors"), jobs=jobs)
    sums = np.sum([expected(before[name], after[name]) for name in before], axis=0)
    totals = found.totals
    reported = (totals.zeros_before, totals.zeros, totals.newly_zero, totals.revived, totals.changed)
    assert reported == tuple(sums)
    assert all(counts(row) == expected(before[name], after[name]) for name, row in rows(found).items())


def model(seed: int = 1) -> dict[str, Tensor]:
    return {
        "fc.weight": noise((30, 20), seed=seed),
        "fc.bias": noise((30,), seed=seed),
        "n.running_mean": noise((4,)),
        "n.num_batches_tracked": torch.tensor(3),
        "half": noise((5, 7), torch.bfloat16, seed),
    }


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_prune_adds_only_zeros(suffix: str, remove: bool, tmp_path: Path) -> None:
    before, after = save(model(), tmp_path / f"a{suffix}"), tmp_path / f"b{suffix}"
    report = apply(before, after, ask(0.5, remove=remove))
    found = compared(before, after)
    assert only_pruned(found)
    assert found.totals.newly_zero == report.totals.zeros - found.totals.zeros_before
    assert (found.totals.parameters, found.totals.others) == (3, 2)


def test_masks_and_what_is_baked_from_them_have_the_same_values(tmp_path: Path) -> None:
    before, masked, baked = (tmp_path / f"{name}.pt" for name in ("before", "masked", "baked"))
    apply(save(model() | {"t": noise((6, 9)).t()}, before), masked, ask(0.5))
    bake(masked, baked)
    for one, other in ((masked, baked), (baked, masked)):
        found = compared(one, other)
        assert only_pruned(found)
        assert not found.differing


def test_a_mask_of_fractions_is_multiplied_in(tmp_path: Path) -> None:
    mask = torch.tensor([[0.5, 0.0, 1.0], [0.25, 1.0, 0.0]])
    weight = torch.tensor([[1.5, 2.0, 3.0], [4.0, 0.0, torch.inf]])
    masked = save({"w_orig": weight, "w_mask": mask}, tmp_path / "masked.pt")
    baked = tmp_path / "baked.pt"
    bake(masked, baked)
    assert not compared(masked, baked).differing
    (row,) = compared(save({"w": weight}, tmp_path / "dense.pt"), masked).rows
    assert counts(row) == (1, 3, 2, 0, 2)
    odd = save({"w_orig": weight.double(), "w_mask": mask}, tmp_path / "odd.pt")
    with pytest.raises(UnsupportedError, match="more than 0 and 1"):
        compared(odd, odd)


def layouts(state: Mapping[str, Tensor], folder: Path) -> dict[str, Path]:
    """Write a state dict in every way that has the same parameters."""
    plain = dict(state)
    torch.save(plain, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in plain.items()}}, folder / "wrapped.pt")
    names = list(plain)
    halves = [{name: plain[name] for name in part} for part in (names[:2], names[2:])]
    save_distributed({"model": plain}, folder / "dcp", {"model.fc.weight": ((7, 20), (10,))}, files=2)
    return {
        "zip": save(plain, folder / "zip.pt"),
        "safetensors": save(plain, folder / "plain.safetensors"),
        "legacy": folder / "legacy.pt",
        "wrapped": folder / "wrapped.pt",
        "dcp": folder / "dcp",
        "folder": make_folder(folder / "shards", halves),
    }


def test_containers_and_wrappers_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    changed = model()
    changed["fc.weight"][3, 4] = 0
    changed["fc.weight"][29, 19] = 0
    old, new = layouts(model(), tmp_path / "old"), layouts(changed, tmp_path / "new")
    for before in old.values():
        for after in new.values():
            found = compared(before, after)
            assert only_pruned(found)
            assert [(counts(row)[2:], row.name[-9:]) for row in found.differing] == [((2, 0, 0), "fc.weight")]


@pytest.mark.parametrize(
    ("name", "kind", "fault"),
    [
        ("fc.weight", "parameter", "has 1 element changed otherwise"),
        ("n.running_mean", "tensor", "has 1 element"),
        ("n.num_batches_tracked", "tensor", "has 1 element changed otherwise"),
    ],
)
def test_one_changed_bit_is_found(name: str, kind: str, fault: str, tmp_path: Path) -> None:
    state = model()
    before = save(state, tmp_path / "a.pt")
    bits(state[name]).view(-1)[0] ^= 1 << 4
    found = compared(before, save(state, tmp_path / "b.pt"))
    assert not found.only_zeros_added
    (row,) = found.differing
    assert (row.name, row.kind, row.changed) == (name, kind, 1)
    with pytest.raises(ThresholdError, match=f"{name} {fault}"):
        check_comparison(found)
    check_comparison(found, allow_changes=True)


def test_what_is_revived_missing_added_or_of_another_shape_is_always_a_fault(tmp_path: Path) -> None:
    state = model()
    state["fc.bias"][2:4] = -0.0
    before = save(state, tmp_path / "a.pt")
    for change, fault in (
        ({"fc.bias": torch.ones(30)}, "fc.bias has 2 elements that were zero and are not"),
        ({"new": torch.ones(1)}, "new was added"),
        ({"half": noise((7, 5), torch.bfloat16)}, "half has another shape, type or layout"),
        ({"half": noise((5, 7), torch.float16)}, "half has another shape, type or layout"),
    ):
        found = compared(before, save(state | change, tmp_path / "b.pt"))
        for allowed in (False, True):
            with pytest.raises(ThresholdError, match=fault):
                check_comparison(found, allow_changes=allowed)
    found = compared(before, save({name: state[name] for name in ("fc.weight", "half")}, tmp_path / "b.pt"))
    assert [row.name for row in found.differing] == ["fc.bias", "n.running_mean", "n.num_batches_tracked"]
    with pytest.raises(ThresholdError, match=r"fc.bias is missing; 2 other tensors differ too"):
        check_comparison(found)


def test_a_negative_zero_that_became_positive_is_no_change(tmp_path: Path) -> None:
    before, after = torch.ones(9), torch.ones(9)
    before[3], after[3] = -0.0, 0.0
    found = compared(save({"w": before}, tmp_path / "a.pt"), save({"w": after}, tmp_path / "b.pt"))
    assert not found.differing


def test_optimizer_state_is_compared_by_its_bytes(tmp_path: Path) -> None:
    def training(value: float) -> dict[str, Any]:
        return {"state_dict": {"w": torch.ones(4)}, "optimizer": {"state": {0: {"exp_avg": torch.full((4,), value)}}}}

    before = save(training(1.0), tmp_path / "a.pt")
    assert only_pruned(compared(before, save(training(1.0), tmp_path / "b.pt")))
    found = compared(before, save(training(2.0), tmp_path / "c.pt"))
    (row,) = found.differing
    assert (row.kind, row.changed) == ("carried", 4)
    check_comparison(found, allow_changes=True)
    with pytest.raises(ThresholdError):
        check_comparison(found)
    assert only_pruned(compared(before, tmp_path / "c.pt", "w"))


@pytest.mark.parametrize("key", [None, ""])
def test_optimizer_state_that_became_zero_is_no_fault(key: str | None, tmp_path: Path) -> None:
    def training(moment: list[float], epoch: float) -> dict[str, Any]:
        state = {"state": {0: {"exp_avg": torch.tensor(moment)}}, "param_groups": [{"params": [0]}]}
        return {"state_dict": {"w": torch.ones(4)}, "optimizer": state, "rng": torch.full((3,), epoch).to(torch.uint8)}

    def found(moment: list[float], epoch: float = 1.0) -> Comparison:
        before = save(training([1.0, 0.0, -1.0, 2.0], 1.0), tmp_path / "a.pt")
        after = save(training(moment, epoch), tmp_path / "b.pt")
        with open_any(before, ReadOptions(key=key)) as old, open_any(after, ReadOptions(key=key)) as new:
            return compare(old, new)

    zeroed = found([0.0, 0.0, -0.0, 2.0])
    (row,) = zeroed.differing
    assert (row.newly_zero, row.revived, row.changed, zeroed.state_zeroed) == (2, 0, 0, 2)
    assert zeroed.totals.newly_zero == 0
    check_comparison(zeroed)
    for other in (found([0.0, 3.0, -1.0, 2.0]), found([0.0, 0.0, -1.0, 2.5]), found([1.0, 0.0, -1.0, 2.0], 0.0)):
        with pytest.raises(ThresholdError, match="changed otherwise"):
            check_comparison(other)


def test_what_another_container_has_no_place_for_is_noted_and_is_not_a_fault(tmp_path: Path) -> None:
    training = {"state_dict": {"w": torch.ones(4)}, "optimizer": {"state": {0: {"exp_avg": torch.ones(4)}}}}
    before = save(training, tmp_path / "a.pt")
    found = compared(before, save({"w": torch.ones(4)}, tmp_path / "b.safetensors"))
    assert only_pruned(found)
    assert (found.uncompared, found.totals.others) == (1, 0)
    with pytest.raises(ThresholdError, match=r"optimizer.state.0.exp_avg is missing"):
        check_comparison(compared(before, save({"state_dict": {"w": torch.ones(4)}}, tmp_path / "b.pt")))


def test_tied_parameters_count_once(tmp_path: Path) -> None:
    table, pruned = torch.ones(6, 4), torch.ones(6, 4)
    pruned[2] = 0
    before = save({"a": table, "b": table}, tmp_path / "a.pt")
    found = compared(before, save({"a": pruned, "b": pruned}, tmp_path / "b.pt"))
    assert [(row.newly_zero, row.shared_with) for row in found.rows] == [(4, None), (4, "a")]
    assert (found.totals.parameters, found.totals.newly_zero) == (1, 4)
    apart = compared(before, save({"a": pruned, "b": table}, tmp_path / "c.pt"))
    assert [(row.newly_zero, row.shared_with) for row in apart.rows] == [(4, None), (0, None)]


def test_odd_types_and_strides_are_compared_by_their_bytes(tmp_path: Path) -> None:
    def odd(change: int) -> dict[str, Tensor]:
        phases = torch.arange(6).to(torch.complex128).view(2, 3)
        expanded = torch.tensor([[1.0, 2.0, 3.0]])
        expanded[0, 1] += change
        small = torch.ones(3, dtype=torch.complex64)
        small[1] += change * 1j
        phases[1, 2] += change
        return {
            "phases": phases.t(),
            "expanded": expanded.expand(5, 3),
            "small": small,
            "ints": torch.arange(4) + change,
        }

    before = save(odd(0), tmp_path / "a.pt")
    assert not compared(before, save(odd(0), tmp_path / "b.pt")).differing
    found = rows(compared(before, save(odd(1), tmp_path / "c.pt")))
    assert {name: row.changed for name, row in found.items()} == {"phases": 1, "expanded": 1, "small": 1, "ints": 4}


def test_only_what_is_selected_in_either_is_compared(tmp_path: Path) -> None:
    before = save({"a": torch.ones(3), "b": torch.ones(3), "old": torch.ones(1)}, tmp_path / "a.pt")
    after = save({"module.a": torch.zeros(3), "module.b": torch.ones(4)}, tmp_path / "b.pt")
    assert rows(compared(before, after, "a")).keys() == {"module.a"}
    assert [(row.name, row.state) for row in compared(before, after, "old").rows] == [("old", "missing")]
    with pytest.raises(UsageError, match="matches nothing"):
        compared(before, after, "c*")
