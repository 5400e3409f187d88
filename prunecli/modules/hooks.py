"""What pruning leaves in a module beside the parameter: found, refreshed, taken away, rolled back.

A pruned parameter `name` is four things in its module: the parameter `name + "_orig"`, the buffer `name + "_mask"`, the
plain attribute `name` that is their product, and a forward pre-hook that makes the product anew before every forward.
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod, PruningContainer

from prunecli.errors import UsageError, show

__all__ = [
    "GivenMask",
    "ProductRefresh",
    "attach",
    "find_hook",
    "keep_fresh",
    "put_first",
    "stop_refreshing",
    "unmask",
    "untouched_on_failure",
]


def find_hook(module: nn.Module, name: str) -> tuple[int, BasePruningMethod | None]:
    """Return the pruning hook of a parameter and its key among the hooks, `(-1, None)` if there is none.

    Raises:
        UsageError: there is more than one.
    """
    hooks = module._forward_pre_hooks.items()
    found = [(key, hook) for key, hook in hooks if isinstance(hook, BasePruningMethod) and hook._tensor_name == name]
    if len(found) > 1:
        raise UsageError(f"{show(name)} of {type(module).__name__} has {len(found)} pruning hooks instead of one")
    return found[0] if found else (-1, None)


def attach(module: nn.Module, method: BasePruningMethod, mask: Tensor) -> BasePruningMethod:
    """Mask a parameter of a module, or mask it anew, and register the hook that keeps its product fresh.

    `mask` is of the parameter's shape and dtype; `method` knows the parameter's name. Whatever fails, the module stays
    as it was.

    Returns:
        The hook that is now registered: the method, or the container that holds it and those before it.
    """
    name = method._tensor_name
    handle, earlier = find_hook(module, name)
    parameter = module.get_parameter(name if earlier is None else name + "_orig")
    pruned = parameter * mask
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
        container: Any = earlier if isinstance(earlier, PruningContainer) else PruningContainer(earlier)
        module.register_forward_pre_hook(container)
        container.add_pruning_method(method)
        hook: BasePruningMethod = container
        return hook


class GivenMask(BasePruningMethod):
    """The hook of a parameter whose mask was made before: it keeps the product fresh, and drops nothing by itself."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, name: str) -> None:
        self._tensor_name = name

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Return the mask as it is."""
        return default_mask

    def apply_mask(self, module: nn.Module) -> Tensor:
        """Return the parameter times its mask."""
        mask = module.get_buffer(self._tensor_name + "_mask")
        original = module.get_parameter(self._tensor_name + "_orig")
        return original * mask.to(original.dtype)


def put_first(module: nn.Module, name: str) -> None:
    """Let the pruning hook of a parameter run before all other hooks: that of `spectral_norm` reads the product."""
    handle, _ = find_hook(module, name)
    hooks = module._forward_pre_hooks
    for key in [each for each in hooks if each != handle]:
        hooks[key] = hooks.pop(key)


def unmask(module: nn.Module, name: str) -> None:
    """Give a parameter its name back, the same object with the values that it holds; mask, product and hook go.

    Unlike torch's `remove` nothing is multiplied: the mask must have been baked in before.

    Raises:
        UsageError: as `find_hook`.
    """
    handle, hook = find_hook(module, name)
    original = getattr(module, name + "_orig")
    delattr(module, name + "_orig")
    delattr(module, name + "_mask")
    if isinstance(original, nn.Parameter):
        setattr(module, name, original)  # the product gives way, in the list that a recurrent layer computes with, too
    else:
        vars(module).pop(name, None)
        module.register_buffer(name, original)
    if hook is not None:
        del module._forward_pre_hooks[handle]


class ProductRefresh:
    """A forward pre-hook for a module that reads weights of another one without calling it.

    `nn.MultiheadAttention` does so: it takes `out_proj.weight` as it stands, the hook on `out_proj` never runs, and
    after an optimizer step the product would be that of the step before. `path` leads to the module that is read; it
    is all that is kept, so that copies and pickles of the module refresh their own.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, module: nn.Module, inputs: object) -> None:
        """Make the products below anew."""
        read = module.get_submodule(self.path)
        for hook in list(read._forward_pre_hooks.values()):
            if isinstance(hook, BasePruningMethod):
                hook(read, inputs)


def keep_fresh(reader: nn.Module, path: str) -> None:
    """Let `reader` refresh the products of the module at `path` below it before every forward."""
    hooks = reader._forward_pre_hooks.values()
    if not any(isinstance(hook, ProductRefresh) and hook.path == path for hook in hooks):
        reader.register_forward_pre_hook(ProductRefresh(path), prepend=True)


def stop_refreshing(reader: nn.Module, path: str) -> None:
    """Take the hook of `keep_fresh` away, unless something at `path` is still pruned."""
    if any(isinstance(hook, BasePruningMethod) for hook in reader.get_submodule(path)._forward_pre_hooks.values()):
        return
    for key, hook in list(reader._forward_pre_hooks.items()):
        if isinstance(hook, ProductRefresh) and hook.path == path:
            del reader._forward_pre_hooks[key]


@contextlib.contextmanager
def untouched_on_failure(module: nn.Module) -> Iterator[None]:
    """Put the attributes of a module and of its pruning hooks, and what lies directly in their dicts, lists and sets,
    back if the body raises.

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
