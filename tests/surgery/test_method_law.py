"""The law of methods: a file, shards, parts, ranks and a live module are pruned alike, the smallest first."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dcp_tools
import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from rank_threads import by_ranks
from small_blocks import small_blocks
from torch import Tensor, nn

from prunecli import bake_module, files, prune_module
from prunecli.core.methods.request import given_method
from prunecli.formats.base import ReadOptions
from prunecli.surgery.apply import ApplyOptions, RequestOverrides
from prunecli.surgery.division import DivisionOptions
from prunecli.surgery.listing import Listener
from prunecli.surgery.names.select import Selection
from prunecli.surgery.prepare import prepare_apply
from prunecli.surgery.report.model import Report
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import SINGLE_PROCESS, Ranks

small_blocks = pytest.fixture(scope="module")(small_blocks)
pytestmark = pytest.mark.usefixtures("small_blocks")

Keep = Mapping[str, NDArray[np.bool_]]
State = Mapping[str, Tensor]

NAMES = ("a.weight", "b.weight", "c.weight", "conv.weight")
MATRICES = ("a.weight", "b.weight", "c.weight")

SPECS: dict[str, dict[str, Any]] = {
    "random": {"amount": 0.4},
    "rows at random": {"amount": 0.5, "per_row": True},
    "2:4 at random": {"n_of_m": "2:4"},
    "1:8 at random along 0": {"n_of_m": "1:8", "dim": 0, "params": MATRICES},
    "blocks at random": {"amount": 0.3, "block": "16x12", "params": MATRICES},
    "slices at random": {"amount": 0.25, "method": "random-structured", "dim": 1},
    "ln 1": {"amount": 0.5, "method": "ln", "norm": 1, "dim": 0},
    "ln 2": {"amount": 7, "method": "ln", "norm": 2, "dim": 1},
    "l1": {"amount": 0.4, "method": "l1"},
    "l1 together": {"amount": 0.5, "method": "l1", "global_": True},
    "l1 by rows": {"amount": 0.5, "method": "l1", "per_row": True},
    "l1 by a rule": {"amount": 0.6, "method": "l1", "allocation": "erk"},
    "l1 in 2:4": {"method": "l1", "n_of_m": "2:4"},
    "l1 in blocks": {"amount": 0.5, "method": "l1", "block": "16x12", "params": MATRICES},
    "scores": {"amount": 0.3, "scores": True},
    "scores together": {"amount": 0.3, "scores": True, "abs_scores": True, "global_": True},
    "scores by rows": {"amount": 11, "scores": True, "per_row": True},
    "scores in 2:4": {"scores": True, "n_of_m": "2:4"},
    "scores in 1:4": {"scores": True, "abs_scores": True, "n_of_m": "1:4", "dim": 0, "params": MATRICES},
    "scores in blocks": {"amount": 40, "scores": True, "block": "16x12", "params": MATRICES},
    "lamp": {"amount": 0.5, "method": "lamp"},
    "ln inf": {"amount": 0.5, "method": "ln", "norm": "inf", "dim": -1, "params": MATRICES},
}
"""Methods with their settings, as `files.apply` and `prune_module` take them."""


def some(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers, some of them equal."""
    return torch.randint(-5000, 5001, shape, generator=generator) / 4096


@cache
def _tensors() -> State:
    """One tensor has more than a block, one is not row-major, and equal elements lie on both sides of borders."""
    generator = torch.Generator().manual_seed(18)
    return {
        "a.weight": some(generator, 280, 248),
        "b.weight": some(generator, 72, 400).bfloat16(),
        "c.weight": some(generator, 96, 120).half().t(),
        "conv.weight": some(generator, 40, 24, 3, 3),
        "d.bias": some(generator, 11),
    }


@cache
def _scores() -> State:
    """Scores for each, of other types."""
    generator = torch.Generator().manual_seed(19)
    found = {name: some(generator, *each.shape) for name, each in _tensors().items()}
    return found | {"b.weight": found["b.weight"].double(), "conv.weight": found["conv.weight"].half()}


