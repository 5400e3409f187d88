"""A method is a class in a table: three that only tests know prune files, shards, parts and modules as numpy does."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dcp_tools
import numpy as np
import pytest
import safetensors.torch
import spread_fixtures
import torch
from numpy.typing import NDArray
from rank_threads import by_ranks
from small_blocks import SMALL_BLOCK, small_blocks
from spread_zoo import contents
from surgery_zoo import ask
from torch import Tensor, nn
from toy_methods import TOYS, First

from prunecli import bake_module
from prunecli.core.methods import METHODS
from prunecli.errors import OutputError, UnsupportedError
from prunecli.formats.opening import open_any
from prunecli.modules import prune_module
from prunecli.modules.layout import LiveModule
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.replay import plan_replay
from prunecli.surgery.report.codec import parse_report, render_json
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import SINGLE_PROCESS, Ranks
from prunecli.surgery.run.scan import RunScanner

small_blocks = pytest.fixture(scope="module")(small_blocks)
failing = pytest.fixture(spread_fixtures.failing)
pytestmark = pytest.mark.usefixtures("table", "small_blocks")

AMOUNT = 0.4
Keep = Mapping[str, NDArray[np.bool_]]


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter the toys into the table of methods, and nowhere else."""
    for name, method in TOYS.items():
        monkeypatch.setitem(METHODS, name, method)


def tensors() -> dict[str, Tensor]:
    return dict(_tensors())


@cache
def _tensors() -> Mapping[str, Tensor]:
    """Few values, so that equal ones lie on both sides of every border; more than one block of some."""
    generator = torch.Generator().manual_seed(3)

    def some(*shape: int) -> Tensor:
        return torch.randint(-40, 41, shape, generator=generator) / 16

    return {
        "a.weight": some(325, 250),
        "b.weight": some(75, 100).bfloat16(),
        "c.weight": some(50, 82).t(),
        "conv.weight": some(100, 76, 3, 3),
        "d.bias": some(11),
    }


def selected(name: str) -> list[str]:
    return ["conv.weight"] if name == "second" else ["a.weight", "b.weight", "c.weight", "conv.weight"]


@cache
def expected(name: str) -> Keep:
    """What a method keeps of the tensors."""
    return oracle(name, tensors(), everything(tensors()))


def oracle(name: str, state: Mapping[str, Tensor], before: Keep) -> Keep:
    """What a method keeps, in a few lines of numpy on whole tensors."""
    keep = {key: before[key].copy() for key in selected(name)}
    if name == "second":
        keep["conv.weight"][:, 1::2] = False
    elif name == "first":
        for each in keep.values():
            places = np.flatnonzero(each)
            each.reshape(-1)[places[: round(AMOUNT * places.size)]] = False
    else:
        flat = np.concatenate([keep[key].reshape(-1) for key in sorted(keep)])
        values = np.concatenate([state[key].float().abs().numpy().reshape(-1) for key in sorted(keep)])
        places = np.flatnonzero(flat)
        ranks = (-16 * values[places]).astype(np.int8)  # numpy sorts short integers in linear time
        order = places[np.argsort(ranks, kind="stable")]
        flat[order[: round(AMOUNT * places.size)]] = False
        sizes = np.cumsum([keep[key].size for key in sorted(keep)])[:-1]
        for key, part in zip(sorted(keep), np.split(flat, sizes), strict=True):
            keep[key] = part.reshape(keep[key].shape)
    return keep


def everything(state: Mapping[str, Tensor]) -> Keep:
    return {name: np.ones(tuple(tensor.shape), np.bool_) for name, tensor in state.items()}


def shards(state: Mapping[str, Tensor], folder: Path) -> Path:
    folder.mkdir()
    weight_map = {}
    for number, (name, tensor) in enumerate(state.items()):
        file = f"model-{number}.safetensors"
        safetensors.torch.save_file({name: tensor.contiguous()}, folder / file)
        weight_map[name] = file
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def file(state: Mapping[str, Tensor], root: Path) -> Path:
    torch.save(dict(state), root / "model.pt")
    return root / "model.pt"


