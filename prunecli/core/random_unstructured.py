"""Random unstructured pruning of a module's parameter: torch's protocol, prunecli's random stream.

A drop-in for `torch.nn.utils.prune.RandomUnstructured`: what torch offers for pruned modules (`is_pruned`, `remove`,
`global_unstructured`, `PruningContainer`, pickling, the names in a state dict) works on as before. What differs is
the draw. It is exact and uniform for every dtype that has a zero, and fixed by a seed, a key and the number of elements
that are still unpruned; so the file rewriter and this class prune the same elements.

>>> layer = random_unstructured(nn.Linear(4, 2), "weight", 0.5, seed=7)
>>> layer.weight_mask.shape, int((layer.weight_mask == 0).sum())
(torch.Size([2, 4]), 4)
>>> remove(layer, "weight").state_dict().keys()
odict_keys(['bias', 'weight'])
"""

import operator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod, PruningContainer

from prunecli.core.amount import Amount, check_amount, to_count
from prunecli.core.hooks import find_hook, untouched_on_failure
from prunecli.core.sampling import Subset, stream_key
from prunecli.core.tensor_masks import all_ones, mask_from_ones, masked, nonzero_flags, ones_like, strike
from prunecli.errors import UsageError, show

__all__ = ["RandomAmongNonzero", "RandomUnstructured", "random_unstructured", "remove"]

_Module = TypeVar("_Module", bound=nn.Module)

_SEEDS = 1 << 53
"""Seeds drawn here lie below: any JSON reader keeps such an integer exactly."""


class _ShapeError(UsageError, AssertionError):
    """Two tensors differ in shape. Also an `AssertionError`, as torch raises."""


