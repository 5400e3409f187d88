"""Objects of classes that weights-only loading refuses: carried through, and looked into by readable names.

The classes are here, so that what comes out can be unpickled and compared with what went in.
"""

import argparse
import datetime
import pathlib
from collections import UserDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_tools import Filled, added, refused, rewrite
from torch import Tensor, nn

from prunecli.errors import UnsafeError, UnsupportedError
from prunecli.formats.base import Edit, Patch, ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.dtypes import DTYPES

FOREIGN = ReadOptions(foreign=True)
Pair = namedtuple("Pair", "left right")


def state() -> dict[str, Tensor]:
    return {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.arange(3.0)}


@dataclass
class Trainer:
    """A plain object: its attributes come as a dict."""

    model_state: dict[str, Tensor] = field(default_factory=state)
    step: int = 7
    optimizer: dict[str, Any] = field(default_factory=lambda: {"state": {0: {"m": torch.ones(3, 4)}}})


class Slotted:
    """Its attributes come as a pair: no dict, and the slots."""

    __slots__ = ("note", "weights")

    def __init__(self) -> None:
        self.weights, self.note = state(), "kept"


class Listed:
    """Its state is a tuple of its own making."""

    def __init__(self, tensors: tuple[Tensor, ...] = ()) -> None:
        self.tensors = tensors

    def __getstate__(self) -> tuple[Tensor, ...]:
        return self.tensors

    def __setstate__(self, state: tuple[Tensor, ...]) -> None:
        self.tensors = state


class Made:
    """It is rebuilt by a call, with tensors among the arguments."""

    def __init__(self, first: Tensor, second: Tensor) -> None:
        self.first, self.second = first, second

    def __reduce__(self) -> Any:
        return Made, (self.first, self.second)


class Registry(dict[str, Tensor]):
    """A dict with attributes."""


def registry() -> Registry:
    made = Registry(state())
    made.extra = torch.ones(2)  # type: ignore[attr-defined]
    return made


def _cyclic() -> Any:
    parent: dict[str, Any] = {"state_dict": state(), "config": argparse.Namespace(lr=0.1)}
    parent["config"].parent = parent
    return parent


@dataclass(frozen=True)
class Case:
    """What is saved; where the state dict is found; the names in it; and how many tensors lie elsewhere."""

    make: Callable[[], Any]
    names: tuple[str, ...] = ("fc.weight", "fc.bias")
    wrapper: str = ""
    carried: int = 0


CASES = {
    "options beside it": Case(
        lambda: {"state_dict": state(), "args": argparse.Namespace(lr=0.1)}, wrapper="state_dict"
    ),
    "an object at the top": Case(Trainer, wrapper="model_state", carried=1),
    "an object under a key": Case(lambda: {"trainer": Trainer(), "n": 1}, wrapper="trainer.model_state", carried=1),
    "slots": Case(Slotted, wrapper="weights"),
    "a state of its own": Case(lambda: {"x": Listed(tuple(state().values()))}, ("0", "1"), "x"),
    "arguments of a call": Case(lambda: Made(*state().values()), ("0", "1")),
    "a subclass of dict": Case(registry, ("fc.weight", "fc.bias", "extra")),
    "a user's dict": Case(lambda: UserDict(state()), wrapper="data"),
    "a named tuple": Case(lambda: {"model": Pair(*state().values()), "s": Path("x")}, ("0", "1"), "model"),
    "dicts with defaults": Case(lambda: defaultdict(Trainer, model=defaultdict(Trainer, state())), wrapper="model"),  # type: ignore[arg-type]
    "a cycle": Case(_cyclic, wrapper="state_dict"),
    "scalars of numpy": Case(lambda: {"best": np.float64(1.5), "model": state()}, wrapper="model"),
    "dates and paths": Case(
        lambda: {"when": datetime.datetime(2026, 1, 2), "at": pathlib.PurePosixPath("a/b"), "net": state()},
        wrapper="net",
    ),
    "a hook in a list": Case(lambda: [state(), argparse.Namespace(a=1)], ("0.fc.weight", "0.fc.bias")),
}
every_case = pytest.mark.parametrize("name", CASES)
every_container = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(name: str, path: Path, *, zipped: bool) -> Path:
    torch.save(CASES[name].make(), path, _use_new_zipfile_serialization=zipped)
    return path