def chunks(state: Mapping[str, Tensor], root: Path) -> Path:
    """A folder of torch.distributed.checkpoint whose parts end within rows and within groups."""
    cuts = {"a.weight": ((175,), (75,)), "conv.weight": ((), (39,), (), (1,)), "b.weight": ((), (7,))}
    return dcp_tools.save(state, root / "folder", cuts, files=2)


MAKERS: dict[str, Callable[[Mapping[str, Tensor], Path], Path]] = {
    "file": file,
    "shards": lambda state, root: shards(state, root / "model"),
    "parts": chunks,
}


def loaded(path: Path) -> dict[str, Tensor]:
    if path.is_file():
        return dict(torch.load(path, weights_only=True))
    if (path / ".metadata").exists():
        return dict(dcp_tools.load(path))
    parts = [safetensors.torch.load_file(each) for each in sorted(path.glob("*.safetensors"))]
    return {name: tensor for part in parts for name, tensor in part.items()}


def request(name: str, **options: Any) -> PruneRequest:
    return ask(AMOUNT, *selected(name), method=name, everywhere=name == "largest", **options)


def prune(source: Path, target: Path, prune: PruneRequest, run: Run) -> Report:
    with open_any(source) as opened:
        plan = plan_prune(opened, prune, scanner=RunScanner(run))
        return rewrite(opened, plan, Destination(target), run)


def check(name: str, state: Mapping[str, Tensor], out: Mapping[str, Tensor], keep: Keep, *, baked: bool) -> None:
    for key in selected(name):
        if baked:
            expected = torch.where(torch.from_numpy(keep[key]), state[key], torch.zeros((), dtype=state[key].dtype))
            assert torch.equal(out[key], expected), key
        else:
            assert torch.equal(out[f"{key}_mask"].bool(), torch.from_numpy(keep[key])), key
            assert torch.equal(out[f"{key}_orig"], state[key]), key


def check_report(report: Report, name: str, before: Keep, keep: Keep) -> None:
    rows = {each.name: each for each in report.parameters}
    assert report.prune is not None
    assert report.prune.method_name == name
    for key in selected(name):
        candidates, kept = int(before[key].sum()), int(keep[key].sum())
        assert (rows[key].pruned_now, rows[key].candidates) == (candidates - kept, candidates)
    assert list(parse_report(render_json(report), "r").parameters) == list(report.parameters)


KINDS = [("file", False), ("file", True), ("shards", False), ("shards", True), ("parts", True)]
CASES = [
    (name, *kind, 1 + (first + second) % 2) for first, name in enumerate(TOYS) for second, kind in enumerate(KINDS)
]
"""Every method with every kind; each of them by one rank and by two."""


@pytest.mark.parametrize(("name", "kind", "baked", "ranks"), CASES)
def test_a_toy_prunes_as_numpy_does(name: str, kind: str, baked: bool, ranks: int, tmp_path: Path) -> None:
    state = tensors()
    source, asked = MAKERS[kind](state, tmp_path), request(name, remove=baked)
    target = tmp_path / f"out{source.suffix}"

    def work(rank: Ranks) -> Report:
        return prune(source, target, asked, Run(2, ranks=rank))

    found = [work(SINGLE_PROCESS)] if ranks == 1 else by_ranks(2, work)
    assert isinstance(found[0], Report), found[0]
    keep = expected(name)
    check(name, state, loaded(target), keep, baked=baked)
    check_report(found[0], name, everything(state), keep)


