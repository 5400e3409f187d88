"""Pruning in rounds: what was pruned stays pruned, fractions count what is left, and the live class agrees."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from small_blocks import SMALL_BLOCK, small_blocks
from surgery_zoo import FLOATS, apply, ask, bake, bits, live_mask, load, noise, raw, save, zero_bits
from torch import Tensor

from prunecli.errors import UsageError

small_blocks = pytest.fixture(scope="module", autouse=True)(small_blocks)

SUFFIXES = (".safetensors", ".pt")


def layers() -> dict[str, Tensor]:
    return {"a.weight": noise((13, 17), seed=1), "b.weight": noise((2 * SMALL_BLOCK + 5,), torch.bfloat16, 2)}


@pytest.mark.parametrize("mask_dtype", ["bool", "same"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_rounds_equal_two_rounds_of_the_live_class(suffix: str, mask_dtype: str, tmp_path: Path) -> None:
    source, first, second = (tmp_path / f"{name}{suffix}" for name in ("model", "first", "second"))
    save(layers(), source)
    apply(source, first, ask(0.5, mask_dtype=mask_dtype))
    apply(first, second, ask(0.5, mask_dtype=mask_dtype))
    loaded = load(second)
    assert set(loaded) == {f"{name}_{part}" for name in layers() for part in ("orig", "mask")}
    for name, tensor in layers().items():
        one = live_mask(tensor, 0.5, name)
        two = live_mask(tensor, 0.5, name, before=one)
        mask = loaded[f"{name}_mask"]
        assert torch.equal(mask.double(), two.double())
        assert mask.dtype == (tensor.dtype if mask_dtype == "same" else torch.bool)
        assert raw(loaded[f"{name}_orig"]) == raw(tensor)
        elements = tensor.numel()
        left = elements - round(elements / 2)
        assert int(two.sum()) == left - round(left / 2)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_second_round_that_bakes_equals_the_round_baked_afterwards(suffix: str, tmp_path: Path) -> None:
    source, first, once, masked, late = (
        tmp_path / f"{name}{suffix}" for name in ("m", "first", "once", "masked", "late")
    )
    save(layers(), source)
    apply(source, first, ask(0.5))
    apply(first, once, ask(0.25, seed=8, remove=True))
    apply(first, masked, ask(0.25, seed=8))
    bake(masked, late)
    assert {name: raw(t) for name, t in load(once).items()} == {name: raw(t) for name, t in load(late).items()}
    assert set(load(once)) == set(layers())


def test_a_round_on_some_parameters_leaves_the_masks_of_the_others(tmp_path: Path) -> None:
    source, first, second = (tmp_path / f"{name}.pt" for name in ("model", "first", "second"))
    save(layers(), source)
    apply(source, first, ask(0.5))
    apply(first, second, ask(0.5, "a.weight"))
    before, after = load(first), load(second)
    assert not torch.equal(after["a.weight_mask"], before["a.weight_mask"])
    assert torch.equal(after["b.weight_mask"], before["b.weight_mask"])


def test_transposed_weights_and_masks_are_pruned_in_rounds_by_logical_order(tmp_path: Path) -> None:
    weight = noise((9, 14), seed=4).t()
    before = live_mask(weight, 0.5, "w")
    tensors = {"w_orig": weight, "w_mask": before.t().contiguous().t()}
    source = save(tensors, tmp_path / "model.pt")
    apply(source, tmp_path / "masked.pt", ask(0.5, "w"))
    apply(source, tmp_path / "baked.pt", ask(0.5, "w", remove=True))
    expected = live_mask(weight, 0.5, "w", before=before)
    assert torch.equal(load(tmp_path / "masked.pt")["w_mask"], expected)
    baked = load(tmp_path / "baked.pt")["w"]
    assert raw(baked[expected]) == raw(weight[expected])
    assert not any(raw(baked[~expected]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_on_a_baked_file_zeros_can_count_as_pruned(suffix: str, tmp_path: Path) -> None:
    tensors = {name: tensor.float().nan_to_num().abs() + 1 for name, tensor in layers().items()}
    source, first, second = (tmp_path / f"{name}{suffix}" for name in ("model", "first", "second"))
    save(tensors, source)
    apply(source, first, ask(0.5, remove=True))
    report = apply(first, second, ask(0.5, remove=True, zeros_are_pruned=True))
    for name, tensor in tensors.items():
        one = live_mask(tensor, 0.5, name)
        two = live_mask(tensor, 0.5, name, before=one)
        assert torch.equal(load(second)[name], tensor * two)
        planned = next(each for each in report.parameters if each.name == name)
        assert (planned.zeros_before, planned.zeros) == (int((~one).sum()), int((~two).sum()))
        assert planned.pruned_now == int(one.sum()) - int(two.sum())


def test_negative_zeros_count_as_pruned_too(tmp_path: Path) -> None:
    weight = torch.tensor([0.0, -0.0, 1.0, 2.0])
    source = save({"w": weight}, tmp_path / "model.pt")
    apply(source, tmp_path / "out.pt", ask(1.0, remove=True, zeros_are_pruned=True))
    assert not any(raw(load(tmp_path / "out.pt")["w"]))
    with pytest.raises(UsageError, match="3 elements of w: 2 are left"):
        apply(source, tmp_path / "other.pt", ask(3, remove=True, zeros_are_pruned=True))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_than_is_left_is_refused_by_name_and_nothing_is_written(suffix: str, tmp_path: Path) -> None:
    first = tmp_path / f"first{suffix}"
    apply(save({"a.weight": noise((3, 4))}, tmp_path / f"model{suffix}"), first, ask(8))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"5 elements of a\.weight: 4 are left"):
        apply(first, tmp_path / f"second{suffix}", ask(5))
    assert sorted(tmp_path.iterdir()) == before
    apply(first, tmp_path / f"second{suffix}", ask(4))
    assert not load(tmp_path / f"second{suffix}")["a.weight_mask"].any()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.float16, torch.int64, torch.float8_e4m3fn])
def test_a_mask_of_any_type_is_continued_in_its_type(dtype: torch.dtype, tmp_path: Path) -> None:
    weight = noise((6, 8), seed=3)
    before = live_mask(weight, 0.25, "w")
    source = save({"w_orig": weight, "w_mask": before.to(dtype)}, tmp_path / "model.pt")
    apply(source, tmp_path / "out.pt", ask(0.5, "w"))
    mask = load(tmp_path / "out.pt")["w_mask"]
    assert mask.dtype == dtype
    assert torch.equal(mask.double(), live_mask(weight, 0.5, "w", before=before).double())


def test_what_a_graded_mask_keeps_it_keeps_at_its_grade(tmp_path: Path) -> None:
    weight, mask = noise((6, 8)), torch.linspace(0, 1, 48).view(6, 8)
    source = save({"w_orig": weight, "w_mask": mask}, tmp_path / "model.pt")
    apply(source, tmp_path / "out.pt", ask(0.5, "w"))
    kept = live_mask(weight, 0.5, "w", before=mask != 0)
    assert torch.equal(load(tmp_path / "out.pt")["w_mask"], mask * kept)


def test_a_mask_shared_by_two_weights_is_not_pruned_twice_unseen(tmp_path: Path) -> None:
    mask = torch.ones(40, dtype=torch.bool)
    tensors = {"a_orig": noise((40,), seed=1), "a_mask": mask, "b_orig": noise((40,), seed=2), "b_mask": mask}
    source, target = save(tensors, tmp_path / "model.pt"), tmp_path / "out.pt"
    with pytest.raises(UsageError, match="mask"):
        apply(source, target, ask(0.5, "a", "b"))
    assert not target.exists()
    apply(source, target, ask(0.5, "a", "b", remove=True))
    assert torch.equal(load(target)["a"] == 0, ~live_mask(mask, 0.5, "a"))


@st.composite
def strided(draw: st.DrawFn, dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> Tensor:
    """Random bits, some zero, of one shape, in any order of dimensions, with gaps or without."""
    order = draw(st.permutations(range(len(shape))))
    gaps = [draw(st.integers(1, 2)) for _ in shape]
    tensor = noise([shape[dim] * gaps[dim] for dim in order], dtype, seed)
    bits(tensor)[noise(tensor.shape, torch.bool, seed + 1)] = 0
    back = sorted(range(len(shape)), key=lambda dim: order[dim])
    return tensor.permute(back)[tuple(slice(None, None, gap) for gap in gaps)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_round_on_any_layout_of_weights_and_masks_obeys_the_law(data: st.DataObject, tmp_path: Path) -> None:
    amount, jobs = data.draw(st.floats(0, 1)), data.draw(st.sampled_from([1, 4]))
    zeros_are_pruned, remove = data.draw(st.booleans()), data.draw(st.booleans())
    tensors: dict[str, Tensor] = {}
    candidates: dict[str, Tensor] = {}
    for name in data.draw(st.sampled_from(["a", "ab", "abc"])):
        shape = tuple(data.draw(st.lists(st.integers(0, 6), max_size=3)))
        weight = data.draw(strided(data.draw(st.sampled_from(FLOATS)), shape, ord(name)))
        before = data.draw(strided(torch.bool, shape, ord(name) + 9))
        tensors |= {f"{name}_orig": weight, f"{name}_mask": before}
        candidates[name] = before & (weight.double() != 0) if zeros_are_pruned else before
    assume(any(before.numel() for before in candidates.values()))  # nothing to prune is an error
    for old in tmp_path.iterdir():
        old.unlink()
    source, target = save(tensors, tmp_path / "model.pt"), tmp_path / "out.pt"
    apply(source, target, ask(amount, *candidates, remove=remove, zeros_are_pruned=zeros_are_pruned), jobs=jobs)
    loaded = load(target)
    for name, before in candidates.items():
        weight, kept = tensors[f"{name}_orig"], live_mask(before, amount, name, before=before)
        if remove:
            zero_bits(weight, kept)
            assert raw(loaded[name]) == raw(weight)
            assert loaded[name].stride() == weight.stride()
        else:
            assert raw(loaded[f"{name}_orig"]) == raw(weight)
            assert torch.equal(loaded[f"{name}_mask"], kept)
