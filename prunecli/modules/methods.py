"""The other pruning methods of `torch.nn.utils.prune` for a module's parameter, with prunecli's choices.

They replace torch's classes and functions of the same names. The number of elements or slices is exact, elements that
are equal are chosen from the random stream of a seed and a key, and every float type is compared by its own bits, so
that the command line and these classes prune the same elements.

>>> layer = l1_unstructured(nn.Linear(4, 2), "weight", 0.5)
>>> int((layer.weight_mask == 0).sum()), is_pruned(layer)
(4, True)
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from prunecli.core.amount import Amount
from prunecli.core.methods import make_method
from prunecli.core.methods.base import Method
from prunecli.core.methods.request import method_request
from prunecli.errors import messages_for
from prunecli.modules.chosen import Candidates, keep_flags
from prunecli.modules.masks import all_ones, has_values, kept_ones, mask_after, masked, nonzero_flags, product
from prunecli.modules.pruning_method import PruningMethod, SeededMethod, check_shape, check_tensors, is_pruned
from prunecli.terms import Interface

__all__ = [
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "RandomStructured",
    "custom_from_mask",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
]

_Module = TypeVar("_Module", bound=nn.Module)


class _ChosenMethod(SeededMethod):
    """A method whose choice is that of one of the methods for files."""

    def candidates(self, before: Tensor) -> Tensor:
        """Return a mask of the elements that take part in the choice, given the mask so far: those that are left."""
        return before

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return `default_mask` with what the method chooses set to zero.

        Args:
            t: the tensor to prune, or its importance scores. Values on other devices are copied to the CPU.
            default_mask: a mask with the shape of `t` and any dtype. Its zeros were pruned before.

        Returns:
            A new contiguous tensor with the shape, dtype and device of `default_mask`. On the meta device, and for a
            `FakeTensor`, nothing is chosen.

        Raises:
            TypeError: a dtype has no zero, or a tensor is sparse, quantised, nested or a `DTensor`.
            UsageError: the shapes differ, the dtype has no order, the dimension is not there, or the amount is more
                than what is left.
        """
        check_tensors(t, default_mask)
        check_shape("default_mask", default_mask, t)
        before = default_mask.detach()
        if not (has_values(t) and has_values(before)):
            return kept_ones(before)
        tensors = {self.key: Candidates(self.key or self._tensor_name or "the tensor", t, self.candidates(before))}
        keep = keep_flags(self.file_method(), tensors, self.amount, self.seed)[self.key]
        return mask_after(before, keep)


class L1Unstructured(_ChosenMethod):
    """Prune the `amount` of a tensor's unpruned elements with the smallest magnitudes; see `SeededMethod`.

    Where equal elements lie on both sides of the border, the random stream takes as many of them as are needed. NaN is
    not smaller than anything. Importance scores are taken by magnitude, as by torch.
    """

    def file_method(self) -> Method:
        """Return `--method l1`."""
        return make_method(method_request("l1"))