def plain(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Take an object apart into comparable values, tensors among them; cycles are cut."""
    if id(value) in seen:
        return "again"
    below = (*seen, id(value))
    if isinstance(value, Tensor):
        return (value.dtype, value.shape, value.tolist())
    if isinstance(value, dict | UserDict):
        own = [(key, plain(each, below)) for key, each in value.items()]
        return (type(value), own, plain(getattr(value, "__dict__", {}), below) if type(value) is not dict else None)
    if isinstance(value, list | tuple):
        return (type(value), [plain(each, below) for each in value])
    if isinstance(value, Slotted):
        return (Slotted, plain(value.weights), value.note)
    if type(value).__module__ == __name__ or isinstance(value, argparse.Namespace):
        return (type(value), plain(vars(value), below))
    return value


def load(path: Path) -> Any:
    return torch.load(path, weights_only=False)


@every_container
@every_case
def test_what_is_in_them_has_readable_names(tmp_path: Path, name: str, zipped: bool) -> None:
    case = CASES[name]
    with open_checkpoint(saved(name, tmp_path / "m.pt", zipped=zipped), FOREIGN) as checkpoint:
        assert checkpoint.wrapper == case.wrapper
        assert tuple(checkpoint.tensors) == case.names
        assert len(checkpoint.carried) == case.carried


@every_container
@every_case
def test_by_default_they_are_refused_and_named(tmp_path: Path, name: str, zipped: bool) -> None:
    path = saved(name, tmp_path / "m.pt", zipped=zipped)
    refused(path, UnsafeError, r"weights-only loading refuses \([\w.]+.*\); --allow-foreign-objects")


@every_container
@every_case
def test_bytes_change_in_place_and_nowhere_else(tmp_path: Path, name: str, zipped: bool) -> None:
    path, out = saved(name, tmp_path / "m.pt", zipped=zipped), tmp_path / "out.pt"
    assert rewrite(path, out, Edit(), foreign=True) == path.read_bytes()
    with open_checkpoint(path, FOREIGN) as checkpoint:
        first = checkpoint.tensors[CASES[name].names[0]]
    changed = rewrite(path, out, Edit({first.storage.key: [Patch(0, 4, Filled(0))]}), foreign=True)
    assert len(changed) == path.stat().st_size
    assert plain(load(out)) == plain(load(path))  # the first element was zero already


@every_container
@every_case
def test_masks_leave_the_rest_node_for_node(tmp_path: Path, name: str, zipped: bool) -> None:
    """Renamed, with a mask, and back again without: the object that comes out is the one that went in."""
    path, out, back = saved(name, tmp_path / "m.pt", zipped=zipped), tmp_path / "out.pt", tmp_path / "back.pt"
    first = CASES[name].names[0]
    mask = added(first, f"{first}_mask", DTYPES["bool"], (3, 4), Filled(1))
    edit = Edit(renames={first: f"{first}_orig"}, additions=[mask])
    if first.isdigit():
        with pytest.raises(UnsupportedError, match=r"lies in a list or under a number.*--bake"):
            rewrite(path, out, edit, foreign=True)
        return
    rewrite(path, out, edit, foreign=True)
    with open_checkpoint(out, FOREIGN) as checkpoint:
        names = list(checkpoint.tensors)
    assert names[:2] == [f"{first}_orig", f"{first}_mask"]
    assert names[2:] == list(CASES[name].names[1:])
    rewrite(out, back, Edit(renames={names[0]: first}, removals=frozenset(names[1:2])), foreign=True)
    assert plain(load(back)) == plain(load(path))


def test_a_key_leads_through_attributes_and_arguments(tmp_path: Path) -> None:
    torch.save({"jobs": [Trainer(), Trainer(step=8)]}, tmp_path / "m.pt")
    for key in ("jobs.0.model_state", "jobs.1.model_state.fc"):
        reading = ReadOptions(key.removesuffix(".fc"), foreign=True)
        with open_checkpoint(tmp_path / "m.pt", reading) as checkpoint:
            assert list(checkpoint.tensors) == ["fc.weight", "fc.bias"]
            assert {info.name.partition("model_state.")[0] for info in checkpoint.carried} == {
                "jobs.0.optimizer.state.0.m",
                "jobs.1.optimizer.state.0.m",
                f"jobs.{1 - int(key[5])}.",
            }


def _strange() -> dict[str, Any]:
    eye = torch.eye(3)
    return {
        "dense": torch.ones(2, 2),
        "coo": eye.to_sparse(),
        "csr": eye.to_sparse_csr(),
        "quantised": torch.quantize_per_tensor(eye, 0.1, 0, torch.qint8),
        "meta": torch.empty(4, 2, device="meta"),
        "tagged": _tagged(torch.ones(3)),
        "wrapped": nn.Parameter(eye.to_sparse()),
    }


class _Tagged(Tensor):
    """A tensor subclass."""


def _tagged(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(_Tagged)


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support",
    "ignore:TypedStorage is deprecated",
    "ignore:.*quantize",
    "ignore:.*reduce_range",
)
def test_tensors_of_other_kinds_are_shown_and_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "m.pt", tmp_path / "out.pt"
    torch.save(_strange(), path)
    with open_checkpoint(path, FOREIGN) as checkpoint:
        shown = {name: (info.dtype.name, info.shape) for name, info in checkpoint.tensors.items()}
        assert not any(info.dtype.prunable for name, info in checkpoint.tensors.items() if name != "dense")
    assert shown == {
        "dense": ("float32", (2, 2)),
        "coo": ("sparse", (3, 3)),
        "csr": ("sparse", (3, 3)),
        "quantised": ("quantised", (3, 3)),
        "meta": ("meta", (4, 2)),
        "tagged": ("the tensor subclass _Tagged", (3,)),
        "wrapped": ("sparse", (3, 3)),
    }
    mask = added("dense", "dense_mask", DTYPES["bool"], (2, 2), Filled(1))
    rewrite(path, out, Edit(renames={"dense": "dense_orig"}, additions=[mask]), foreign=True)
    new, old = load(out), load(path)
    assert list(new) == ["dense_orig", "dense_mask", *list(old)[1:]]
    for name in ("coo", "csr", "wrapped"):
        assert torch.equal(new[name].to_dense(), torch.eye(3))
    assert torch.equal(new["quantised"].int_repr(), old["quantised"].int_repr())
    assert type(new["tagged"]) is _Tagged
