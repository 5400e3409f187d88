"""`--per-slice` and `--per-row`: slices have exact counts, and are drawn as parameters with their names would be."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_threads import by_ranks
from small_blocks import small_blocks
from surgery_zoo import live_mask, load, noise, save
from torch import Tensor

from prunecli import files, prune_module
from prunecli.core import kernel
from prunecli.core.methods.base import Block, Target
from prunecli.core.methods.random import Random
from prunecli.core.methods.slices import Slices
from prunecli.errors import DamagedError, UsageError
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneGroup, PruneRequest
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.scan import RunScanner

small_blocks = pytest.fixture(scope="module", autouse=True)(small_blocks)

SIDE = 257
"""Experts of this side have a little more than a small block, so that none begins where a block does."""


def model(dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    shapes = {"experts.w1": (4, 30, 50), "big.w": (3, SIDE, SIDE), "fc.weight": (40, 25)}
    tensors = {name: noise(shape, dtype, seed) for seed, (name, shape) in enumerate(shapes.items())}
    return {name: torch.where(tensor == 0, torch.ones_like(tensor), tensor) for name, tensor in tensors.items()}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save(model(), tmp_path / "model.pt")


def masks(source: Path, **options: Any) -> dict[str, Tensor]:
    """Return what is kept of each pruned parameter."""
    files.apply(source, **{"params": "*", "seed": 7, "output": "out", "force": True, **options})
    return {name.removesuffix("_mask"): kept for name, kept in torch.load("out").items() if name.endswith("_mask")}


def dropped(kept: Tensor) -> list[int]:
    return [int((~each).sum()) for each in kept]


def test_a_slice_has_the_mask_of_a_parameter_with_its_name(source: Path) -> None:
    found = masks(source, amount=0.3, per_slice=True)
    for name in ("experts.w1", "big.w"):
        for number, (kept, weight) in enumerate(zip(found[name], model()[name], strict=True)):
            assert torch.equal(kept, live_mask(weight, 0.3, f"{name}#{number}")), (name, number)
    assert torch.equal(found["fc.weight"], live_mask(model()["fc.weight"], 0.3, "fc.weight"))
    assert json.loads(Path("out.report.json").read_text())["schema"] == "prunecli.report/2"


def test_rows_have_the_masks_of_parameters_with_their_names(source: Path) -> None:
    found = masks(source, amount=0.3, per_row=True)
    for name, weight in model().items():
        assert dropped(found[name]) == [round(0.3 * weight[0].numel())] * len(weight)
    assert torch.equal(found["fc.weight"][39], live_mask(model()["fc.weight"][39], 0.3, "fc.weight#39"))
    slices = masks(source, amount=0.3, per_slice=True)
    assert torch.equal(found["big.w"], slices["big.w"])  # what both can do, they do alike


def test_rows_of_a_count_and_of_single_parameters(source: Path) -> None:
    found = masks(source, amount=["fc*=2", "0.5", "big.w=0"], per_row=True)
    assert dropped(found["fc.weight"]) == [2] * 40
    assert dropped(found["big.w"]) == [0] * 3
    assert dropped(found["experts.w1"]) == [750] * 4


def test_slices_are_layers_for_amounts_rules_excludes_and_totals(source: Path) -> None:
    line: dict[str, Any] = {"params": ["experts*", "fc*"], "per_slice": True, "allocation": "erk"}
    amounts = ["0.1", "experts.w1#1=0", "experts.w1=7", "experts.w1#3=0.25"]
    found = masks(source, **line, amount=amounts)
    assert dropped(found["experts.w1"]) == [7, 0, 7, 375]
    assert int((~found["fc.weight"]).sum()) == round(0.1 * 7000) - 389
    found = masks(source, **line, amount=0.9)  # 700 are kept: 80 of 385 in a slice, 65 of 385 in the matrix
    assert [int(each.sum()) for each in found["experts.w1"]] == [146, 146, 145, 145]  # 145.45
    assert int(found["fc.weight"].sum()) == 118  # 118.18
    found = masks(source, **line | {"allocation": None}, amount=0.5, exclude="*#[02]")
    assert dropped(found["experts.w1"]) == [0, 750, 0, 750]
    assert dropped(masks(source, params="experts.w1#2", amount=9, per_slice=True)["experts.w1"]) == [0, 0, 9, 0]
    found = masks(source, **line | {"allocation": None, "params": "experts*"}, amount=1000, global_=True)
    assert sum(dropped(found["experts.w1"])) == 1000
    assert len(set(dropped(found["experts.w1"]))) > 1
    Path("ratios.json").write_text('{"experts.w1": 0.5, "experts.w1#0": 1, "fc.weight": 0}')
    found = masks(source, **line | {"allocation": None}, ratios="ratios.json")
    assert dropped(found["experts.w1"]) == [1, 750, 750, 750]


def test_an_order_names_parameters_or_slices(source: Path) -> None:
    Path("order").write_text("fc.weight\nexperts.w1\n")
    line: dict[str, Any] = {"params": ["experts*", "fc*"], "per_slice": True, "allocation": "pyramidal", "amount": 0.5}
    found = dropped(masks(source, **line, order="order")["experts.w1"])
    assert found == sorted(found)
    stored = dropped(masks(source, **line)["experts.w1"])  # the file has the experts first
    assert stored == sorted(stored)
    assert sum(stored) < sum(found)


@pytest.mark.parametrize("how", ["per_slice", "per_row"])
def test_masks_and_zeros_leave_each_slice_its_own_candidates(source: Path, how: str) -> None:
    first = masks(source, amount=0.5)
    counts = {name: [int(each.sum()) for each in kept] for name, kept in first.items()}
    Path("out").rename("first")
    second = masks(Path("first"), amount=0.5, **{how: True})
    for name, kept in second.items():
        if kept.dim() == 3 if how == "per_slice" else kept.dim() == 2:
            for number, (now, before) in enumerate(zip(kept, first[name], strict=True)):
                drawn = live_mask(model()[name][number], 0.5, f"{name}#{number}", before=before)
                assert torch.equal(now, drawn), (name, number)
    files.apply(source, params="*", seed=7, amount=0.5, bake=True, output="zeros")
    baked = masks(Path("zeros"), amount=0.5, zeros_are_pruned=True, **{how: True})
    assert all(torch.equal(baked[name], second[name]) for name in baked)
    rows = masks(Path("first"), amount=3, per_row=True)["fc.weight"]
    assert [int(each.sum()) for each in rows] == [count - 3 for count in counts["fc.weight"]]


@pytest.mark.parametrize("how", [{"per_slice": True, "amount": 0.4}, {"per_row": True, "amount": [0.4, "fc.weight=1"]}])
def test_recipes_reports_and_stamps_repeat_it(source: Path, how: Mapping[str, Any]) -> None:
    found = masks(source, **how)
    report = json.loads(Path("out.report.json").read_text())
    Path("out").rename("one")
    Path("out.report.json").rename("r.json")
    again = masks(source, params=(), seed=None, from_report="r.json")
    assert Path("one").read_bytes() == Path("out").read_bytes()
    assert {**json.loads(Path("out.report.json").read_text()), "output": report["output"]} == report
    assert all(torch.equal(again[name], found[name]) for name in found)
    files.verify("out")
    extra = 'amounts = { "fc.weight" = 1 }' if "per_row" in how else ""
    name = next(iter(how))
    Path("r.toml").write_text(f'seed = 7\n[[group]]\nparams = "*"\namount = 0.4\n{name} = true\n{extra}\n')
    again = masks(source, params=(), seed=None, recipe="r.toml")
    assert all(torch.equal(again[name], found[name]) for name in found)


def test_a_report_with_wrong_slices_is_refused(source: Path) -> None:
    masks(source, amount=0.4, per_slice=True)
    content = json.loads(Path("out.report.json").read_text())
    row = next(each for each in content["parameters"] if each["name"] == "experts.w1")
    for change in (
        {"slices": 5},
        {"slices": "4"},
        {"pruned": [600] * 5},
        {"pruned": [1e400] * 4},
        {"pruned": "abc"},
        {"pruned": 600.0},
    ):
        row["choice"], right = {**row["choice"], **change}, row["choice"]
        Path("r.json").write_text(json.dumps(content).replace("Infinity", "1e400"))
        with pytest.raises(DamagedError):
            files.apply(source, from_report="r.json", output="never")
        row["choice"] = right
    row["choice"]["pruned"][0] += 1
    Path("r.json").write_text(json.dumps(content))
    with pytest.raises(DamagedError):
        files.apply(source, from_report="r.json", output="never")
    assert not Path("never").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn])
def test_masks_do_not_depend_on_type_format_threads_or_shards(source: Path, dtype: torch.dtype) -> None:
    found = masks(source, amount=0.4, per_slice=True, jobs=1)
    Path("m").mkdir()
    tensors = {name: tensor.to(dtype) for name, tensor in model().items()}
    save({"big.w": tensors["big.w"]}, Path("m/b.safetensors"))
    save({name: tensors[name] for name in ("experts.w1", "fc.weight")}, Path("m/a.safetensors"))
    places = {"big.w": "b.safetensors", "experts.w1": "a.safetensors", "fc.weight": "a.safetensors"}
    Path("m/model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    files.apply("m", params="*", seed=7, amount=0.4, per_slice=True, jobs=3)
    written = load(Path("m.pruned/a.safetensors")) | load(Path("m.pruned/b.safetensors"))
    assert all(torch.equal(written[f"{name}_mask"], kept) for name, kept in found.items())


def test_ranks_draw_the_same_with_candidates_counted_by_them(source: Path) -> None:
    masks(source, amount=0.5)
    Path("out").rename("first")
    kept = masks(Path("first"), amount=0.3, per_slice=True)
    group = PruneGroup(Selection(("*",), per_slice=True), 0.3)

    def work(ranks: Any) -> None:
        with open_any(Path("first")) as checkpoint:
            run = Run(1, ranks=ranks)
            plan = plan_prune(checkpoint, PruneRequest((group,), 7), scanner=RunScanner(run))
            rewrite(checkpoint, plan, Destination(Path("ranks.pt")), run)

    assert by_ranks(2, work) == [None, None]
    assert all(torch.equal(torch.load("ranks.pt")[f"{name}_mask"], each) for name, each in kept.items())


def test_modules_have_the_masks_of_files(source: Path) -> None:
    module = torch.nn.Conv1d(50, 4, 30)
    prune_module(module, "weight", 0.3, seed=7, per_slice=True)
    save({"weight": torch.zeros(4, 50, 30)}, Path("w.pt"))
    kept = masks(Path("w.pt"), amount=0.3, per_slice=True)["weight"]
    assert torch.equal(module.state_dict()["weight_mask"].bool(), kept)


def test_tensors_that_are_not_row_major(source: Path) -> None:
    turned = {"w": model()["experts.w1"].permute(0, 2, 1)}
    torch.save(turned, "turned.pt")
    save({"w": turned["w"].contiguous()}, Path("straight.pt"))
    found = masks(Path("turned.pt"), amount=0.3, per_row=True)["w"]
    assert torch.equal(found, masks(Path("straight.pt"), amount=0.3, per_row=True)["w"])


def test_any_range_of_a_draw_is_a_part_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for count, size in ((7, 5), (300, 1), (5, 1000), (1, 77)):
        slices = Slices(count, size)
        target = Target("w", "w", (count, size), "float32", count * size, slices=slices)
        amounts = rng.integers(0, size + 1, count).tolist()
        choice = Random().choose_slices(target, amounts, 3)
        whole = np.empty(count * size, np.bool_)
        choice.drop(Block(0, 0, np.ones_like(whole)), whole)
        assert whole.reshape(count, size).sum(axis=1).tolist() == amounts
        for _ in range(40):
            low, high = sorted(rng.integers(0, whole.size + 1, 2).tolist())
            if low < high:
                part = np.empty(high - low, np.bool_)
                choice.drop(Block(0, low, np.ones_like(part)), part)
                assert np.array_equal(part, whole[low:high]), (count, size, low, high)
        monkeypatch.setattr(kernel, "draw_each", lambda *_, **__: False)
        again = np.empty_like(whole)
        choice.drop(Block(0, 0, np.ones_like(whole)), again)
        assert np.array_equal(again, whole)
        monkeypatch.undo()


def test_draws_of_slices_are_uniform_and_independent() -> None:
    """Pairs of positions, one in each of two neighbouring slices: 36 equally likely outcomes."""
    slices = Slices(6000, 6)
    target = Target("w", "w", (6000, 6), "float32", 36000, slices=slices)
    out = np.empty(36000, np.bool_)
    Random().choose_slices(target, 1, 11).drop(Block(0, 0, np.ones_like(out)), out)
    places = out.reshape(6000, 6).argmax(axis=1)
    counts = np.bincount(places[::2] * 6 + places[1::2], minlength=36)
    expected = 3000 / 36
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # the 0.1 % point of chi-square with 35 degrees is 66.6


def test_tied_parameters_have_common_slices_and_empty_ones_none(source: Path) -> None:
    weight = model()["experts.w1"]
    torch.save({"b": weight, "a": weight, "empty": torch.zeros(0, 4, 4), "flat": torch.zeros(3, 0)}, "tied.pt")
    for how in ({"per_slice": True}, {"per_row": True}):
        found = masks(Path("tied.pt"), amount=0.3, **how)
        assert torch.equal(found["a"], found["b"])
        assert torch.equal(found["b"][2], live_mask(weight[2], 0.3, "a#2"))
        assert found["empty"].shape == (0, 4, 4)
    torch.save({"a": weight, "b": weight.unsqueeze(0)}, "tied.pt")
    with pytest.raises(UsageError, match="a and b are tied and have other shapes"):
        files.apply("tied.pt", params="*", amount=0.3, per_row=True, bake=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"amount": 0.5, "per_slice": True, "params": "fc*"}, "exactly three dimensions"),
        ({"amount": 0.5, "per_slice": True, "like": "model.pt"}, "both say"),
        ({"per_slice": True, "like": "model.pt"}, "per_slice=True needs an amount of every slice"),
        ({"per_row": True, "like": "model.pt"}, "per_row=True needs an amount of every row"),
        ({"amount": 0.5, "per_row": True, "allocation": "erk"}, "which allocation does not give"),
        ({"amount": 0.5, "per_row": True, "global_": True}, "which global_=True does not give"),
        ({"amount": 0.5, "per_row": True, "per_slice": True}, "per_slice=True"),
        ({"amount": 26, "per_row": True}, "cannot prune 26 elements of every row of fc.weight: a row has 25"),
        ({"amount": 0.5, "per_slice": True, "params": "experts.w1#4"}, "experts.w1#4 matches nothing"),
        ({"amount": 0.5, "params": "experts.w1#3"}, "experts.w1#3 matches nothing"),
        ({"amount": 0.5, "per_slice": True, "params": "experts.w1", "exclude": "*#*"}, "selects nothing"),
        ({"amount": ["0.5", "experts.w1#9=0"], "per_slice": True}, "experts.w1#9 = 0 matches none"),
        ({"amount": 0.5, "per_row": True, "recipe": "x", "params": ()}, "both say what is pruned"),
    ],
)
def test_what_contradicts_itself(source: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        files.apply(source, **{"params": "*", "output": "never", **options})
    assert words in str(caught.value)
    assert not Path("never").exists()


def test_vectors_have_no_rows(source: Path) -> None:
    save({"b": noise((1024,))}, Path("vector.pt"))
    with pytest.raises(
        UsageError, match="b has fewer than two dimensions, and no rows for per_row=True; add min_dim 2"
    ):
        files.apply("vector.pt", params="*", amount=0.5, per_row=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("per_row = true\nallocation = 'erk'", "has per_row = true and allocation, which do not go together"),
        ("per_slice = 1", "per_slice is not true or false"),
    ],
)
def test_recipes_that_contradict_themselves(source: Path, text: str, words: str) -> None:
    Path("r.toml").write_text(f"[[group]]\nparams = '*'\namount = 0.5\n{text}\n")
    with pytest.raises(UsageError, match=words):
        files.apply(source, recipe="r.toml", output="never")
