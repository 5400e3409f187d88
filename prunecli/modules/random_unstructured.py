"""Random unstructured pruning of a module's parameter: torch's protocol, prunecli's random stream.

It replaces `torch.nn.utils.prune.RandomUnstructured`. All of torch's features for pruned modules (`is_pruned`,
`remove`, `global_unstructured`, `PruningContainer`, pickling, the names in a state dict) work as before. Only the draw
differs: it is exact and uniform for every dtype that has a zero, and a seed, a key and the number of elements that are
still unpruned determine it. So the file rewriter and this class prune the same elements.

>>> layer = random_unstructured(nn.Linear(4, 2), "weight", 0.5, seed=7)
>>> layer.weight_mask.shape, int((layer.weight_mask == 0).sum())
(torch.Size([2, 4]), 4)
>>> remove(layer, "weight").state_dict().keys()
odict_keys(['bias', 'weight'])
"""

import sys
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from prunecli.core.amount import Amount, check_amount, to_count
from prunecli.core.random_stream import Subset, stream_key
from prunecli.core.seed import check_seed
from prunecli.errors import UsageError, show
from prunecli.modules.hooks import attach, find_hook
from prunecli.modules.masks import (
    all_ones,
    clear_chosen,
    has_values,
    kept_ones,
    mask_from_ones,
    masked,
    nonzero_flags,
    ones_like,
)

__all__ = ["RandomAmongNonzero", "RandomUnstructured", "random_unstructured", "remove"]

_Module = TypeVar("_Module", bound=nn.Module)

_SEEDS = 1 << 53
"""The bound of seeds drawn here: every JSON reader keeps smaller integers exactly."""


class _ShapeError(UsageError, AssertionError):
    """An error for two tensors with different shapes. Also an `AssertionError`, as torch raises."""


