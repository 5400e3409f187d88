"""What prunecli's pruning methods for modules have in common: torch's protocol, with every argument checked first.

All of torch's features for pruned modules (`is_pruned`, `remove`, `PruningContainer`, pickling, the names in a state
dict) work with them, and with torch's own methods on the same parameter.
"""

import sys
from abc import abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from prunecli.core.amount import Amount, check_amount
from prunecli.core.methods.base import Method
from prunecli.core.seed import check_seed
from prunecli.errors import UsageError, messages_for, show
from prunecli.modules.hooks import attach, find_hook
from prunecli.modules.masks import has_values, ones_like, product
from prunecli.terms import Interface

__all__ = ["PruningMethod", "SeededMethod", "check_shape", "check_tensors", "is_pruned", "remove", "unpruned_parameter"]

_SEEDS = 1 << 53
"""The bound of seeds drawn here: every JSON reader keeps smaller integers exactly."""


_Module = TypeVar("_Module", bound=nn.Module)


class _ShapeError(UsageError, AssertionError):
    """An error for two tensors with different shapes. Also an `AssertionError`, as torch raises."""


class PruningMethod(BasePruningMethod):
    """A pruning method in torch's protocol; what differs between methods is `compute_mask`."""

    PRUNING_TYPE = "unstructured"

    _tensor_name: str = ""

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with further elements set to zero, with its shape, dtype and device."""

    def values(self, parameter: Tensor, before: Tensor | None) -> Tensor:
        """Return what is compared without importance scores; `before` is the mask so far, None without one."""
        return parameter

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the parameter times its mask, with the parameter's shape, dtype and strides.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        parameter, mask = _original_and_mask(self, module)
        return product(parameter, mask)

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """Return a pruned copy of a tensor: `t` times the mask that `compute_mask` returns for it.

        Args:
            t: a tensor of any shape and any dtype that has a zero.
            default_mask: a mask of the same shape; its zeros are already pruned. All ones if not given.
            importance_scores: scores of the same shape, for methods that compare values.

        Raises:
            TypeError, UsageError: as `compute_mask`; or the scores have another shape.
        """
        scores = t if importance_scores is None else importance_scores
        check_tensors(t)
        check_shape("importance_scores", scores, t)
        mask = self.compute_mask(scores, default_mask=ones_like(t) if default_mask is None else default_mask)
        return product(t, mask)

    def remove(self, module: nn.Module) -> None:
        """Bake the mask into the parameter and move it back to its name; remove the mask and `name + "_orig"`.

        As in torch, the hook stays registered; the function `remove` also removes the hook.

        Raises:
            UsageError: the method has not been applied to this module.
        """
        _original_and_mask(self, module)
        super().remove(module)

    @messages_for(Interface.MODULES)
    def _apply_to(self, module: nn.Module, name: str, importance_scores: Tensor | None = None) -> BasePruningMethod:
        """Mask the parameter `name` of a module, and return the registered hook: the method, or the container with it.

        Raises:
            TypeError: as `compute_mask`.
            UsageError: as `compute_mask`; the parameter does not exist or has no shape yet; or the scores have another
                shape.
        """
        self._tensor_name = name
        parameter, before = unpruned_parameter(module, name)
        check_tensors(parameter)
        scores = self.values(parameter, before) if importance_scores is None else importance_scores
        check_shape("importance_scores", scores, parameter)
        mask = self.compute_mask(scores, default_mask=ones_like(parameter) if before is None else before)
        return attach(module, self, mask)


class SeededMethod(PruningMethod):
    """A pruning method with an amount, whose draws follow from a seed and a key.

    Args:
        amount: an int is a number of elements or slices, a float a fraction of those left unpruned (half to even).
        seed: determines the draws. If not given, it is drawn here from torch's global CPU generator, which
            `torch.manual_seed` controls; the attribute `seed` has the value.
        key: distinguishes tensors with the same seed. `apply` sets it to the parameter's name, so two layers with the
            same seed need two keys. The dotted name in the model (`"layer1.weight"`) is usual, and the command line
            uses it. The default is `""`.

    Raises:
        TypeError: the amount is not a real number, or the seed is not an integer.
        UsageError: the amount or the seed is out of range. It is a `ValueError`.
    """

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
            importance_scores: scores of the parameter's shape, compared instead of its values; a random choice
                ignores them.

        Returns:
            The registered hook: the method, or the container with it.

        Raises:
            TypeError: as the class, or as `compute_mask`.
            UsageError: as the class; the parameter does not exist or has no shape yet; the amount is more than the
                elements that are left; or the scores have another shape (also an `AssertionError`, as in torch).
        """
        return cls(amount, seed=seed, key=name if key is None else key)._apply_to(module, name, importance_scores)

    @abstractmethod
    def file_method(self) -> Method:
        """Return the method that makes the same choice on the command line."""

    @property
    def shown_key(self) -> str:
        """The tensor's name in messages."""
        return show(self.key or self._tensor_name or "the tensor")


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


def is_pruned(module: nn.Module) -> bool:
    """Whether a parameter of a module, or of one below it, is pruned by a method of prunecli or torch."""
    hooks = (hook for each in module.modules() for hook in each._forward_pre_hooks.values())
    return any(isinstance(hook, BasePruningMethod) for hook in hooks)


def _drawn_seed() -> int:
    drawn = torch.randint(_SEEDS, (), device="cpu")
    return int(drawn) if has_values(drawn) else 0  # in FakeTensorMode, no mask is drawn from it either


def check_shape(what: str, tensor: Tensor, like: Tensor) -> None:
    """Refuse a tensor that has another shape than the tensor to prune.

    Raises:
        UsageError: it has one. It is an `AssertionError`, too.
    """
    if tensor.shape != like.shape:
        raise _ShapeError(f"{what} has the shape {tuple(tensor.shape)}, the tensor to prune {tuple(like.shape)}")


def check_tensors(*tensors: Tensor) -> None:
    """Refuse tensors whose elements a mask cannot keep or drop one by one.

    Raises:
        TypeError: there is one.
    """
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


def unpruned_parameter(module: nn.Module, name: str) -> tuple[nn.Parameter, Tensor | None]:
    """Return a parameter with the values of pruned elements, and its mask; None without a mask.

    Raises:
        UsageError: the module has no such parameter of its own, or it has no shape yet.
    """
    _, earlier = find_hook(module, name)
    if earlier is None:
        return _find_parameter(module, name), None
    return _find_parameter(module, name + "_orig"), module.get_buffer(name + "_mask")


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