@pytest.fixture
def masked(tmp_path: Path) -> tuple[Path, dict[str, Tensor], Keep]:
    """A file with random masks, the values in it, and what the masks keep."""
    state = tensors()
    source = file(state, tmp_path)
    prune(source, tmp_path / "masked.pt", ask(0.3, "*.weight"), Run(2))
    out = loaded(tmp_path / "masked.pt")
    return tmp_path / "masked.pt", state, {key: out[f"{key}_mask"].numpy() for key in selected("first")}


@pytest.mark.parametrize("baked", [False, True])
@pytest.mark.parametrize("name", TOYS)
def test_on_a_masked_file_only_what_is_left_counts(
    name: str, baked: bool, masked: tuple[Path, dict[str, Tensor], Keep], tmp_path: Path
) -> None:
    source, state, before = masked
    report = prune(source, tmp_path / "out.pt", request(name, remove=baked), Run(2))
    keep = oracle(name, state, before)
    check(name, state, loaded(tmp_path / "out.pt"), keep, baked=baked)
    check_report(report, name, before, keep)


@pytest.mark.parametrize("granule", [7, SMALL_BLOCK + 9, 3 * SMALL_BLOCK])
def test_candidates_are_counted_by_the_blocks_that_a_method_sees(
    granule: int, masked: tuple[Path, dict[str, Tensor], Keep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source, state, before = masked
    monkeypatch.setattr(First, "granule", lambda self, target: granule)
    prune(source, tmp_path / "out.pt", request("first"), Run(2))
    check("first", state, loaded(tmp_path / "out.pt"), oracle("first", state, before), baked=False)


@pytest.mark.parametrize("name", TOYS)
def test_a_replay_and_a_resumed_run_give_the_same_bytes(
    name: str, failing: Callable[[int], None], tmp_path: Path
) -> None:
    source, asked = shards(tensors(), tmp_path / "model"), request(name)
    report = prune(source, tmp_path / "one", asked, Run(2))
    expected = contents(tmp_path / "one")
    read = parse_report(render_json(report), "r")
    assert read.prune is not None
    with open_any(source) as opened:
        rewrite(opened, plan_replay(opened, read, read.prune), Destination(tmp_path / "two"), Run(2))
    assert contents(tmp_path / "two") == expected
    failing(4)
    with pytest.raises(OutputError):
        prune(source, tmp_path / "three", asked, Run(1, keep=True))
    failing(-1)
    prune(source, tmp_path / "three", asked, Run(2, resume=True, keep=True))
    assert contents(tmp_path / "three") == expected


class Net(nn.Module):
    """The tensors as parameters of modules, two of them twice in one block of memory."""

    def __init__(self) -> None:
        super().__init__()
        for name, tensor in tensors().items():
            path, _, leaf = name.rpartition(".")
            if path not in dict(self.named_children()):
                self.add_module(path, nn.Module())
            self.get_submodule(path).register_parameter(leaf, nn.Parameter(tensor.clone()))


@pytest.mark.parametrize("name", TOYS)
def test_a_live_module_comes_out_as_its_file_does(name: str) -> None:
    state, model, other = tensors(), Net(), Net()
    report = prune_module._pruned(LiveModule(model), request(name))
    keep = expected(name)
    check(name, state, model.state_dict(), keep, baked=False)
    check_report(report, name, everything(state), keep)
    prune_module._pruned(LiveModule(other), request(name, remove=True))
    check(name, state, other.state_dict(), keep, baked=True)
    again = oracle(name, state, {**everything(state), **keep})
    prune_module._pruned(LiveModule(model), request(name))
    check(name, state, model.state_dict(), again, baked=False)
    bake_module(model)
    check(name, state, model.state_dict(), again, baked=True)


def test_a_report_of_an_unknown_method_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(4)}, tmp_path / "w.pt")
    report = prune(tmp_path / "w.pt", tmp_path / "out.pt", ask(2, "w", method="first"), Run(1))
    monkeypatch.delitem(METHODS, First.name)
    with pytest.raises(UnsupportedError, match=r"the method first; this prunecli knows random_unstructured"):
        parse_report(render_json(report), "r")