def tensors() -> dict[str, Tensor]:
    return dict(_tensors())


def shards(state: State, root: Path) -> Path:
    folder = root / "shards"
    folder.mkdir()
    weight_map = {name: f"model-{number}.safetensors" for number, name in enumerate(state)}
    for name, file in weight_map.items():
        safetensors.torch.save_file({name: state[name].contiguous()}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def archive(state: State, root: Path) -> Path:
    torch.save(dict(state), root / "model.pt")
    return root / "model.pt"


def plain(state: State, root: Path) -> Path:
    path = root / "model.safetensors"
    safetensors.torch.save_file({name: each.contiguous() for name, each in state.items()}, path)
    return path


def parts(state: State, root: Path) -> Path:
    cuts = {"a.weight": ((175,), (75,)), "conv.weight": ((), (15,), (), (1,)), "b.weight": ((), (7,))}
    cuts |= {f"{name}_{end}": cut for name, cut in cuts.items() for end in ("orig", "mask")}
    return dcp_tools.save(state, root / "parts", cuts, files=2)


MAKERS: dict[str, Callable[[State, Path], Path]] = {
    "safetensors": plain,
    "zip": archive,
    "shards": shards,
    "parts": parts,
}


def loaded(path: Path) -> dict[str, Tensor]:
    if path.is_file():
        return safetensors.torch.load_file(path) if path.suffix == ".safetensors" else torch.load(path)
    if (path / ".metadata").exists():
        return dict(dcp_tools.load(path))
    found = [safetensors.torch.load_file(each) for each in sorted(path.glob("*.safetensors"))]
    return {name: tensor for part in found for name, tensor in part.items()}


def options(spec: Mapping[str, Any], scores: str | None, *, bake: bool, zeros: bool = False) -> ApplyOptions:
    """The options of `apply` for a row of the table."""
    given = dict(spec)
    selection, amount = Selection(tuple(given.pop("params", NAMES))), given.pop("amount", None)
    global_ = given.pop("global_", False)
    division = {key: given.pop(key) for key in ("per_row", "allocation", "order") if key in given}
    if "scores" in given:
        given["scores"] = scores
    how = DivisionOptions(**division, method=given_method(given.pop("method", None), **given))
    how.check(amount, global_=global_)
    overrides = RequestOverrides(seed=7, remove=bake, zeros_are_pruned=zeros)
    return ApplyOptions(selection, amount, global_, overrides, division=how)


def prune(source: Path, target: Path, asked: ApplyOptions, run: Run) -> Report:
    with prepare_apply(source, asked, Destination(target), ReadOptions(), run, Listener()) as job:
        return job.rewrite()


class Net(nn.Module):
    """The tensors as parameters of modules."""

    def __init__(self, state: State) -> None:
        super().__init__()
        for name, tensor in state.items():
            path, _, leaf = name.rpartition(".")
            self.add_module(path, nn.Module())
            self.get_submodule(path).register_parameter(leaf, nn.Parameter(tensor.clone()))


def live(spec: Mapping[str, Any], model: nn.Module, *, bake: bool) -> Report:
    given = dict(spec)
    if "scores" in given:
        given["scores"] = {name: _scores()[name] for name in given.get("params", NAMES)}
    everywhere = given.pop("global_", False)
    return prune_module(model, given.pop("params", NAMES), everywhere=everywhere, seed=7, bake=bake, **given)


def masks_of(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.bool_]]:
    return {name.removesuffix("_mask"): each.bool().numpy() for name, each in state.items() if name.endswith("_mask")}


@pytest.fixture(scope="module")
def masked(small_blocks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Keep]:
    """A file with masks, and what they keep."""
    root = tmp_path_factory.mktemp("masked")
    prune(plain(tensors(), root), root / "masked.safetensors", options({"amount": 0.3}, None, bake=False), Run(2))
    return root / "masked.safetensors", masks_of(loaded(root / "masked.safetensors"))


