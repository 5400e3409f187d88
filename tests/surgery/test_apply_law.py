"""The law of `apply`: exactly what the live class would drop is dropped, and every other byte is what it was."""

import collections
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from surgery_zoo import (
    BLOCK,
    COMPLEX,
    FLOATS,
    INTEGERS,
    apply,
    ask,
    bake,
    expected_file,
    live_mask,
    load,
    noise,
    raw,
    save,
)
from torch import Tensor


def small_zoo() -> dict[str, Tensor]:
    """Every prunable element type, and every number of dimensions."""
    zoo = {str(dtype)[6:]: noise((5, 7), dtype, seed) for seed, dtype in enumerate(FLOATS + INTEGERS)}
    shapes: dict[str, tuple[int, ...]] = {
        "1d": (9,),
        "3d": (2, 3, 4),
        "4d": (2, 3, 2, 5),
        "0d": (),
        "empty": (3, 0),
        "one": (1, 1),
    }
    return zoo | {name: noise(shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items(), 50)}


def complex_zoo() -> dict[str, Tensor]:
    """Complex numbers of every width: alone, over several blocks, strided, and two parts of one storage."""
    zoo = {str(dtype)[6:]: noise((5, 7), dtype, seed) for seed, dtype in enumerate(COMPLEX)}
    zoo |= {f"{name}.t": noise((6, 4), dtype, 9).t() for name, dtype in zip(list(zoo), COMPLEX, strict=True)}
    table = noise((20, 30), torch.complex128, 10)
    small = noise((20,), torch.complex32, 11)
    return zoo | {
        "even": table[:, ::2],
        "odd": table[:, 1::2],
        "close": small[3:11:2],
        "close.next": small[11:],
        "more": noise((BLOCK + 1,), torch.complex64, 12),
        "wide": noise((BLOCK + 1,), torch.complex128, 13),
        "0d": noise((), torch.complex128, 14),
    }


