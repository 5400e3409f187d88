"""Masks whose weights have no elements to zero: never dropped, never mistaken for weights, and others are baked beside.

Files as torch writes them from a pruned module whose parameter is sparse, quantised, nested, a subclass, or of a type
without a zero.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from surgery_zoo import apply, ask, noise, raw, save
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate
from torch.testing._internal.distributed.fake_pg import FakeStore

from prunecli import bake_module
from prunecli.errors import UnsupportedError, UsageError
from prunecli.formats.base import Layout, ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.compare.compare import compare
from prunecli.surgery.names.parameters import Parameter, parameters_of
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

FOREIGN = ReadOptions(foreign=True)


class Scaled(Tensor):
    """A tensor with a class of its own, as many libraries make them."""


def distributed() -> Tensor:
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        return DTensor.from_local(torch.ones(4, 6), mesh, [Replicate()])
    finally:
        torch.distributed.destroy_process_group()


def quantised() -> Tensor:
    return torch.quantize_per_tensor(torch.ones(4, 6), 0.1, 3, torch.qint8)


ORIGINALS: dict[str, tuple[Callable[[], Tensor], str]] = {
    "by coordinates": (lambda: torch.eye(4, 6).to_sparse(), "it is sparse"),
    "by rows": (lambda: torch.eye(4, 6).to_sparse_csr(), "it is sparse"),
    "by columns": (lambda: torch.eye(4, 6).to_sparse_csc(), "it is sparse"),
    "quantised": (quantised, "it is quantised"),
    "exponents": (lambda: torch.ones(4, 6).to(torch.float8_e8m0fnu), "it is float8_e8m0fnu"),
    "four bits": (lambda: noise((4, 6), torch.uint8).view(torch.float4_e2m1fn_x2), "it is float4_e2m1fn_x2"),
    "sharded": (distributed, "it is the tensor subclass DTensor"),
    "of a class": (lambda: torch.ones(4, 6).as_subclass(Scaled), "it is the tensor subclass Scaled"),
    "expanded": (lambda: torch.ones(1, 6).expand(4, 6), "it is expanded"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "it is (a )?nested"),
    "ragged": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "it is (a nested|the tensor subclass NestedTensor)",
    ),
}


def written(tmp_path: Path, original: Tensor, mask: Tensor | None = None) -> Path:
    keep = noise((4, 6), torch.bool) if mask is None else mask
    state = {
        "odd.weight_orig": nn.Parameter(original, requires_grad=False),
        "odd.weight_mask": keep,
        "fc.weight_orig": noise((3, 5)),
        "fc.weight_mask": noise((3, 5), torch.bool, 2),
        "fc.bias": noise((3,)),
    }
    return save(state, tmp_path / "in.pt")


def baked(source: Path, target: Path, *patterns: str) -> Report:
    with open_any(source, FOREIGN) as opened:
        selection = Selection(patterns) if patterns else None
        return rewrite(opened, plan_bake(opened, selection), Destination(target))


def stored(layout: Layout, name: str) -> bytes:
    storage = layout.tensors[name].storage
    data = bytearray(storage.nbytes)
    layout.source.read_into(storage.offset, memoryview(data))
    return bytes(data)


def parameters(source: Path) -> dict[str, Parameter]:
    with open_any(source, FOREIGN) as opened:
        return parameters_of(opened)


made_by_torch = pytest.mark.filterwarnings(
    "ignore:Sparse CSR:UserWarning",
    "ignore:.*quantize.*",
    "ignore:Sparse CSC:UserWarning",
    "ignore:The PyTorch API of nested",
)
"""What torch says of the special tensors that the tests make."""


@made_by_torch
@pytest.mark.parametrize("kind", ORIGINALS)
def test_a_mask_that_cannot_be_baked_is_never_dropped(kind: str, tmp_path: Path) -> None:
    make, what = ORIGINALS[kind]
    source, out = written(tmp_path, make()), tmp_path / "out.pt"
    found = parameters(source)
    assert list(found) == ["odd.weight", "fc.weight", "fc.bias"]
    assert found["odd.weight"].mask is not None
    for patterns in ((), ("odd.weight", "fc.weight")):
        error = UsageError if patterns else UnsupportedError
        with pytest.raises(error, match=f"odd.weight cannot be (baked|pruned): {what}"):
            baked(source, out, *patterns)
        assert not out.exists()


@made_by_torch
@pytest.mark.parametrize("kind", ORIGINALS)
def test_what_is_selected_beside_it_is_baked(kind: str, tmp_path: Path) -> None:
    make, _ = ORIGINALS[kind]
    source, out = written(tmp_path, make()), tmp_path / "out.pt"
    for patterns in (("fc.weight",), ("*",)):
        report = baked(source, out, *patterns)
        assert [each.name for each in report.parameters if each.state == "baked"] == ["fc.weight"]
        with open_any(source, FOREIGN) as before, open_any(out, FOREIGN) as after:
            assert list(after.tensors) == ["odd.weight_orig", "odd.weight_mask", "fc.weight", "fc.bias"]
            for name in ("odd.weight_mask", "fc.bias"):
                assert stored(before, name) == stored(after, name)
        out.unlink()


def test_a_sparse_mask_leaves_the_file_readable(tmp_path: Path) -> None:
    source, out = written(tmp_path, torch.ones(4, 6), torch.eye(4, 6).to_sparse()), tmp_path / "out.pt"
    with pytest.raises(UnsupportedError, match=r"odd\.weight cannot be baked: its mask .* \(it is sparse"):
        baked(source, out)
    with open_any(source) as opened:
        report = measure(opened, None)
        assert {each.name: each.zeros for each in report.parameters} == {
            "odd.weight": None,
            "fc.weight": int((~noise((3, 5), torch.bool, 2)).sum()),
            "fc.bias": 0,
        }
    with open_any(source) as before, open_any(source) as after:
        assert {row.name: row.state for row in compare(before, after).rows}["odd.weight"] == "incomparable"
    with pytest.raises(UsageError, match=r"odd\.weight cannot be pruned: its mask is not one of single elements"):
        apply(source, out, ask(0.5, "odd.weight"))


def test_the_amount_that_coremltools_keeps_goes_with_its_mask(tmp_path: Path) -> None:
    weight, keep = noise((3, 5)), noise((3, 5), torch.bool, 2)
    state = {
        "fc.weight_orig": weight,
        "fc.weight_mask": keep.float(),
        "fc.weight_amount": torch.tensor(0.5),
        "fc.bias_amount": torch.tensor(0.25),
        "other.weight_amount": torch.tensor(1.0),
    }
    baked(save(state, tmp_path / "in.pt"), tmp_path / "out.pt")
    result = torch.load(tmp_path / "out.pt")
    assert list(result) == ["fc.weight", "fc.bias_amount", "other.weight_amount"]
    assert raw(result["fc.weight"]) == raw(torch.where(keep, weight, torch.zeros(())))


def test_sparse_tensors_are_not_compared_by_bytes_that_are_not_theirs(tmp_path: Path) -> None:
    one, other = ({"w": torch.ones(2), "s": value * torch.eye(4, 6).to_sparse()} for value in (1.0, 2.0))
    before, after = save(one, tmp_path / "a.pt"), save(other, tmp_path / "b.pt")
    with open_any(before) as old, open_any(after) as new:
        found = {row.name: (row.state, row.changed) for row in compare(old, new).rows}
    assert found["s"] == ("incomparable", 0)
    assert found["s.1.1"] == ("compared", 4)  # the values, which lie in a storage of their own


@made_by_torch
@pytest.mark.parametrize("kind", [kind for kind in ORIGINALS if kind not in ("sharded", "of a class")])
def test_a_live_module_keeps_such_a_mask_and_every_other_tensor(kind: str) -> None:
    make, _ = ORIGINALS[kind]
    model = nn.Module()
    model.register_parameter("first", nn.Parameter(noise((40,))))
    model.register_parameter("odd_orig", nn.Parameter(make(), requires_grad=False))
    model.register_buffer("odd_mask", torch.zeros(4, 6))
    model.register_parameter("other_orig", nn.Parameter(noise((5,), seed=2)))
    model.register_buffer("other_mask", torch.tensor([1.0, 0, 1, 0, 1]))
    before = raw(model.get_parameter("first"))
    with pytest.raises(UnsupportedError, match="the mask of odd cannot be baked: it is"):
        bake_module(model)
    assert list(model.state_dict()) == ["first", "odd_orig", "other_orig", "odd_mask", "other_mask"]
    bake_module(model, "other")
    assert list(model.state_dict()) == ["first", "odd_orig", "other", "odd_mask"]
    kept = noise((5,), seed=2) * torch.tensor([1.0, 0, 1, 0, 1])
    assert torch.equal(model.get_parameter("other"), kept)
    assert raw(model.get_parameter("first")) == before
    assert bool((model.get_buffer("odd_mask") == 0).all())