class RandomUnstructured(BasePruningMethod):
    """Prune a uniform choice of exactly `amount` of the elements of a tensor that are still unpruned.

    Args:
        amount: an int is a number of elements, a float a fraction of those still unpruned (rounded half to even).
        seed: determines the draw. If not given, it is drawn here from torch's global CPU generator, which
            `torch.manual_seed` controls; the attribute `seed` has the value.
        key: distinguishes tensors with the same seed. `apply` sets it to the parameter's name, so two layers with the
            same seed need two keys. The dotted name in the model (`"layer1.weight"`) is usual, and the command line
            uses it. The default is `""`.

    The same seed, key and number of unpruned elements choose the same elements in row-major order, whatever the dtype,
    strides or device. So a method is a fixed draw: two calls on the same input return the same result.

    Raises:
        TypeError: the amount is not a real number, or the seed is not an integer.
        UsageError: the amount or the seed is out of range. It is a `ValueError`.

    >>> RandomUnstructured(3, seed=7).prune(torch.ones(2, 4)).count_nonzero()
    tensor(5)
    """

    PRUNING_TYPE = "unstructured"

    _tensor_name: str = ""

    def __init__(self, amount: Amount, *, seed: int | None = None, key: str | None = None) -> None:
        self.amount = check_amount(amount)
        self.seed = _drawn_seed() if seed is None else check_seed(seed)
        self.key = "" if key is None else key

    @classmethod
    def apply(  # type: ignore[override]  # torch's takes *args, which its own subclasses narrow, too
        cls,
        module: nn.Module,
        name: str,
        amount: Amount,
        *,
        seed: int | None = None,
        key: str | None = None,
        importance_scores: Tensor | None = None,
    ) -> BasePruningMethod:
        """Prune the parameter `name` of `module` in place, and keep it pruned before every forward.

        The parameter, the same object, moves to `name + "_orig"`; the mask becomes the buffer `name + "_mask"`, with
        the parameter's shape and dtype; `name` is their product. If the parameter is already pruned, `amount` applies
        to the elements that are left, and the methods are joined in a `PruningContainer`.

        If anything fails, the module is unchanged.

        Args:
            module: the owner of the parameter itself, not the owner of a submodule with it.
            name: the name of the parameter, which has a dtype with a zero; a complex element is zero if both of its
                parts are.
            amount: see the class.
            seed: see the class.
            key: see the class; `name` if not given.
            importance_scores: scores of the parameter's shape; a random choice ignores their values.

        Returns:
            The registered hook: the method, or the container with it.

        Raises:
            TypeError: as the class, or as `compute_mask`.
            UsageError: as the class; the parameter does not exist or has no shape yet; the amount is more than the
                elements that are left; or the scores have another shape (also an `AssertionError`, as in torch).
        """
        method = cls(amount, seed=seed, key=name if key is None else key)
        method._tensor_name = name
        _, earlier = find_hook(module, name)
        parameter = _find_parameter(module, name if earlier is None else name + "_orig")
        scores = parameter if importance_scores is None else importance_scores
        _check_tensors(parameter)
        _check_shape("importance_scores", scores, parameter)
        before = ones_like(parameter) if earlier is None else module.get_buffer(name + "_mask")
        mask = method.compute_mask(scores, default_mask=before).to(parameter.dtype)
        return attach(module, method, mask)

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the parameter times its mask, with the parameter's shape, dtype and strides.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        parameter, mask = _original_and_mask(self, module)
        return parameter * mask.to(parameter.dtype)

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """Return a pruned copy of a tensor: `t` times the mask that `compute_mask` returns for it.

        Args:
            t: a tensor of any shape and any dtype that has a zero.
            default_mask: a mask of the same shape; its zeros are already pruned. All ones if not given.
            importance_scores: scores of the same shape; a random choice ignores their values.

        Raises:
            TypeError, UsageError: as `compute_mask`; or the scores have another shape.
        """
        scores = t if importance_scores is None else importance_scores
        _check_tensors(t)
        _check_shape("importance_scores", scores, t)
        mask = self.compute_mask(scores, default_mask=ones_like(t) if default_mask is None else default_mask)
        return t * mask.to(t.dtype)

    def remove(self, module: nn.Module) -> None:
        """Bake the mask into the parameter and move it back to its name; remove the mask and `name + "_orig"`.

        As in torch, the hook stays registered; the function `remove` also removes the hook.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        _original_and_mask(self, module)
        super().remove(module)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with `amount` of its nonzero elements, chosen at random, set to zero.

        Besides the result, this takes one byte of memory per element, and none if nothing was pruned before. On the
        meta device, and for a `FakeTensor`, nothing is drawn: the mask has a shape and a dtype, but no values either.

        Args:
            t: the tensor to prune, with a dtype that has a zero. Its values do not matter.
            default_mask: a mask with the shape of `t` and any dtype. Its zeros were pruned before.

        Returns:
            A new contiguous tensor with the shape, dtype and device of `default_mask`.

        Raises:
            TypeError: a dtype has no zero, or a tensor is sparse, quantised, nested or a `DTensor`.
            UsageError: the shapes differ, or the amount is more than the elements that are left.
        """
        _check_tensors(t, default_mask)
        _check_shape("default_mask", default_mask, t)
        before = default_mask.detach()
        if not (has_values(t) and has_values(before)):
            self._subset(before.numel())
            return kept_ones(before)
        if all_ones(before):
            return mask_from_ones(self._subset(before.numel()), before)
        keep = nonzero_flags(before)
        clear_chosen(self._subset(int(np.count_nonzero(keep.numpy()))), keep.view(-1).numpy())
        return masked(before, keep)

    def _subset(self, candidates: int) -> Subset:
        amount = to_count(self.amount, candidates, show(self.key or self._tensor_name or "the tensor"))
        return Subset(stream_key(self.seed, self.key, candidates), candidates, amount)


class RandomAmongNonzero(RandomUnstructured):
    """The same method, but elements that are already zero count as pruned: for another round on baked weights."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask`, set to zero where `t` is zero (or -0.0), and for `amount` of the elements left.

        Arguments, shapes, dtypes and errors are those of the base class; here the values of `t` matter.
        """
        _check_tensors(t, default_mask)
        _check_shape("default_mask", default_mask, t)
        if not (has_values(t) and has_values(default_mask)):
            return super().compute_mask(t, default_mask)
        return super().compute_mask(t, masked(default_mask.detach(), nonzero_flags(t.detach())))


