"""The class on parameters without values, without shape, without plain elements; and what a seed may be."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils import prune as torch_prune

from prunecli import prune_module
from prunecli.errors import UsageError
from prunecli.modules.pruning_method import remove
from prunecli.modules.random_unstructured import RandomUnstructured, random_unstructured


def test_on_the_meta_device_all_is_there_but_values() -> None:
    ours, theirs = (nn.Linear(3, 4, device="meta", dtype=torch.float16) for _ in range(2))
    random_unstructured(ours, "weight", 0.5)
    torch_prune.random_unstructured(theirs, "weight", 0.5)  # type: ignore[no-untyped-call]
    for one, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert (one.device, one.dtype, one.shape) == (other.device, other.dtype, other.shape)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["bias", "weight_orig", "weight_mask"]
    assert ours.get_buffer("weight_mask").stride() == (3, 1)
    assert ours(torch.empty(2, 3, device="meta", dtype=torch.float16)).shape == (2, 4)
    random_unstructured(ours, "weight", 3)  # torch fails at a second round
    random_unstructured(ours, "weight", 1)
    remove(ours, "weight")
    assert list(ours.state_dict()) == ["bias", "weight"]
    with pytest.raises(UsageError, match="cannot prune 13 elements of weight: 12 are left"):
        random_unstructured(ours, "weight", 13)


def test_a_fake_tensor_gets_a_fake_mask() -> None:
    with FakeTensorMode():
        layer = nn.Linear(3, 4)
        random_unstructured(layer, "weight", 0.5)
        random_unstructured(layer, "weight", 0.5)
        mask = layer.get_buffer("weight_mask")
        assert isinstance(mask, FakeTensor)
        assert (mask.shape, mask.dtype, mask.device.type) == ((4, 3), torch.float32, "cpu")
        assert layer(torch.ones(2, 3)).shape == (2, 4)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_lazy_parameter_says_what_to_do() -> None:
    layer = nn.LazyLinear(4)
    with pytest.raises(UsageError, match="weight of LazyLinear has no shape yet; run the module once"):
        random_unstructured(layer, "weight", 0.5)
    layer(torch.ones(2, 3))
    random_unstructured(layer, "weight", 0.5)
    assert int((layer.get_buffer("weight_mask") == 0).sum()) == 6


UINT4: torch.dtype = vars(torch)["uint4"]


def codes(dtype: torch.dtype) -> Tensor:
    return torch.zeros(4, 2, dtype=torch.uint8).view(dtype)


def ragged(layout: torch.layout = torch.strided) -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


SPECIAL: dict[str, tuple[Callable[[], Tensor], str]] = {
    "four bits": (lambda: codes(torch.float4_e2m1fn_x2), "float4_e2m1fn_x2: its elements are packed"),
    "integers of four bits": (lambda: codes(UINT4), "uint4: its elements are packed"),
    "exponents": (lambda: torch.ones(4, 2).to(torch.float8_e8m0fnu), "float8_e8m0fnu: it has no zero"),
    "by coordinates": (lambda: torch.eye(4, 2).to_sparse(), "a tensor that is sparse_coo"),
    "by rows": (lambda: torch.eye(4, 2).to_sparse_csr(), "a tensor that is sparse_csr"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(4, 2), 0.1, 0, torch.qint8), "a quantised tensor"),
    "nested": (ragged, "a nested tensor"),
    "ragged": (lambda: ragged(torch.jagged), "a tensor that is jagged"),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:.*quantize.*", "ignore:The PyTorch API of nested")
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_has_no_elements_to_zero_is_refused_in_one_line(kind: str) -> None:
    make, message = SPECIAL[kind]
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(make(), requires_grad=False))
    before = dict(vars(module)["_parameters"])
    with pytest.raises(TypeError, match=f"cannot prune (torch.)?{message}"):
        RandomUnstructured.apply(module, "weight", 1)
    with pytest.raises(TypeError, match=f"cannot prune (torch.)?{message}"):
        RandomUnstructured(1).prune(make())
    assert dict(vars(module)["_parameters"]) == before
    assert not module._forward_pre_hooks
    assert not module._buffers


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3)], ids=lambda seed: type(seed).__name__)
def test_a_seed_is_any_integer(seed: int) -> None:
    layer, other = nn.Linear(30, 40), nn.Linear(30, 40)
    random_unstructured(layer, "weight", 0.5, seed=seed, key="weight")
    report = prune_module(other, "weight", 0.5, seed=seed)
    assert torch.equal(layer.get_buffer("weight_mask"), other.get_buffer("weight_mask"))
    assert type(report.seed) is int
    assert RandomUnstructured(1, seed=seed).seed == 3


@pytest.mark.parametrize("seed", [True, np.True_, 1.0, "1", np.float32(1)], ids=repr)
def test_a_seed_that_is_not_an_integer_is_refused_alike(seed: int) -> None:
    layer = nn.Linear(3, 4)
    for act in (lambda: prune_module(layer, "*", 0.5, seed=seed), lambda: RandomUnstructured(1, seed=seed)):
        with pytest.raises(TypeError, match="a seed is an int, not"):
            act()
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_an_expanded_weight_is_said_to_be_one() -> None:
    module = nn.Module()
    module.register_parameter("weight", nn.Parameter(torch.ones(1, 6).expand(4, 6)))
    with pytest.raises(UsageError, match="weight cannot be pruned: it is expanded"):
        prune_module(module, "weight", 0.5)
    with pytest.raises(UsageError, match="matches 1 tensor, and takes none of them: 1 whose elements share memory"):
        prune_module(module, "w*", 0.5)


def test_a_fake_module_has_no_values_to_prune() -> None:
    with FakeTensorMode():
        layer = nn.Linear(3, 4)
    with pytest.raises(Exception, match="weight is on the meta device and has no values"):
        prune_module(layer, "*", 0.5)