@pytest.fixture(scope="module")
def references(
    tmp_path_factory: pytest.TempPathFactory, masked: tuple[Path, Keep]
) -> Callable[[str, bool], tuple[Keep, Report]]:
    """The masks of a row of the table in one file, which may have had masks; checked against the tensors."""

    @cache
    def made(name: str, continued: bool) -> tuple[Keep, Report]:
        root = tmp_path_factory.mktemp("reference")
        source, before = masked if continued else (plain(tensors(), root), everything())
        scores = plain(_scores(), root_of(root, "scores"))
        report = prune(source, root / "out.safetensors", options(SPECS[name], str(scores), bake=False), Run(2))
        found = masks_of(loaded(root / "out.safetensors"))
        keep = {key: found[key] for key in SPECS[name].get("params", NAMES)}
        check(SPECS[name], before, keep)
        return keep, report

    return made


def root_of(root: Path, name: str) -> Path:
    (root / name).mkdir(exist_ok=True)
    return root / name


def everything() -> Keep:
    return {name: np.ones(tuple(each.shape), np.bool_) for name, each in _tensors().items()}


def numbers(spec: Mapping[str, Any]) -> dict[str, NDArray[np.float64]] | None:
    """What a method compares; None if it draws."""
    if "scores" in spec:
        found = {name: each.double().numpy() for name, each in _scores().items()}
        return {name: np.abs(each) for name, each in found.items()} if spec.get("abs_scores") else found
    if spec.get("method") in ("l1", "ln", "lamp"):
        return {name: each.double().abs().numpy() for name, each in _tensors().items()}
    return None


def check(spec: Mapping[str, Any], before: Keep, keep: Keep) -> None:
    """Compare masks with what the method promises: exact counts, and the smallest go."""
    values = numbers(spec)
    for name, kept in keep.items():
        assert not (kept & ~before[name]).any()
    if spec.get("global_") or spec.get("allocation") or spec.get("method") == "lamp":
        left = sum(int(before[name].sum()) for name in keep)
        assert left - sum(int(each.sum()) for each in keep.values()) == round(spec["amount"] * left)
    groups = _joined(before, keep, values) if spec.get("global_") else _units(spec, before, keep, values)
    for dropped, stayed in groups:
        if dropped.size and stayed.size:
            assert dropped.max() <= stayed.min()