def random_unstructured(
    module: _Module, name: str, amount: Amount, *, seed: int | None = None, key: str | None = None
) -> _Module:
    """Prune `amount` random, still unpruned elements of the parameter `name`; see `RandomUnstructured.apply`.

    Returns:
        The module, changed in place: `name + "_orig"`, `name + "_mask"` and a hook are added.

    Raises:
        TypeError, UsageError: as `RandomUnstructured.apply`; the module is then unchanged.
    """
    RandomUnstructured.apply(module, name, amount, seed=seed, key=key)
    return module


def remove(module: _Module, name: str) -> _Module:
    """Make the pruning of the parameter `name` permanent, for all pruning methods of torch.

    The parameter, the same object, gets its pruned values and its old name; mask, original and hook are removed.

    Returns:
        The module, changed in place.

    Raises:
        UsageError: the parameter is not pruned. It is a `ValueError`, as in torch.
    """
    handle, hook = find_hook(module, name)
    if hook is None:
        raise UsageError(f"{show(name)} of {type(module).__name__} has to be pruned before its pruning can be removed")
    hook.remove(module)
    del module._forward_pre_hooks[handle]
    return module


def _drawn_seed() -> int:
    drawn = torch.randint(_SEEDS, (), device="cpu")
    return int(drawn) if has_values(drawn) else 0  # in FakeTensorMode, no mask is drawn from it either


def _check_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise _ShapeError(f"{what} has the shape {tuple(tensor.shape)}, the tensor to prune {tuple(like.shape)}")


def _check_tensors(*tensors: Tensor) -> None:
    """Refuse tensors whose elements a mask cannot keep or drop one by one."""
    for tensor in tensors:
        kind = _special_kind(tensor)
        if kind is not None:
            raise TypeError(f"cannot prune {kind}: its elements cannot be zeroed one by one")
    for dtype in {tensor.dtype for tensor in tensors if not tensor.dtype.is_complex}:
        try:
            zero = torch.zeros((), dtype=dtype, device="cpu").to(torch.float32)
        except (NotImplementedError, RuntimeError):
            raise TypeError(f"cannot prune {dtype}: its elements are packed, several to a place") from None
        if has_values(zero) and zero != 0:
            raise TypeError(f"cannot prune {dtype}: it has no zero")


def _special_kind(tensor: Tensor) -> str | None:
    spread = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if spread is not None and isinstance(tensor, spread):
        return "a DTensor by itself (prunecli.prune_module can, with bake=True)"
    if tensor.layout is not torch.strided:
        return f"a tensor that is {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_quantized or tensor.is_nested:
        return f"a {'quantised' if tensor.is_quantized else 'nested'} tensor"
    return None


def _find_parameter(module: nn.Module, name: str) -> nn.Parameter:
    parameter = module._parameters.get(name)
    if parameter is None:
        there = ", ".join(show(own) for own, _ in module.named_parameters(recurse=False)) or "none"
        raise UsageError(f"{type(module).__name__} has no parameter {show(name)} of its own; it has: {there}")
    if nn.parameter.is_lazy(parameter):
        raise UsageError(
            f"{show(name)} of {type(module).__name__} has no shape yet; run the module once, then prune it"
        )
    return parameter


def _original_and_mask(method: BasePruningMethod, module: nn.Module) -> tuple[nn.Parameter, Tensor]:
    """Return what `apply` stored; raise if the method was not applied to this module or has been removed."""
    name = method._tensor_name
    parameter, mask = module._parameters.get(name + "_orig"), module._buffers.get(name + "_mask")
    if not name or parameter is None or mask is None:
        raise UsageError(f"{show(name) or 'a parameter'} of {type(module).__name__} has to be pruned first, by apply")
    return parameter, mask
