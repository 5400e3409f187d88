"""Whatever torch can save: renamed there and back, a file loads as the same objects, with the same sharing.

Weights-only loading is asked where it can answer: it has not the opcodes of protocols above 2.
"""

import struct
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from format_tools import geometry, raw_storage, rewrite
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecli.formats.base import Edit
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.graph import load

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 300), 1 << 300)
    | st.sampled_from(
        [0, 255, 256, 65535, 65536, (1 << 31) - 1, 1 << 31, -(1 << 31), -(1 << 31) - 1, (1 << 63) - 1, 1 << 63]
    )
    | st.floats()
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(min_size=1, max_size=5)  # torch refuses empty ones, which are a call of `bytes`
    | st.sampled_from([torch.float32, torch.bool, torch.Size([2, 3]), torch.Size([]), torch.device("cpu")])
)
KEYS = st.text(max_size=4) | st.integers(-9, 9)
VIEWS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda base: base,
    lambda base: base[:6].view(2, 3),
    lambda base: base[:6].view(2, 3).t(),
    lambda base: base[6:12],
    lambda base: base[::5],
    lambda base: base[3],
    lambda base: base[2:2],
    lambda base: base[:1].expand(4),
    lambda base: torch.nn.Parameter(base[12:], requires_grad=False),
    lambda base: torch.nn.Parameter(base),
]
CONTAINERS: list[Callable[[list[Any], list[Any]], Any]] = [
    lambda keys, values: dict(zip(keys, values, strict=False)),
    lambda keys, values: OrderedDict(zip(keys, values, strict=False)),
    lambda _, values: list(values),
    lambda _, values: tuple(values),
    lambda keys, _: {key for key in keys if isinstance(key, int)},
]


@st.composite
def tensors(draw: st.DrawFn) -> list[torch.Tensor]:
    """Views of a few storages, with some tensors in several places."""
    bases = [torch.arange(24).to(dtype) for dtype in (torch.float32, torch.bfloat16, torch.int64)]
    made: list[torch.Tensor] = []
    for _ in range(draw(st.integers(1, 5))):
        base = draw(st.sampled_from(bases))
        views = VIEWS if base.is_floating_point() else VIEWS[:-1]
        made.append(draw(st.sampled_from(views))(base))
    return [*made, *draw(st.lists(st.sampled_from(made), max_size=2))]


@st.composite
def checkpoints(draw: st.DrawFn) -> dict[str, Any]:
    """A state dict, and beside it a graph whose objects hold earlier ones, tensors of the state dict among them."""
    state = draw(tensors())
    pool: list[Any] = [*state, *draw(st.lists(ATOMS, max_size=6))]
    for _ in range(draw(st.integers(0, 6))):
        values = draw(st.lists(st.sampled_from(pool), max_size=4))
        keys = draw(st.lists(KEYS, min_size=len(values), max_size=len(values)))
        pool.append(draw(st.sampled_from(CONTAINERS))(keys, values))
    for holder in [each for each in pool if isinstance(each, list)]:
        if draw(st.booleans()):
            holder.append(draw(st.sampled_from(pool)))  # it may well hold the list
    made = {f"layer.{index}": tensor for index, tensor in enumerate(state)}
    return {"state_dict": draw(st.sampled_from([dict, OrderedDict]))(made), "extra": pool[len(state) :]}


def parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item] + list(
            vars(value).values() if hasattr(value, "__dict__") else ()
        )
    if isinstance(value, set):
        return sorted(value)
    return list(value) if isinstance(value, list | tuple) else []


def atom_key(value: Any) -> Any:
    return struct.pack(">d", value) if isinstance(value, float) else value


def assert_same(one: Any, other: Any) -> None:
    """Same types and values, and a one-to-one map between the objects of both, storages among them."""
    forth: dict[object, object] = {}
    back: dict[object, object] = {}
    todo = [(one, other)]
    while todo:
        a, b = todo.pop()
        assert type(a) is type(b)
        pairs: list[tuple[object, object]] = []
        if isinstance(a, torch.Tensor):
            assert geometry(a) == geometry(b)
            assert raw_storage(a) == raw_storage(b)
            assert a.requires_grad == b.requires_grad
            pairs = [(id(a), id(b)), (("storage", a.untyped_storage()._cdata), ("storage", b.untyped_storage()._cdata))]
        elif isinstance(a, dict | list | set) or (isinstance(a, tuple) and a and type(a) is tuple):
            pairs = [(id(a), id(b))]
        else:
            assert atom_key(a) == atom_key(b)
        if pairs and pairs[0][0] not in forth:
            todo += zip(parts(a), parts(b), strict=True)
        for mine, theirs in pairs:
            assert forth.setdefault(mine, theirs) == theirs
            assert back.setdefault(theirs, mine) == mine


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "legacy"])
@settings(derandomize=True, deadline=None, max_examples=20)
@given(value=checkpoints())
def test_renamed_there_and_back_torch_loads_the_same(as_zip: bool, protocol: int, value: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, there, back = (Path(folder, name) for name in ("source", "there", "back"))
        torch.save(value, source, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
        rewrite(source, there, Edit(renames={"layer.0": "layer.0_orig"}))
        rewrite(there, back, Edit(renames={"layer.0_orig": "layer.0"}))
        old, between, new = (torch.load(path, weights_only=protocol == 2) for path in (source, there, back))
    assert next(iter(between["state_dict"])) == "layer.0_orig"
    assert_same(old, new)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(value=checkpoints())
def test_what_torch_saved_is_a_fixed_point(value: dict[str, Any]) -> None:
    """What was written once is written the same way ever after."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        path = Path(folder, "model.pt")
        torch.save(value, path)
        pickled = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
    written = dump(load(pickled).root, 2)
    assert dump(load(written).root, 2) == written