def _joined(
    before: Keep, keep: Keep, values: Mapping[str, NDArray[np.float64]] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    if values is not None:
        dropped = np.concatenate([values[name][before[name] & ~keep[name]] for name in keep])
        yield dropped, np.concatenate([values[name][keep[name]] for name in keep])


def _units(
    spec: Mapping[str, Any], before: Keep, keep: Keep, values: Mapping[str, NDArray[np.float64]] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield what was dropped and what stayed, wherever these can be compared; check the counts."""
    for name, kept in keep.items():
        old, own = before[name], np.zeros(kept.shape) if values is None else values[name]
        for each_old, each_kept, each_own, exact in _cut(spec, old, kept, own):
            left, stays = int(each_old.sum()), int(each_kept.sum())
            if exact is not None:
                amount = spec.get("amount", 0)
                share = left - (amount if isinstance(amount, int) else round(amount * left))
                assert stays == (min(left, exact) if exact >= 0 else share), name
            yield each_own[each_old & ~each_kept], each_own[each_kept]


def _cut(
    spec: Mapping[str, Any], old: NDArray[np.bool_], kept: NDArray[np.bool_], own: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], int | None]]:
    """Yield the parts of a tensor whose elements compete, and how many of each are kept: -1 for a share."""
    if "n_of_m" in spec:
        few, many = map(int, spec["n_of_m"].split(":"))
        dim = spec.get("dim", 1)
        rows = [np.moveaxis(each, dim, -1).reshape(-1, many) for each in (old, kept, own)]
        picked = np.linspace(0, len(rows[0]) - 1, 500).astype(int)
        assert (rows[1].sum(1) == np.minimum(rows[0].sum(1), few)).all()
        yield from ((*(each[row] for each in rows), few) for row in picked)
    elif "block" in spec or "dim" in spec:
        yield _whole(spec, old, kept, own)
    elif spec.get("per_row"):
        yield from ((one, two, three, -1) for one, two, three in zip(old, kept, own, strict=True))
    else:
        yield old, kept, own, None if spec.get("allocation") or spec.get("method") == "lamp" else -1


def _whole(
    spec: Mapping[str, Any], old: NDArray[np.bool_], kept: NDArray[np.bool_], own: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], int | None]:
    """Return units as elements: whether each was there, whether it is kept, and its sum or norm."""
    units: list[tuple[Any, ...]] = []
    if "block" in spec:
        height, width = map(int, spec["block"].split("x"))
        starts = itertools.product(range(0, old.shape[0], height), range(0, old.shape[1], width))
        units = [(slice(row, row + height), slice(column, column + width)) for row, column in starts]
    else:
        before = (slice(None),) * (spec["dim"] % old.ndim)
        units = [(*before, number) for number in range(old.shape[spec["dim"]])]
    norm = {2: 2, "inf": np.inf}.get(spec.get("norm", 1), 1)
    for unit in units:
        assert not kept[unit].any() or (kept[unit] == old[unit]).all()
    there = np.array([old[unit].any() for unit in units])
    stays = np.array([kept[unit].any() for unit in units])
    masses = [own[unit] * old[unit] for unit in units]
    sizes = [each.sum() if spec.get("method") != "ln" else np.linalg.norm(each.reshape(-1), norm) for each in masses]
    amount = spec["amount"]
    return there, stays, np.array(sizes), int(there.sum()) - amount if isinstance(amount, int) else -1


def check_same(out: State, state: State, keep: Keep, *, baked: bool) -> None:
    for name, kept in keep.items():
        if baked:
            zeroed = torch.where(torch.from_numpy(kept), state[name], torch.zeros((), dtype=state[name].dtype))
            assert torch.equal(out[name], zeroed), name
        else:
            assert np.array_equal(out[f"{name}_mask"].bool().numpy(), kept), name
            assert torch.equal(out[f"{name}_orig"], state[name]), name


def check_rows(report: Report, expected: Report) -> None:
    rows = {each.name: (each.pruned_now, each.candidates, each.choice) for each in report.parameters}
    assert rows == {each.name: (each.pruned_now, each.candidates, each.choice) for each in expected.parameters}


WAYS = [
    ("safetensors", True, 1, False),
    ("zip", False, 2, False),
    ("shards", True, 2, False),
    ("parts", True, 1, False),
    ("zip", True, 1, True),
    ("shards", False, 2, True),
]
"""Container, whether zeros are written, ranks, and whether the file has masks."""


CASES = [(name, way) for one, name in enumerate(SPECS) for two, way in enumerate(WAYS) if (one + two) % 2]
"""Each method in half of the ways, others than its neighbour in the table."""


@pytest.mark.parametrize(("name", "way"), CASES, ids=lambda each: each if isinstance(each, str) else str(each))
def test_all_ways_lead_to_the_same_masks(
    name: str,
    way: tuple[str, bool, int, bool],
    references: Callable[[str, bool], tuple[Keep, Report]],
    masked: tuple[Path, Keep],
    tmp_path: Path,
) -> None:
    kind, bake, ranks, continued = way
    keep, expected = references(name, continued)
    state: State = loaded(masked[0]) if continued else tensors()
    source = MAKERS[kind](state, tmp_path)
    target = tmp_path / f"out{source.suffix}"
    scores = (shards if ranks > 1 else archive)(_scores(), root_of(tmp_path, "scores"))
    asked = options(SPECS[name], str(scores), bake=bake)

    def work(rank: Ranks) -> Report:
        return prune(source, target, asked, Run(2, ranks=rank))

    found = [work(SINGLE_PROCESS)] if ranks == 1 else by_ranks(2, work)
    assert isinstance(found[0], Report), found[0]
    check_same(loaded(target), tensors(), keep, baked=bake)
    check_rows(found[0], expected)


@pytest.mark.parametrize("name", SPECS)
def test_a_module_gets_the_same_masks(name: str, references: Callable[[str, bool], tuple[Keep, Report]]) -> None:
    keep, expected = references(name, False)
    model, baked = Net(tensors()), Net(tensors())
    report = live(SPECS[name], model, bake=False)
    check_same(model.state_dict(), tensors(), keep, baked=False)
    check_rows(report, expected)
    live(SPECS[name], baked, bake=True)
    check_same(baked.state_dict(), tensors(), keep, baked=True)
    twice = Net(tensors())
    prune_module(twice, NAMES, 0.3, seed=7)
    live(SPECS[name], twice, bake=False)
    bake_module(twice)
    check_same(twice.state_dict(), tensors(), references(name, True)[0], baked=True)


@pytest.mark.parametrize("name", SPECS)
def test_zeros_count_as_pruned_like_a_mask(name: str, masked: tuple[Path, Keep], tmp_path: Path) -> None:
    """Values of a pruned checkpoint, whose few other zeros were pruned, too."""
    before = masked[1]
    state = {key: each * torch.from_numpy(before[key]) if key in before else each for key, each in tensors().items()}
    scores = plain(_scores(), root_of(tmp_path, "scores"))
    source = archive(state, tmp_path)
    prune(source, tmp_path / "out.pt", options(SPECS[name], str(scores), bake=False, zeros=True), Run(2))
    keep = masks_of(loaded(tmp_path / "out.pt"))
    nonzero = {key: each.numpy().astype(bool) for key, each in ((key, state[key] != 0) for key in NAMES)}
    check(SPECS[name], nonzero, {key: keep[key] for key in SPECS[name].get("params", NAMES)})


@pytest.mark.parametrize("name", SPECS)
def test_a_replay_and_a_recipe_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    spec = {"params": NAMES, **SPECS[name]}
    source = archive(tensors(), tmp_path)
    if "scores" in spec:
        spec["scores"] = plain(_scores(), root_of(tmp_path, "scores"))
    files.apply(source, **spec, seed=7, output=tmp_path / "one.pt")
    files.apply(source, from_report=tmp_path / "one.pt.report.json", output=tmp_path / "two.pt")
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    files.verify(tmp_path / "two.pt")
    one, two = (json.loads((tmp_path / f"{each}.pt.report.json").read_text()) for each in ("one", "two"))
    assert {**one, "output": None} == {**two, "output": None}
    assert one["schema"] == ("prunecli.report/1" if name == "random" else "prunecli.report/2")


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
FLOATS += [torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz]
TYPED = [name for name, spec in SPECS.items() if spec.get("method") in ("l1", "ln", "lamp")]


@pytest.mark.parametrize("name", TYPED)
def test_every_float_type_is_pruned_by_magnitude(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    numbers = [torch.randn(24, 32, generator=generator).to(dtype) for dtype in FLOATS]
    state = {f"in_{str(each.dtype).removeprefix('torch.')}.weight": each for each in numbers}
    spec = {**SPECS[name], "params": tuple(state)}
    monkeypatch.setitem(globals(), "_tensors", lambda: state)
    source = archive(state, tmp_path)
    prune(source, tmp_path / "out.pt", options(spec, None, bake=False), Run(2))
    keep = masks_of(loaded(tmp_path / "out.pt"))
    check(spec, everything(), keep)
    prune(plain(state, tmp_path), tmp_path / "out.safetensors", options(spec, None, bake=True), Run(1))
    model = Net(state)
    live(spec, model, bake=True)
    for baked in (loaded(tmp_path / "out.safetensors"), model.state_dict()):
        for key, tensor in state.items():
            zeroed = torch.where(torch.from_numpy(keep[key]), tensor.double(), 0.0).to(tensor.dtype)
            assert torch.equal(baked[key].view(torch.uint8), zeroed.view(torch.uint8)), key
