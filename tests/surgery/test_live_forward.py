"""What a pruned module computes: that which a dense one with the same zeros computes, now and after training."""

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from live_zoo import Wrapped, content, make
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from prunecli import bake_module, prune_module
from prunecli.modules.hooks import ProductRefresh


def images() -> tuple[Tensor, ...]:
    return (torch.randn(2, 3, 6, 6),)


def rows(width: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(7, width),)


def sequence(width: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(4, 3, width),)


def self_attention() -> tuple[Tensor, ...]:
    x = torch.randn(4, 3, 8)
    return (x, x, x)


INPUTS: dict[str, Callable[[], tuple[Tensor, ...]]] = {
    "mlp": rows(6),
    "conv": images,
    "lstm": sequence(5),
    "gru": sequence(5),
    "attention": self_attention,
    "encoder": sequence(8),
    "tied": lambda: (torch.randint(0, 11, (9,)),),
    "shared": rows(5),
    "wrapped": rows(6),
    "weight norm": rows(6),
}


def output(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    found = model(*inputs)
    result: Tensor = found[0] if isinstance(found, tuple) else found
    return result


def dense_state(model: nn.Module) -> dict[str, Tensor]:
    """Multiply the masks of a state dict in."""
    state = model.state_dict()
    masked = [name.removesuffix("_mask") for name in state if name.endswith("_mask")]
    products = {name: state[f"{name}_orig"] * state[f"{name}_mask"] for name in masked}
    gone = {f"{name}{ending}" for name in masked for ending in ("_mask", "_orig")}
    kept = {name: tensor for name, tensor in state.items() if name not in gone}
    return {name: tensor.clone() for name, tensor in (kept | products).items()}


def computes_as_dense(name: str, model: nn.Module) -> None:
    """Compare with a fresh model whose weights were multiplied by the masks, in both modes, with gradients and without.

    Not to the bit everywhere: torch takes other kernels where a module has no hooks.
    """
    twin = make(name, seed=3)
    twin.load_state_dict(dense_state(model), strict=True)
    torch.manual_seed(4)
    for training in (True, False):
        inputs = INPUTS[name]()
        for each in (model, twin):
            each.train(training)
        torch.testing.assert_close(output(model, inputs), output(twin, inputs))
        with torch.no_grad():
            torch.testing.assert_close(output(model, inputs), output(twin, inputs))


def train(name: str, model: nn.Module, steps: int = 3) -> None:
    torch.manual_seed(1)
    model.train()
    parameters = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.3, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        output(model, INPUTS[name]()).pow(2).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("name", INPUTS)
def test_it_computes_as_the_dense_one_before_and_after_training(name: str) -> None:
    model = make(name)
    prune_module(model, "*", 0.5, seed=7)
    computes_as_dense(name, model)
    masks = {key: buffer.clone() for key, buffer in model.named_buffers() if key.endswith("_mask")}
    before = dense_state(model)
    train(name, model)
    computes_as_dense(name, model)  # read in evaluation right after a step: nothing may be that of the step before
    after = dense_state(model)
    assert sum(not torch.equal(after[key.removesuffix("_mask")], before[key.removesuffix("_mask")]) for key in masks)
    bake_module(model)
    computes_as_dense(name, model)
    state = model.state_dict()
    for key, mask in masks.items():
        assert not state[key.removesuffix("_mask")][mask == 0].any()


@pytest.mark.parametrize("name", INPUTS)
def test_baked_at_once_it_computes_as_the_dense_one(name: str) -> None:
    masked, baked = make(name), make(name)
    prune_module(masked, "*", 0.5, seed=7)
    prune_module(baked, "*", 0.5, seed=7, remove=True)
    expected = dense_state(masked)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in baked.state_dict().items())
    computes_as_dense(name, baked)
    train(name, baked)
    computes_as_dense(name, baked)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["attention", "encoder"])
def test_attention_reads_a_fresh_out_proj(name: str, training: bool) -> None:
    """The hook on the reader is what does it: without, the output is that of the weights before."""
    model = make(name).train(training)
    prune_module(model, "*out_proj.weight", 0.5, seed=7)
    inputs = INPUTS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    stale = copy.deepcopy(model_without_readers(model))
    twin = make(name).train(training)
    twin.load_state_dict(dense_state(model))
    with torch.no_grad():
        torch.testing.assert_close(output(model, inputs), output(twin, inputs))
        assert not torch.allclose(output(stale, inputs), output(twin, inputs), rtol=1e-3)


def model_without_readers(model: nn.Module) -> nn.Module:
    """Copy a model as torch's own pruning would leave it: nothing refreshes what is read without a call."""
    with torch.no_grad():
        for module in model.modules():
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, BasePruningMethod):
                    setattr(module, hook._tensor_name, getattr(module, hook._tensor_name).detach())
    found = copy.deepcopy(model)
    for module in found.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, ProductRefresh):
                del module._forward_pre_hooks[key]
    return found


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_padded_batches_go_through_the_nested_path() -> None:
    model, padding = make("encoder").eval(), torch.tensor([[False] * 3, [False, False, True], [False, True, True]])
    prune_module(model, "*", 0.5, seed=7)
    twin = make("encoder").eval()
    twin.load_state_dict(dense_state(model))
    inputs = torch.randn(3, 3, 8)
    with torch.no_grad():
        found = model(inputs, src_key_padding_mask=padding)
        torch.testing.assert_close(found, twin(inputs, src_key_padding_mask=padding))