def edge_zoo() -> dict[str, Tensor]:
    """Several blocks, at and around the edges of a block."""
    return {
        "exact": noise((2, BLOCK), torch.float8_e5m2),
        "less": noise((2 * BLOCK - 1,), torch.bfloat16),
        "more": noise((BLOCK + 1,), torch.float32),
        "chunk": noise((3, BLOCK // 2 + 3), torch.float64),
    }


def strided_zoo() -> dict[str, Tensor]:
    """Views that are not row-major, not whole, or not alone in their storage."""
    flat = noise((100,), torch.float16, 4)
    packed = noise((5 * 12,), torch.float32, 5)
    table = noise((40, 30), torch.bfloat16, 6)
    small = noise((40,), torch.float8_e5m2, 7)
    return {
        "transposed": noise((17, 9), seed=1).t(),
        "permuted": noise((3, 4, 5), torch.bfloat16, 2).permute(2, 0, 1),
        "channels_last": noise((2, 3, 4, 5), torch.float64, 3).contiguous(memory_format=torch.channels_last),
        "sliced": flat[7:90:3],
        "even": table[:, ::2],
        "odd": table[:, 1::2],
        "lstm.w_ih": packed[:24].view(6, 4),
        "lstm.w_hh": packed[24:48].view(3, 8),
        "lstm.bias": packed[48:60],
        "close.row": small[:5],
        "close.strided": small[7:30:3],
        "close.next": small[31:36],
        "large": noise((1025, 1025), torch.float16, 8).t(),
    }


def keeps_of(tensors: Mapping[str, Tensor], amount: float | int) -> dict[str, Tensor]:
    return {name: live_mask(tensor, amount, name) for name, tensor in tensors.items()}


def check_baked(tensors: Mapping[str, Tensor], folder: Path, suffix: str, amount: float, jobs: int) -> None:
    source, target = save(tensors, folder / f"model{suffix}"), folder / f"out{suffix}"
    report = apply(source, target, ask(amount, *tensors, remove=True), jobs=jobs)
    keeps = keeps_of(tensors, amount)
    assert target.read_bytes() == expected_file(source, keeps)
    dropped = {name: int((~keep).sum()) for name, keep in keeps.items()}
    assert dropped == {name: round(amount * tensor.numel()) for name, tensor in tensors.items()}
    assert {each.name: each.pruned_now for each in report.parameters} == dropped


def numbers(mask: Tensor) -> Tensor:
    return mask.to(torch.complex128)


def check_masked(tensors: Mapping[str, Tensor], folder: Path, suffix: str, amount: float, **options: Any) -> None:
    source, target = save(tensors, folder / f"model{suffix}"), folder / f"out{suffix}"
    apply(source, target, ask(amount, *tensors, **options))
    loaded = load(target)
    assert set(loaded) == {f"{name}{end}" for name in tensors for end in ("_orig", "_mask")}
    for name, tensor in tensors.items():
        original, mask = loaded[f"{name}_orig"], loaded[f"{name}_mask"]
        assert (raw(original), original.shape, original.dtype) == (raw(tensor), tensor.shape, tensor.dtype)
        assert suffix == ".safetensors" or original.stride() == tensor.stride()
        assert mask.dtype == (tensor.dtype if options.get("mask_dtype") == "same" else torch.bool)
        assert torch.equal(numbers(mask), numbers(live_mask(tensor, amount, name)))


@pytest.mark.parametrize(
    ("zoo", "suffix", "jobs"),
    [
        (small_zoo, ".safetensors", 1),
        (small_zoo, ".pt", 2),
        (small_zoo, ".pt", 4),
        (edge_zoo, ".safetensors", 4),
        (edge_zoo, ".pt", 2),
    ],
)
def test_baking_changes_the_dropped_elements_and_nothing_else(
    zoo: Callable[[], dict[str, Tensor]], suffix: str, jobs: int, tmp_path: Path
) -> None:
    check_baked(zoo(), tmp_path, suffix, 0.3, jobs)


def test_baking_clears_complex_elements_whole(tmp_path: Path) -> None:
    check_baked(complex_zoo(), tmp_path, ".pt", 0.3, 4)
    singles = {name: tensor for name, tensor in complex_zoo().items() if name in ("complex64", "more")}
    check_baked(singles, tmp_path, ".safetensors", 0.3, 1)


@pytest.mark.parametrize(("amount", "jobs"), [(0.0, 1), (0.001, 2), (0.5, 4), (1.0, 1)])
def test_baking_finds_strided_elements_where_they_lie(amount: float, jobs: int, tmp_path: Path) -> None:
    check_baked(strided_zoo(), tmp_path, ".pt", amount, jobs)


@pytest.mark.parametrize(
    ("zoo", "suffix", "mask_dtype"),
    [
        (small_zoo, ".safetensors", "bool"),
        (small_zoo, ".safetensors", "same"),
        (small_zoo, ".pt", "same"),
        (edge_zoo, ".safetensors", "same"),
        (edge_zoo, ".pt", "bool"),
        (strided_zoo, ".pt", "bool"),
        (strided_zoo, ".pt", "same"),
        (complex_zoo, ".pt", "same"),
    ],
)
def test_masks_are_those_of_the_live_class_and_originals_are_untouched(
    zoo: Callable[[], dict[str, Tensor]], suffix: str, mask_dtype: str, tmp_path: Path
) -> None:
    check_masked(zoo(), tmp_path, suffix, 0.3, mask_dtype=mask_dtype)


@pytest.mark.parametrize(
    ("zoo", "suffix"),
    [(small_zoo, ".safetensors"), (small_zoo, ".pt"), (edge_zoo, ".pt"), (strided_zoo, ".pt")],
)
def test_masks_baked_later_give_what_baking_at_once_gives(
    zoo: Callable[[], dict[str, Tensor]], suffix: str, tmp_path: Path
) -> None:
    tensors = zoo()
    source = save(tensors, tmp_path / f"model{suffix}")
    masked, late, once = (tmp_path / f"{name}{suffix}" for name in ("masked", "late", "once"))
    apply(source, masked, ask(0.4, *tensors))
    bake(masked, late)
    apply(source, once, ask(0.4, *tensors, remove=True))
    before, after = load(once), load(late)
    assert {name: raw(tensor) for name, tensor in after.items()} == {
        name: raw(tensor) for name, tensor in before.items()
    }
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in after.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in before.items()
    }
    if suffix == ".pt":
        assert list(after) == list(before)
        assert [tensor.stride() for tensor in after.values()] == [tensor.stride() for tensor in before.values()]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_layout_of_any_tensors_obeys_the_law(data: st.DataObject, tmp_path: Path) -> None:
    tensors = {}
    for index in range(data.draw(st.integers(1, 4))):
        shape = data.draw(st.lists(st.integers(0, 6), max_size=4))
        tensor = noise(shape, data.draw(st.sampled_from(FLOATS + INTEGERS)), index)
        order = data.draw(st.permutations(range(len(shape))))
        steps = tuple(slice(data.draw(st.integers(0, 2)), None, data.draw(st.integers(1, 3))) for _ in shape)
        tensors[f"t{index}"] = tensor.permute(order)[steps]
    assume(any(tensor.numel() for tensor in tensors.values()))  # nothing to prune is an error
    for old in tmp_path.iterdir():
        old.unlink()
    check_baked(tensors, tmp_path, ".pt", data.draw(st.floats(0, 1)), data.draw(st.sampled_from([1, 2])))
    for old in tmp_path.iterdir():
        old.unlink()
    check_masked(tensors, tmp_path, ".pt", data.draw(st.floats(0, 1)))


def nested(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    momentum = {0: {"exp_avg": noise((5, 7), seed=90)}}
    return {
        "epoch": 3,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "model": {"state_dict": collections.OrderedDict(tensors)},
        "history": [1.5, "text", None, (True, b"bytes")],
    }


def plain() -> dict[str, Tensor]:
    return {"0.weight": noise((6, 7), seed=1), "0.bias": noise((6,), seed=2), "head.weight": noise((3, 6), seed=3)}


def test_a_state_dict_deep_in_a_checkpoint_is_pruned_and_all_else_carried(tmp_path: Path) -> None:
    source, target = save(nested(plain()), tmp_path / "model.pt"), tmp_path / "out.pt"
    apply(source, target, ask(0.5, "*", remove=True))
    assert target.read_bytes() == expected_file(source, keeps_of(plain(), 0.5))


def test_masks_come_beside_their_weights_wherever_the_state_dict_lies(tmp_path: Path) -> None:
    source, target = save(nested(plain()), tmp_path / "model.pt"), tmp_path / "out.pt"
    apply(source, target, ask(0.5, "*.weight"))
    before, after = load(source), load(target)
    assert list(after["model"]["state_dict"]) == [
        "0.weight_orig",
        "0.weight_mask",
        "0.bias",
        "head.weight_orig",
        "head.weight_mask",
    ]
    assert raw(after["optimizer"]["state"][0]["exp_avg"]) == raw(before["optimizer"]["state"][0]["exp_avg"])
    assert after["optimizer"]["param_groups"] == before["optimizer"]["param_groups"]
    assert (after["epoch"], after["history"]) == (before["epoch"], before["history"])
    assert list(after) == list(before)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [
        (torch.float64, ".pt"),
        (torch.bfloat16, ".safetensors"),
        (torch.float8_e4m3fn, ".pt"),
        (torch.int16, ".safetensors"),
    ],
)
def test_a_mask_does_not_depend_on_wrapping_order_format_or_element_type(
    prefix: str, dtype: torch.dtype, suffix: str, tmp_path: Path
) -> None:
    reordered = dict(reversed(list(plain().items())))
    tensors = {f"{prefix}{name}": noise(tensor.shape, dtype) for name, tensor in reordered.items()}
    target = tmp_path / f"out{suffix}"
    apply(save(tensors, tmp_path / f"model{suffix}"), target, ask(0.5, *plain()))
    masks = {name: mask for name, mask in load(target).items() if name.endswith("_mask")}
    for name, tensor in plain().items():
        assert torch.equal(masks[f"{prefix}{name}_mask"], live_mask(tensor, 0.5, name))


def test_an_output_is_a_sound_zip_whose_records_lie_as_torch_lays_them(tmp_path: Path) -> None:
    tensors = small_zoo() | strided_zoo()
    target = tmp_path / "out.pt"
    apply(save(tensors, tmp_path / "model.pt"), target, ask(0.5))
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
    mapped = torch.load(target, mmap=True, weights_only=True)
    assert {name: raw(tensor) for name, tensor in mapped.items()} == {
        name: raw(tensor) for name, tensor in load(target).items()
    }


def test_a_forced_key_prunes_that_state_dict_alone(tmp_path: Path) -> None:
    source = save({"teacher": plain(), "student": plain()}, tmp_path / "model.pt")
    apply(source, tmp_path / "out.pt", ask(0.5, remove=True), key="student")
    after = load(tmp_path / "out.pt")
    assert {name: raw(t) for name, t in after["teacher"].items()} == {name: raw(t) for name, t in plain().items()}
    for name, tensor in plain().items():
        kept = live_mask(tensor, 0.5, name)
        assert raw(after["student"][name][kept]) == raw(tensor[kept])
        assert not any(raw(after["student"][name][~kept]))


def test_without_a_seed_one_is_drawn_shown_and_can_be_given_again(tmp_path: Path) -> None:
    source = save(plain(), tmp_path / "model.pt")
    reports = [apply(source, tmp_path / f"{n}.pt", ask(0.5, remove=True, seed=None)) for n in "ab"]  # type: ignore[arg-type]
    assert reports[0].seed != reports[1].seed
    assert reports[0].seed is not None
    apply(source, tmp_path / "again.pt", ask(0.5, remove=True, seed=reports[0].seed))
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "a.pt").read_bytes()
