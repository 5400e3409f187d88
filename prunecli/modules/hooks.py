"""Masks, products and hooks that pruning adds to a module: find, refresh, remove and restore them.

A pruned parameter `name` consists of four things in its module: the parameter `name + "_orig"`, the buffer
`name + "_mask"`, the plain attribute `name`, which is their product, and a forward pre-hook that computes the product
again before every forward.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod, PruningContainer

from prunecli.errors import UsageError, show
from prunecli.modules.masks import product

__all__ = [
    "GivenMask",
    "ProductRefresh",
    "attach",
    "find_hook",
    "keep_fresh",
    "put_first",
    "readers_of",
    "stop_refreshing",
    "unmask",
    "untouched_on_failure",
]


def find_hook(module: nn.Module, name: str) -> tuple[int, BasePruningMethod | None]:
    """Return the key of a parameter's pruning hook among the hooks, and the hook; `(-1, None)` if there is none.

    Raises:
        UsageError: there are several.
    """
    hooks = module._forward_pre_hooks.items()
    found = [(key, hook) for key, hook in hooks if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]
    if len(found) > 1:
        raise UsageError(f"{show(name)} of {type(module).__name__} has {len(found)} pruning hooks instead of one")
    return found[0] if found else (-1, None)


def attach(module: nn.Module, method: BasePruningMethod, mask: Tensor) -> BasePruningMethod:
    """Mask a parameter of a module, or replace its mask, and register the hook that keeps its product up to date.

    `mask` has the parameter's shape, and gets its dtype; `method` contains the parameter's name. If anything fails, the
    module is unchanged.

    Returns:
        The registered hook: the method, or the container with it and the earlier methods.
    """
    name = method._tensor_name
    handle, earlier = find_hook(module, name)
    parameter = module.get_parameter(name if earlier is None else name + "_orig")
    mask = mask.to(parameter.dtype)
    pruned = product(parameter, mask)
    with untouched_on_failure(module):
        if earlier is None:
            module.register_parameter(name + "_orig", parameter)
            del module._parameters[name]
        else:
            del module._forward_pre_hooks[handle]
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, pruned)
        if earlier is None:
            module.register_forward_pre_hook(method)
            return method
        container: Any = earlier if isinstance(earlier, PruningContainer) else _Container(earlier)
        module.register_forward_pre_hook(container)
        container.add_pruning_method(method)
        hook: BasePruningMethod = container
        return hook


class _Masked(BasePruningMethod):
    """A hook that multiplies a parameter by its mask in the parameter's dtype, whatever this is."""

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the parameter times its mask."""
        mask = module.get_buffer(self._tensor_name + "_mask")
        return product(module.get_parameter(self._tensor_name + "_orig"), mask)


class _Container(_Masked, PruningContainer):
    """The methods that pruned a parameter, one after the other."""


class GivenMask(_Masked):
    """The hook of a parameter with an existing mask: it keeps the product up to date, and does not drop elements."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, name: str) -> None:
        self._tensor_name = name

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask unchanged."""
        return default_mask


def put_first(module: nn.Module, name: str) -> None:
    """Move a parameter's pruning hook before all other hooks, because the hook of `spectral_norm` reads the product."""
    handle, _ = find_hook(module, name)
    hooks = module._forward_pre_hooks
    for key in [each for each in hooks if each != handle]:
        hooks[key] = hooks.pop(key)


def unmask(module: nn.Module, name: str) -> None:
    """Move a parameter back to its name, the same object with its current values; remove mask, product and hook.

    Unlike torch's `remove`, this does not multiply: the mask must have been baked before.

    Raises:
        UsageError: as `find_hook`.
    """
    handle, hook = find_hook(module, name)
    original = getattr(module, name + "_orig")
    delattr(module, name + "_orig")
    delattr(module, name + "_mask")
    if isinstance(original, nn.Parameter):
        setattr(module, name, original)  # replaces the product, also in the list that a recurrent layer computes with
    else:
        vars(module).pop(name, None)
        module.register_buffer(name, original)
    if hook is not None:
        del module._forward_pre_hooks[handle]


class ProductRefresh:
    """A forward pre-hook for a module that reads the weights of another module without calling it.

    `nn.MultiheadAttention` is an example: it reads `out_proj.weight`, so the hook on `out_proj` never runs, and after
    an optimizer step the product would be outdated. `path` leads to the module that is read. Only the path is kept, so
    that copies and pickles of the module refresh their own products.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, module: nn.Module, inputs: object) -> None:
        """Compute the products in the module at `path` again."""
        read = module.get_submodule(self.path)
        for hook in list(read._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod):
                hook(read, inputs)


def keep_fresh(reader: nn.Module, path: str) -> None:
    """Register a hook on `reader` that refreshes the products of the module at `path` below it before every forward."""
    hooks = reader._forward_pre_hooks.values()
    if not any(isinstance(hook, ProductRefresh) and hook.path == path for hook in hooks):
        reader.register_forward_pre_hook(ProductRefresh(path), prepend=True)


def stop_refreshing(reader: nn.Module, path: str) -> None:
    """Remove the hook of `keep_fresh`, unless a parameter at `path` is still pruned."""
    if any(isinstance(hook, BasePruningMethod) for hook in reader.get_submodule(path)._forward_pre_hooks.values()):
        return
    for key, hook in list(reader._forward_pre_hooks.items()):
        if isinstance(hook, ProductRefresh) and hook.path == path:
            del reader._forward_pre_hooks[key]


def readers_of(module: nn.Module, path: str) -> Iterator[tuple[nn.Module, str]]:
    """Yield the modules above a module that read its parameters without a call: attention, parameter lists' owners."""
    parts = path.split(".") if path else []
    called = _has_forward(module.get_submodule(path))
    for depth in reversed(range(len(parts))):
        above = module.get_submodule(".".join(parts[:depth]))
        if isinstance(above, nn.MultiheadAttention) or (not called and _has_forward(above)):
            yield above, ".".join(parts[depth:])
        called = called or _has_forward(above)


def _has_forward(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward


@contextlib.contextmanager
def untouched_on_failure(module: nn.Module) -> Iterator[None]:
    """Restore the attributes of a module and of its pruning hooks, and the items of their dicts, lists and sets, if the
    body raises.

    The containers are refilled, not replaced: handles that remove hooks refer to them.
    """
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, BasePruningMethod)]
    before = [(holder, dict(vars(holder))) for holder in (module, *hooks)]
    values = [value for _, attributes in before for value in attributes.values()]
    contents = [(value, copy.copy(value)) for value in values if isinstance(value, dict | list | set)]
    try:
        yield
    except BaseException:
        for holder, attributes in before:
            vars(holder).clear()
            vars(holder).update(attributes)
        for value, content in contents:
            value.clear()
            value.extend(content) if isinstance(value, list) else value.update(content)
        raise
