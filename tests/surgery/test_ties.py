"""Names that share memory: pruned together or not at all, counted once, never changed unseen."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import apply, ask, bake, count, expected_file, live_mask, load, noise, raw, save
from torch import Tensor

from prunecli.errors import UnsupportedError, UsageError


def tied() -> dict[str, Tensor]:
    table = noise((12, 5), seed=1)
    return {"head.weight": table, "body.weight": noise((4, 5), seed=2), "embed.weight": table.view(12, 5)}


def refused(source: Path, amount: Any, *patterns: str, match: str, **options: Any) -> None:
    target = source.with_name("refused.pt")
    with pytest.raises(UsageError, match=match):
        apply(source, target, ask(amount, *patterns, **options))
    assert sorted(path.name for path in source.parent.iterdir() if "refused" in path.name) == []


def test_a_tied_pair_is_pruned_once_by_the_first_of_its_names(tmp_path: Path) -> None:
    source, target = save(tied(), tmp_path / "model.pt"), tmp_path / "out.pt"
    report = apply(source, target, ask(0.3, remove=True))
    keep = live_mask(tied()["head.weight"], 0.3, "embed.weight")
    keeps = {"head.weight": keep, "body.weight": live_mask(tied()["body.weight"], 0.3, "body.weight")}
    assert target.read_bytes() == expected_file(source, keeps)
    assert {each.name: each.tied_to for each in report.parameters} == {
        "head.weight": ("embed.weight",),
        "body.weight": (),
        "embed.weight": ("head.weight",),
    }
    totals = report.totals
    assert (totals.parameters, totals.elements, totals.pruned_now) == (2, 80, 18 + 6)
    fresh = count(target).totals
    assert (fresh.parameters, fresh.elements, fresh.zeros) == (2, 80, totals.zeros)


@pytest.mark.parametrize("mask_dtype", ["bool", "same"])
def test_tied_masks_are_equal_and_the_weights_stay_tied(mask_dtype: str, tmp_path: Path) -> None:
    source, first, second = (tmp_path / f"{name}.pt" for name in ("model", "first", "second"))
    save(tied(), source)
    apply(source, first, ask(0.5, mask_dtype=mask_dtype))
    apply(first, second, ask(0.5, mask_dtype=mask_dtype))
    loaded = load(second)
    one = live_mask(tied()["head.weight"], 0.5, "embed.weight")
    expected = live_mask(tied()["head.weight"], 0.5, "embed.weight", before=one)
    for name in ("head", "embed"):
        assert torch.equal(loaded[f"{name}.weight_mask"].double(), expected.double())
    assert loaded["head.weight_orig"].data_ptr() == loaded["embed.weight_orig"].data_ptr()
    bake(second, tmp_path / "baked.pt")
    baked = load(tmp_path / "baked.pt")
    assert baked["head.weight"].data_ptr() == baked["embed.weight"].data_ptr()
    assert not any(raw(baked["head.weight"][~expected]))
    assert raw(baked["head.weight"][expected]) == raw(tied()["head.weight"][expected])


@pytest.mark.parametrize("remove", [False, True])
def test_one_of_a_pair_is_refused_and_the_other_named(remove: bool, tmp_path: Path) -> None:
    source = save(tied(), tmp_path / "model.pt")
    refused(source, 0.5, "head.weight", match=r"head\.weight is tied to embed\.weight.*--untie", remove=remove)


def test_untied_a_masked_one_leaves_its_partner_dense(tmp_path: Path) -> None:
    source, target = save(tied(), tmp_path / "model.pt"), tmp_path / "out.pt"
    report = apply(source, target, ask(0.5, "head.weight", untie=True))
    loaded = load(target)
    assert list(loaded) == ["head.weight_orig", "head.weight_mask", "body.weight", "embed.weight"]
    assert raw(loaded["embed.weight"]) == raw(loaded["head.weight_orig"]) == raw(tied()["head.weight"])
    assert torch.equal(loaded["head.weight_mask"], live_mask(tied()["head.weight"], 0.5, "head.weight"))
    zeros = {each.name: each.zeros for each in report.parameters}
    product = loaded["head.weight_orig"].nan_to_num(1, 1, 1) * loaded["head.weight_mask"]
    assert zeros["head.weight"] == int((product == 0).sum())
    assert zeros["embed.weight"] == int((tied()["embed.weight"] == 0).sum())
    totals = report.totals
    assert (totals.parameters, totals.elements, totals.pruned_now) == (3, 140, 30)
    assert totals.zeros == sum(each.zeros or 0 for each in report.parameters)
    fresh = count(target).totals
    assert (fresh.parameters, fresh.elements, fresh.zeros) == (3, 140, totals.zeros)


def test_untie_and_remove_contradict_each_other(tmp_path: Path) -> None:
    source = save(tied(), tmp_path / "model.pt")
    refused(source, 0.5, "head.weight", match="leave --untie or --bake out", untie=True, remove=True)


@pytest.mark.parametrize("alias", ["same object", "view"])
@pytest.mark.parametrize("place", ["ema", "optimizer"])
def test_a_partner_outside_the_state_dict_is_seen(alias: str, place: str, tmp_path: Path) -> None:
    weight = noise((6, 7), seed=3)
    other = weight if alias == "same object" else weight.view(6, 7)
    outside = {"ema": {"w": other}, "optimizer": {"state": {0: {"param": other}}, "param_groups": []}}
    source = save({"state_dict": {"w": weight}, place: outside[place]}, tmp_path / "model.pt")
    path = {"ema": r"ema\.w", "optimizer": r"optimizer\.state\.0\.param"}[place]
    refused(source, 0.5, "w", match=rf"w is tied to {path} \(one storage\)", remove=True)
    refused(source, 0.5, "w", match=rf"w is tied to {path} \(one storage\)")
    target = tmp_path / "out.pt"
    apply(source, target, ask(0.5, "w", untie=True))
    loaded = load(target)
    assert list(loaded["state_dict"]) == ["w_orig", "w_mask"]
    assert raw(loaded["ema"]["w"] if place == "ema" else loaded["optimizer"]["state"][0]["param"]) == raw(weight)


@pytest.mark.parametrize("second", [lambda t: t[:3], lambda t: t.t(), lambda t: t.view(-1), lambda t: t[:, ::2]])
def test_views_that_overlap_without_being_equal_are_refused_and_counted_right(second: Any, tmp_path: Path) -> None:
    table = torch.arange(60.0).view(12, 5) % 4
    tensors = {"a": table, "b": second(table), "c": noise((3,))}
    source = save(tensors, tmp_path / "model.pt")
    refused(source, 0.5, "a", match="a and b overlap in memory without being equal")
    refused(source, 0.5, "a", "b", match="a and b overlap in memory without being equal", remove=True)
    report = apply(source, tmp_path / "out.pt", ask(0.5, "c", remove=True))
    zeros = {each.name: each.zeros for each in report.parameters}
    assert {name: zeros[name] for name in "ab"} == {name: int((tensors[name] == 0).sum()) for name in "ab"}


def test_neighbours_in_one_storage_are_no_ties(tmp_path: Path) -> None:
    table = noise((40, 30), torch.bfloat16, 6)
    source = save({"even": table[:, ::2], "odd": table[:, 1::2]}, tmp_path / "model.pt")
    target = tmp_path / "out.pt"
    report = apply(source, target, ask(0.5, "odd", remove=True))
    assert target.read_bytes() == expected_file(source, {"odd": live_mask(table[:, 1::2], 0.5, "odd")})
    assert [each.tied_to for each in report.parameters] == [(), ()]


def test_three_names_of_one_transposed_tensor_are_one_group(tmp_path: Path) -> None:
    weight = noise((7, 9), seed=5).t()
    tensors = {"c": weight, "a": weight.view(9, 7), "b": weight[:]}
    source, target = save(tensors, tmp_path / "model.pt"), tmp_path / "out.pt"
    report = apply(source, target, ask(10, remove=True))
    assert target.read_bytes() == expected_file(source, {"c": live_mask(weight, 10, "a")})
    assert {each.zeros for each in report.parameters} == {int((load(target)["a"] == 0).sum())}
    assert report.totals.pruned_now == 10


def test_a_group_counts_once_for_a_global_amount(tmp_path: Path) -> None:
    source, target = save(tied(), tmp_path / "model.pt"), tmp_path / "out.pt"
    apply(source, target, ask(0.5, everywhere=True))
    loaded = load(target)
    assert int((~loaded["head.weight_mask"]).sum() + (~loaded["body.weight_mask"]).sum()) == 40
    assert torch.equal(loaded["head.weight_mask"], loaded["embed.weight_mask"])


def test_tied_weights_with_masks_that_differ_cannot_be_baked(tmp_path: Path) -> None:
    weight = noise((8,))
    masks = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0]).bool(), torch.tensor([0, 0, 1, 1, 1, 1, 0, 0]).bool()
    tensors = {"a_orig": weight, "a_mask": masks[0], "b_orig": weight[:], "b_mask": masks[1]}
    source = save(tensors, tmp_path / "model.pt")
    with pytest.raises(UnsupportedError, match="a and b are tied, but carry different masks"):
        bake(source, tmp_path / "out.pt")
    with pytest.raises(UsageError, match="a is tied to b"):
        bake(source, tmp_path / "out.pt", "a")
    assert not (tmp_path / "out.pt").exists()


def test_empty_tensors_are_tied_to_nothing(tmp_path: Path) -> None:
    nothing = torch.empty(0, 3)
    source = save({"a": nothing, "b": nothing.view(3, 0), "c": noise((4,))}, tmp_path / "model.pt")
    report = apply(source, tmp_path / "out.pt", ask(0.5, "a", "c", remove=True))
    assert [each.tied_to for each in report.parameters] == [(), (), ()]


def test_messages_name_the_remedy_that_the_command_has(tmp_path: Path) -> None:
    weight = noise((8,))
    tensors = {"a_orig": weight, "a_mask": torch.ones(8), "b": weight[:]}
    with pytest.raises(UsageError, match="a is tied to b") as caught:
        bake(save(tensors, tmp_path / "model.pt"), tmp_path / "out.pt")
    assert not re.search("--untie", str(caught.value))


def test_bytes_seen_in_two_widths_are_shared_where_they_meet(tmp_path: Path) -> None:
    flat = torch.arange(80, dtype=torch.uint8)
    tensors = {"wide": flat[:40].view(torch.uint16), "narrow": flat[24:36].view(torch.float8_e5m2)}
    tensors["beside"] = flat[40:].view(torch.float8_e5m2)
    source = save(tensors, tmp_path / "model.pt")
    refused(source, 0.5, "narrow", match="narrow and wide overlap in memory without being equal")
    target = tmp_path / "out.pt"
    apply(source, target, ask(0.5, "beside", remove=True))
    assert target.read_bytes() == expected_file(source, {"beside": live_mask(tensors["beside"], 0.5, "beside")})


def mask_that_is_also(name: str) -> dict[str, Tensor]:
    mask = (noise((6, 4), seed=5) > 0).float()
    return {"w": noise((6, 4), seed=4), "w_mask": mask, name: mask}


def test_a_mask_that_is_a_weight_as_well_is_not_edited(tmp_path: Path) -> None:
    source = save(mask_that_is_also("gate"), tmp_path / "model.pt")
    refused(source, 0.5, "w", match=r"^the mask of w shares its memory with that of gate, which would change, too; ")
    whole = noise((8, 4), seed=6).gt(0).float()
    source = save({"w_orig": noise((6, 4), seed=4), "w_mask": whole[1:7], "all": whole}, tmp_path / "view.pt")
    refused(source, 0.5, "w", match="^the mask of w shares its memory with that of all")
    itself = (noise((6, 4), seed=5) > 0).float()
    source = save({"w_orig": itself, "w_mask": itself}, tmp_path / "itself.pt")
    refused(source, 0.5, "w", match="^the mask of w shares its memory with that of w_orig")


def test_a_weight_that_is_a_mask_as_well_is_baked_only_with_what_it_masks(tmp_path: Path) -> None:
    source, target = save(mask_that_is_also("gate"), tmp_path / "model.pt"), tmp_path / "out.pt"
    refused(source, 0.5, "gate", remove=True, match="^gate shares its memory with the mask of w, which would change")
    apply(source, target, ask(0.25, "gate"))
    assert raw(load(target)["w_mask"]) == raw(mask_that_is_also("gate")["w_mask"])
    report = apply(source, tmp_path / "both.pt", ask(0.25, remove=True))
    loaded, mask = load(tmp_path / "both.pt"), mask_that_is_also("gate")["w_mask"]
    assert sorted(loaded) == ["gate", "w"]
    assert not loaded["w"][mask == 0].any()
    assert [int((loaded[each.name] == 0).sum()) for each in report.parameters] == [
        each.zeros for each in report.parameters
    ]


def test_baking_some_masks_leaves_the_others_alone(tmp_path: Path) -> None:
    mask = (noise((6, 4), seed=5) > 0).float()
    own = (noise((6, 4), seed=7) > 0).float()
    tensors = {"gate_orig": mask, "gate_mask": own, "w_orig": noise((6, 4), seed=4), "w_mask": mask}
    source, target = save(tensors, tmp_path / "model.pt"), tmp_path / "out.pt"
    with pytest.raises(UsageError, match=r"^gate shares its memory with the mask of w, which would change, too"):
        bake(source, target, "gate")
    bake(source, target)
    assert raw(load(target)["gate"]) == raw(mask * own)
    assert raw(load(target)["w"]) == raw(torch.where(mask.bool(), tensors["w_orig"], torch.zeros(())))


def test_a_mask_in_one_storage_with_a_transposed_weight_counts_its_own_weight(tmp_path: Path) -> None:
    memory = torch.ones(60)
    mask, other = memory[1:25].view(4, 6), memory[25:49].view(4, 6).t()
    mask[0] = 0
    source = save({"w_orig": noise((4, 6), seed=1), "w_mask": mask, "t": other}, tmp_path / "model.pt")
    report = apply(source, tmp_path / "out.pt", ask(0.5))
    assert {each.name: each.zeros for each in report.parameters} == {"w": 6 + 9, "t": 12}
    assert int((load(tmp_path / "out.pt")["w_mask"] == 0).sum()) == 15