class Listed(nn.Module):
    """Parameters in lists and mappings: their owners are never called."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ParameterList([nn.Parameter(torch.randn(4, 4)) for _ in range(2)])
        self.deep = nn.ModuleList([nn.ParameterDict({"matrix": nn.Parameter(torch.randn(4, 4))})])

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `(n, 4)`."""
        deep: Any = self.deep[0]
        result: Tensor = x @ self.steps[0] @ self.steps[1] @ deep["matrix"]
        return result


def test_parameter_lists_are_refreshed_by_who_has_a_forward() -> None:
    model, twin, x = Listed(), Listed(), torch.randn(3, 4)
    outer = Wrapped(model)
    assert prune_module(outer, "*", 0.5, seed=7, min_dim=2).totals.pruned_now == 24
    assert not outer._forward_pre_hooks
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    twin.load_state_dict(dense_state(model))
    torch.testing.assert_close(model(x), twin(x))
    bake_module(model)
    torch.testing.assert_close(model(x), twin(x))
    assert not model._forward_pre_hooks


def test_hooks_that_read_the_product_find_it_fresh() -> None:
    model, twin = (nn.utils.spectral_norm(nn.Linear(6, 5)).eval() for _ in range(2))
    prune_module(model, "weight_orig", 0.5, seed=7)
    with torch.no_grad():
        model.get_parameter("weight_orig_orig")[0] *= 3
    twin.load_state_dict(dense_state(model))
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), twin(x))


def through_pickle(model: nn.Module) -> nn.Module:
    loaded: nn.Module = pickle.loads(pickle.dumps(model))
    return loaded


def through_torch_save(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded: nn.Module = torch.load(file, weights_only=False)
    return loaded


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": through_pickle,
    "torch.save": through_torch_save,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("name", ["mlp", "lstm", "attention", "encoder", "tied"])
def test_copies_compute_by_their_own_weights(name: str, way: str) -> None:
    model = make(name)
    with torch.no_grad():
        prune_module(model, "*", 0.5, seed=7)
        output(model, INPUTS[name]())
    other = COPIES[way](model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    computes_as_dense(name, other)
    computes_as_dense(name, model)
    bake_module(other)
    computes_as_dense(name, other)


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_layers_hold_what_they_compute_with(name: str, remove: bool) -> None:
    model: Any = make(name)
    prune_module(model, "weight_*", 0.5, seed=7, remove=remove)
    for step in (lambda: None, model.flatten_parameters, model.double, model.float):
        step()
        output(model, (torch.randn(4, 3, 5, dtype=next(model.parameters()).dtype),))
        held = dict(zip(model._flat_weights_names, model._flat_weights, strict=True))
        dense = dense_state(model)
        assert all(held[key] is getattr(model, key) for key in held)
        assert all(torch.equal(held[key], dense[key]) for key in held)
    computes_as_dense(name, model)
    if not remove:
        bake_module(model)
    assert [id(each) for each in model._flat_weights] == [
        id(model._parameters[key]) for key in model._flat_weights_names
    ]
    computes_as_dense(name, model)


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("no_grad", [False, True])
def test_parameters_stay_the_objects_that_an_optimizer_holds(remove: bool, no_grad: bool) -> None:
    model = make("mlp")
    model.get_parameter("3.weight").requires_grad_(False)
    output(model, INPUTS["mlp"]()).sum().backward()  # type: ignore[no-untyped-call]
    before = {name: (id(each), each.requires_grad, id(each.grad)) for name, each in model.named_parameters()}
    with torch.set_grad_enabled(not no_grad):
        prune_module(model, "*", 0.5, seed=7, remove=remove)
        if not remove:
            bake_module(model)
    assert {name: (id(each), each.requires_grad, id(each.grad)) for name, each in model.named_parameters()} == before


def test_a_backward_pass_that_needs_the_old_values_says_so() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    result = model(torch.randn(3, 4)).sum()
    prune_module(model, "*weight", 0.5, seed=7, remove=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("pruned", [True, False])
def test_inference_mode_changes_nothing(made: bool, pruned: bool) -> None:
    expected = make("mlp")
    prune_module(expected, "*weight", 0.5, seed=7, remove=True)
    with torch.inference_mode(made):
        model, masked = make("mlp"), make("mlp")
    with torch.inference_mode(pruned):
        prune_module(model, "*weight", 0.5, seed=7, remove=True)
        prune_module(masked, "*weight", 0.5, seed=7)
        bake_module(masked)
    for each in (model, masked):
        assert content(each.state_dict()) == content(expected.state_dict())


def test_gradients_reach_what_is_kept_and_nothing_else() -> None:
    model = make("attention")
    prune_module(model, "*weight", 0.5, seed=7)
    train("attention", model, steps=1)
    for name in ("in_proj_weight", "out_proj.weight"):
        gradient, mask = model.get_parameter(f"{name}_orig").grad, model.get_buffer(f"{name}_mask")
        assert gradient is not None
        assert not gradient[mask == 0].any()
        assert gradient[mask == 1].count_nonzero() > mask.count_nonzero() // 2
