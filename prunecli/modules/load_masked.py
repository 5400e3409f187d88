"""Load a state dict with masks into a module: give its parameters masks first, as torch does, then load strictly."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from prunecli.errors import UnsupportedError, UsageError, messages_for, show
from prunecli.formats.base import ReadOptions
from prunecli.modules.hooks import (
    GivenMask,
    attach,
    find_hook,
    keep_fresh,
    put_first,
    readers_of,
    untouched_on_failure,
)
from prunecli.modules.layout import LiveModule
from prunecli.modules.state_file import read_state
from prunecli.surgery.names.parameters import canonical
from prunecli.surgery.names.suggest import nearest_names
from prunecli.terms import Interface

__all__ = ["load_masked"]

_Module = TypeVar("_Module", bound=nn.Module)

_NAMED = 3
"""The most names of each kind in a message."""


@messages_for(Interface.MODULES)
def load_masked(
    module: _Module,
    state_dict: Mapping[str, Any] | str | os.PathLike[str],
    *,
    key: str | None = None,
    allow_foreign_objects: bool = False,
) -> _Module:
    """Load a state dict in which parameters have masks (`NAME_orig`, `NAME_mask`), as `prunecli apply` writes them.

    Each of these parameters gets a mask in the module, with the parameter's dtype, and a hook that keeps the product
    up to date, as after `prune_module`. Then everything is loaded by `load_state_dict`, strictly. Parameter objects
    stay the same, so optimizers and ties stay valid. A parameter that is missing in the file because it is tied to
    another one gets the values and the mask of that one.

    If anything fails, the module has no new masks; its values may be loaded in part, as by torch.

    Args:
        module: a module with tensors on any device, wrapped (`module.`, `_orig_mod.`) or not.
        state_dict: a state dict, wrapped or not, or the path or URL of a checkpoint: a file, or a folder of shards.
            Nothing in a file is executed.
        key: where the state dict lies in the file, as `--key`; found automatically if not given.
        allow_foreign_objects: as `--allow-foreign-objects`, for files with objects that weights-only loading refuses.

    Returns:
        The module, changed in place.

    Raises:
        UsageError: a mask has no parameter in the module, or names or shapes do not match.
        UnsupportedError: a tensor cannot be read, or the module is one that takes no masks (TorchScript, sharded).
        PrunecliError: the checkpoint cannot be read.

    >>> net = nn.Sequential(nn.Linear(4, 2))
    >>> state = {"0.weight_orig": net[0].weight, "0.weight_mask": net[0].weight > 0, "0.bias": net[0].bias}
    >>> list(load_masked(nn.Sequential(nn.Linear(4, 2)), state).state_dict())
    ['0.bias', '0.weight_orig', '0.weight_mask']
    """
    if isinstance(state_dict, Mapping):
        state = dict(state_dict)
        _check_state(state)
    else:
        state = read_state(state_dict, ReadOptions(key, allow_foreign_objects))
    live = LiveModule(module)
    if live.meshes or live.refused:
        name = next(iter([*live.refused, *(each for names in live.meshes.values() for each in names), "a parameter"]))
        raise UnsupportedError(f"{show(name)} is a DTensor, which takes no mask; load before the module is sharded")
    masks = _masks_by_name(live, state)
    with contextlib.ExitStack() as stack:
        for name, mask in masks.items():
            _prepare(stack, module, name, mask)
        _load(module, state, masks)
        for name in masks:
            owner, leaf = _owner_of(module, name)
            hook: Any = find_hook(owner, leaf)[1]
            if hook is not None:
                setattr(owner, leaf, hook.apply_mask(owner))
    return module


def _check_state(state: Mapping[str, Any]) -> None:
    """Refuse a whole checkpoint that contains a state dict, in place of the state dict itself."""
    inner = [name for name, value in state.items() if isinstance(value, Mapping) and not name.endswith("_extra_state")]
    if inner and not any(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(f"this mapping is not a state dict; give the one in it, perhaps [{show(repr(inner[0]), 60)}]")


def _bases(names: Mapping[str, object]) -> list[str]:
    """Return the names of the parameters that have a mask."""
    found = (name.removesuffix("_orig") for name in names if name.endswith("_orig"))
    return [name for name in found if f"{name}_mask" in names]


def _masks_by_name(live: LiveModule, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the mask of each parameter that gets one, by the module's names; tied ones that the file lacks, too.

    Raises:
        UsageError: a mask has no parameter in the module, or another shape.
    """
    pruned = set(_bases(live.tensors))
    parameters = {
        name.removesuffix("_orig") if name.removesuffix("_orig") in pruned else name: tensor
        for name, tensor in live.module.named_parameters(remove_duplicate=False)
    }
    by_key = _unique(parameters)
    buffers = {canonical(name) for name, _ in live.module.named_buffers(remove_duplicate=False)}
    masks: dict[str, Tensor] = {}
    for base in _bases(state):
        name = base if base in parameters else by_key.get(canonical(base))
        if name is None:
            if canonical(base) in buffers:
                raise UsageError(f"{show(base)} is a buffer, and those take no mask; 'prunecli remove' bakes it")
            near = nearest_names(base, list(parameters), 1)
            meant = f"; its nearest is {show(near[0])}" if near else ""
            raise UsageError(f"{show(base)} has a mask, and the module has no such parameter{meant}")
        mask, shape = state[f"{base}_mask"], parameters[name].shape
        if not isinstance(mask, Tensor) or mask.shape != shape:
            raise UsageError(f"the mask of {show(base)} does not have the shape {tuple(shape)} of the parameter")
        masks[name] = mask
    given = {canonical(each) for each in (*state, *_bases(state))}
    tied = {id(parameters[name]): mask for name, mask in masks.items()}
    for name, parameter in parameters.items():
        if name not in masks and id(parameter) in tied and canonical(name) not in given:
            masks[name] = tied[id(parameter)]
    return masks