class _Structured(_ChosenMethod):
    """A method that prunes slices along the dimension `dim`, of those of which something is left."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Amount, dim: int, *, seed: int | None = None, key: str | None = None) -> None:
        super().__init__(amount, seed=seed, key=key)
        self.dim = dim

    def candidates(self, before: Tensor) -> Tensor:
        """Return a mask that keeps each slice of which any element is left, as a whole: torch compares whole slices."""
        if all_ones(before) or not -before.dim() <= self.dim < before.dim():
            return before
        left = nonzero_flags(before).movedim(self.dim, 0).flatten(1).any(1)
        shape = [1] * before.dim()
        shape[self.dim] = -1
        return left.view(shape).expand(before.shape).contiguous()

    def values(self, parameter: Tensor, before: Tensor | None) -> Tensor:
        """Return the parameter with zeros where it is pruned."""
        return parameter if before is None else masked(parameter.detach(), nonzero_flags(before))


class RandomStructured(_Structured):
    """Prune `amount` slices of a tensor along a dimension at random; see `SeededMethod`.

    Slices of which something is left are chosen from; an amount as a fraction is one of their number.
    """

    def __init__(self, amount: Amount, dim: int = -1, *, seed: int | None = None, key: str | None = None) -> None:
        super().__init__(amount, dim, seed=seed, key=key)

    def file_method(self) -> Method:
        """Return `--method random-structured`."""
        return make_method(method_request("random-structured", dim=self.dim))

    @classmethod
    def apply(  # type: ignore[override]  # as in `SeededMethod`
        cls,
        module: nn.Module,
        name: str,
        amount: Amount,
        dim: int = -1,
        *,
        seed: int | None = None,
        key: str | None = None,
    ) -> BasePruningMethod:
        """Prune the parameter `name` of `module` in place, as `RandomUnstructured.apply`; returns the hook."""
        return cls(amount, dim, seed=seed, key=name if key is None else key)._apply_to(module, name)


class LnStructured(_Structured):
    """Prune the `amount` of a tensor's slices along a dimension with the smallest norms; see `SeededMethod`.

    `n` is 1, 2 or infinity. Norms are summed in float64, whatever the dtype.
    """

    def __init__(
        self, amount: Amount, n: float | str, dim: int = -1, *, seed: int | None = None, key: str | None = None
    ) -> None:
        super().__init__(amount, dim, seed=seed, key=key)
        self.n = n
        with messages_for(Interface.MODULES):
            self.file_method()  # refuses other norms now

    def file_method(self) -> Method:
        """Return `--method ln`."""
        return make_method(method_request("ln", norm=self.n, dim=self.dim))

    @classmethod
    def apply(  # type: ignore[override]  # as in `SeededMethod`
        cls,
        module: nn.Module,
        name: str,
        amount: Amount,
        n: float | str,
        dim: int,
        *,
        importance_scores: Tensor | None = None,
        seed: int | None = None,
        key: str | None = None,
    ) -> BasePruningMethod:
        """Prune the parameter `name` of `module` in place, as `RandomUnstructured.apply`; returns the hook."""
        method = cls(amount, n, dim, seed=seed, key=name if key is None else key)
        return method._apply_to(module, name, importance_scores)


class CustomFromMask(PruningMethod):
    """Multiply the mask of a parameter with a given mask of its shape."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the product of both masks, with the shape, dtype and device of `default_mask`."""
        check_shape("the mask", self.mask, t)
        return product(default_mask, self.mask.to(default_mask.device))

    @classmethod
    def apply(cls, module: nn.Module, name: str, mask: Tensor) -> BasePruningMethod:  # type: ignore[override]
        """Prune the parameter `name` of `module` in place, as `RandomUnstructured.apply`; returns the hook."""
        return cls(mask)._apply_to(module, name)


class Identity(PruningMethod):
    """Give a parameter a mask that keeps everything that is left."""

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return a copy of `default_mask`."""
        return default_mask.detach().clone(memory_format=torch.contiguous_format)

    @classmethod
    def apply(cls, module: nn.Module, name: str) -> BasePruningMethod:  # type: ignore[override]
        """Mask the parameter `name` of `module` in place, as `RandomUnstructured.apply`; returns the hook."""
        return cls()._apply_to(module, name)


def identity(module: _Module, name: str) -> _Module:
    """Give the parameter `name` a mask and a hook that prune nothing; returns the module, changed in place."""
    Identity.apply(module, name)
    return module


def l1_unstructured(
    module: _Module,
    name: str,
    amount: Amount,
    importance_scores: Tensor | None = None,
    *,
    seed: int | None = None,
    key: str | None = None,
) -> _Module:
    """Prune the smallest elements of the parameter `name`; returns the module, changed in place.

    Raises:
        TypeError, UsageError: as `L1Unstructured`; the module is then unchanged.
    """
    L1Unstructured.apply(module, name, amount, importance_scores=importance_scores, seed=seed, key=key)
    return module


def random_structured(
    module: _Module, name: str, amount: Amount, dim: int, *, seed: int | None = None, key: str | None = None
) -> _Module:
    """Prune random slices of the parameter `name`; returns the module, changed in place.

    Raises:
        TypeError, UsageError: as `RandomStructured`; the module is then unchanged.
    """
    RandomStructured.apply(module, name, amount, dim, seed=seed, key=key)
    return module


def ln_structured(
    module: _Module,
    name: str,
    amount: Amount,
    n: float | str,
    dim: int,
    importance_scores: Tensor | None = None,
    *,
    seed: int | None = None,
    key: str | None = None,
) -> _Module:
    """Prune the slices of the parameter `name` with the smallest norms; returns the module, changed in place.

    Raises:
        TypeError, UsageError: as `LnStructured`; the module is then unchanged.
    """
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores, seed=seed, key=key)
    return module


def custom_from_mask(module: _Module, name: str, mask: Tensor) -> _Module:
    """Prune the parameter `name` where a mask is zero; returns the module, changed in place.

    Raises:
        UsageError: the shapes differ, or there is no such parameter; the module is then unchanged.
    """
    CustomFromMask.apply(module, name, mask)
    return module