class RandomUnstructured(BasePruningMethod):
    """Prune a uniform choice of exactly `amount` of the elements of a tensor that are still unpruned.

    Args:
        amount: an int is a number of elements, a float a fraction of those still unpruned (rounded half to even).
        seed: fixes the draw. Without one, it is drawn here from torch's global CPU generator, so that
            `torch.manual_seed` rules; the attribute `seed` has it.
        key: tells apart tensors that share a seed. `apply` sets it to the parameter's name, so two layers with the
            same seed need two keys: the dotted name in the model (`"layer1.weight"`) is the usual one, and the one
            that the command line goes by. Otherwise `""`.

    Equal seed, key and number of unpruned elements choose the same elements in row-major order, whatever the dtype,
    strides or device. A method is therefore a fixed draw: calling it twice on one input gives one result.

    Raises:
        TypeError: the amount is not a real number, or the seed not an int.
        UsageError: the amount or the seed is out of range. It is a `ValueError`.

    >>> RandomUnstructured(3, seed=7).prune(torch.ones(2, 4)).count_nonzero()
    tensor(5)
    """

    PRUNING_TYPE = "unstructured"

    _tensor_name: str = ""

    def __init__(self, amount: Amount, *, seed: int | None = None, key: str | None = None) -> None:
        self.amount = check_amount(amount)
        self.seed = int(torch.randint(_SEEDS, (), device="cpu")) if seed is None else _check_seed(seed)
        self.key = "" if key is None else key

    @classmethod
    def apply(  # type: ignore[override]  # torch's takes *args for its subclasses to narrow, as they do
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

        The parameter, the same object, moves to `name + "_orig"`; the mask becomes the buffer `name + "_mask"`, of
        the parameter's shape and dtype; `name` is their product. On a parameter that is pruned already, `amount`
        counts among what is left, and the methods are joined in a `PruningContainer`.

        Whatever fails, the module stays as it was.

        Args:
            module: owns the parameter itself, not through a submodule.
            name: of the parameter, of any dtype that has a zero; a complex element is zero if both of its parts are.
            amount: see the class.
            seed: see the class.
            key: see the class; `name` if not given.
            importance_scores: of the parameter's shape; a random choice does not look at them.

        Returns:
            The hook that is now registered: the method, or the container that holds it.

        Raises:
            TypeError: as the class, or the dtype has no zero.
            UsageError: as the class; no such parameter; more elements asked for than are left; or scores of another
                shape (an `AssertionError` too, as in torch).
        """
        method = cls(amount, seed=seed, key=name if key is None else key)
        method._tensor_name = name
        handle, earlier = find_hook(module, name)
        parameter = _find_parameter(module, name if earlier is None else name + "_orig")
        scores = parameter if importance_scores is None else importance_scores
        _check_shape("importance_scores", scores, parameter)
        before = ones_like(parameter) if earlier is None else module.get_buffer(name + "_mask")
        mask = method.compute_mask(scores, default_mask=before).to(parameter.dtype)
        pruned = parameter * mask
        with untouched_on_failure(module):
            if earlier is None:
                module.register_parameter(name + "_orig", parameter)
                del module._parameters[name]
            else:
                del module._forward_pre_hooks[handle]
            module.register_buffer(name + "_mask", mask)
            setattr(module, name, pruned)
            return _register(module, method, earlier)

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the parameter times its mask: shape, dtype and strides are the parameter's.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        parameter, mask = _original_and_mask(self, module)
        return parameter * mask.to(parameter.dtype)

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """Return a pruned copy of a bare tensor: `t` times the mask that `compute_mask` gives for it.

        Args:
            t: any shape, any dtype that has a zero.
            default_mask: of the same shape; what is zero in it is pruned already. All ones if not given.
            importance_scores: of the same shape; a random choice does not look at them.

        Raises:
            TypeError, UsageError: as `compute_mask`; or the scores have another shape.
        """
        scores = t if importance_scores is None else importance_scores
        _check_shape("importance_scores", scores, t)
        mask = self.compute_mask(scores, default_mask=ones_like(t) if default_mask is None else default_mask)
        return t * mask.to(t.dtype)

    def remove(self, module: nn.Module) -> None:
        """Bake the mask into the parameter and put it back under its name; mask and `name + "_orig"` are gone.

        As in torch, the hook stays registered: the function `remove` takes both away.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        _original_and_mask(self, module)
        super().remove(module)

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with `amount` of its nonzero elements, chosen at random, set to zero.

        Beyond the result it takes one byte of memory an element, and none if nothing was pruned before.

        Args:
            t: the tensor to prune, of a dtype that has a zero. Its values do not matter.
            default_mask: of the shape of `t`, any dtype. What is zero was pruned before.

        Returns:
            A new contiguous tensor of the shape, dtype and device of `default_mask`.

        Raises:
            TypeError: a dtype has no zero.
            UsageError: the shapes differ, or more elements are asked for than are left.
        """
        _check_shape("default_mask", default_mask, t)
        _check_dtypes(t, default_mask)
        before = default_mask.detach()
        if all_ones(before):
            return mask_from_ones(self._subset(before.numel()), before)
        keep = nonzero_flags(before)
        strike(self._subset(int(np.count_nonzero(keep.numpy()))), keep.view(-1).numpy())
        return masked(before, keep)

    def _subset(self, candidates: int) -> Subset:
        amount = to_count(self.amount, candidates, show(self.key or self._tensor_name or "the tensor"))
        return Subset(stream_key(self.seed, self.key, candidates), candidates, amount)


class RandomAmongNonzero(RandomUnstructured):
    """The same where what is zero already counts as pruned: for a further round on weights that were baked."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` without the zeros of `t` (-0.0 is one), and `amount` of what is left set to zero.

        Args, shapes, dtypes and errors are those of the base class; here the values of `t` matter.
        """
        _check_shape("default_mask", default_mask, t)
        return super().compute_mask(t, masked(default_mask.detach(), nonzero_flags(t.detach())))


def random_unstructured(
    module: _Module, name: str, amount: Amount, *, seed: int | None = None, key: str | None = None
) -> _Module:
    """Prune `amount` random, still unpruned elements of the parameter `name`; see `RandomUnstructured.apply`.

    Returns:
        The module, which is changed in place: `name + "_orig"`, `name + "_mask"` and a hook are added.

    Raises:
        TypeError, UsageError: as `RandomUnstructured.apply`; the module is then as before.
    """
    RandomUnstructured.apply(module, name, amount, seed=seed, key=key)
    return module


def remove(module: _Module, name: str) -> _Module:
    """Make the pruning of the parameter `name` permanent, whichever of torch's methods it came from.

    The parameter, the same object, holds its pruned values under its old name; mask, original and hook are gone.

    Returns:
        The module, which is changed in place.

    Raises:
        UsageError: the parameter is not pruned. It is a `ValueError`, as in torch.
    """
    handle, hook = find_hook(module, name)
    if hook is None:
        raise UsageError(f"{show(name)} of {type(module).__name__} has to be pruned before its pruning can be removed")
    hook.remove(module)
    del module._forward_pre_hooks[handle]
    return module


def _check_seed(seed: object) -> int:
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"a seed is an int from 0 on, not {type(seed).__name__} {seed!r}")
    value = operator.index(seed)
    if value < 0:
        raise UsageError(f"a seed is an int from 0 on, not {value}")
    return value


def _check_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.shape != like.shape:
        raise _ShapeError(f"{what} has the shape {tuple(tensor.shape)}, the tensor to prune {tuple(like.shape)}")


def _check_dtypes(*tensors: Tensor) -> None:
    for dtype in {tensor.dtype for tensor in tensors}:
        if not dtype.is_complex and torch.zeros((), dtype=dtype, device="cpu").to(torch.float32) != 0:
            raise TypeError(f"cannot prune {dtype}: it has no zero")


def _find_parameter(module: nn.Module, name: str) -> nn.Parameter:
    parameter = module._parameters.get(name)
    if parameter is None:
        there = ", ".join(show(own) for own, _ in module.named_parameters(recurse=False)) or "none"
        raise UsageError(f"{type(module).__name__} has no parameter {show(name)} of its own; it has: {there}")
    return parameter


def _original_and_mask(method: BasePruningMethod, module: nn.Module) -> tuple[nn.Parameter, Tensor]:
    """Return what `apply` stored; raise if the method was not applied to this module, or is no longer."""
    name = method._tensor_name
    parameter, mask = module._parameters.get(name + "_orig"), module._buffers.get(name + "_mask")
    if not name or parameter is None or mask is None:
        raise UsageError(f"{show(name) or 'a parameter'} of {type(module).__name__} has to be pruned first, by apply")
    return parameter, mask


def _register(module: nn.Module, method: BasePruningMethod, earlier: BasePruningMethod | None) -> BasePruningMethod:
    """Hook a method to its module: itself, or in the container of those before it."""
    if earlier is None:
        module.register_forward_pre_hook(method)
        return method
    container = earlier if isinstance(earlier, PruningContainer) else PruningContainer(earlier)
    module.register_forward_pre_hook(container)
    untyped: Any = container
    untyped.add_pruning_method(method)
    return container