def _unique(names: Mapping[str, object]) -> dict[str, str]:
    """Return names by their canonical names, except those that several names share."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(canonical(name), []).append(name)
    return {key: each[0] for key, each in found.items() if len(each) == 1}


def _owner_of(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _prepare(stack: contextlib.ExitStack, module: nn.Module, name: str, mask: Tensor) -> None:
    """Give a parameter its mask and hook, unless it has them; everything is undone if the stack is left by an error."""
    owner, leaf = _owner_of(module, name)
    if find_hook(owner, leaf)[1] is not None:
        return
    taken = next((each for each in (f"{leaf}_orig", f"{leaf}_mask") if hasattr(owner, each)), None)
    if taken is not None:
        raise UsageError(f"the module of {show(name)} already has an attribute {show(taken)} and no hook for it")
    readers = list(readers_of(module, name.rpartition(".")[0]))
    for each in (owner, *(reader for reader, _ in readers)):
        stack.enter_context(untouched_on_failure(each))
    parameter = owner.get_parameter(leaf)
    attach(owner, GivenMask(leaf), mask.detach().to(parameter.device, parameter.dtype, copy=True))
    put_first(owner, leaf)
    for reader, path in readers:
        keep_fresh(reader, path)


def _load(module: nn.Module, state: Mapping[str, Any], masks: Mapping[str, Tensor]) -> None:
    """Load a state dict strictly, under the names that the module has for its tensors.

    Raises:
        UsageError: names or shapes do not match.
    """
    own = module.state_dict(keep_vars=True)
    renamed = _renamed(state, own)
    for name, other in _tied_names(own, renamed):
        renamed[name] = renamed[other]
        if name.endswith("_orig") and name.removesuffix("_orig") in masks:
            renamed[f"{name.removesuffix('_orig')}_mask"] = masks[name.removesuffix("_orig")]
    try:
        module.load_state_dict(renamed)
    except RuntimeError as error:
        raise UsageError(
            f"the state dict does not fit the module: {_difference(own, renamed) or show(error)}"
        ) from None


def _renamed(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict with the names of the module, where only wrappers make a difference."""
    by_key = _unique(own)
    found = {name: value for name, value in state.items() if name in own}
    for name, value in state.items():
        if name not in own:
            other = by_key.get(canonical(name), name)
            found[name if other in found else other] = value
    return found


def _tied_names(own: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names that a state dict lacks, each with one that it has for the same parameter."""
    by_identity = {id(own[name]): name for name in own if name in given and isinstance(own[name], nn.Parameter)}
    for name, tensor in own.items():
        if name not in given and id(tensor) in by_identity:
            yield name, by_identity[id(tensor)]


def _difference(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Return what a state dict lacks, what it has beyond a module's, and what has another shape."""
    shapes = [
        name
        for name in own
        if name in given and getattr(given[name], "shape", None) != getattr(own[name], "shape", None)
    ]
    kinds = (
        ("missing", [name for name in own if name not in given]),
        ("unexpected", [name for name in given if name not in own]),
        ("of another shape", shapes),
    )
    return "; ".join(f"{what}: {_some(names)}" for what, names in kinds if names)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(show(name, 80) for name in names[:_NAMED]) + more
