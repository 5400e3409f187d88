"""The places of parameters in a module: they get masks there, or lose them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import increment_version

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.lean import dataclass
from prunecli.modules.hooks import (
    GivenMask,
    attach,
    find_hook,
    keep_fresh,
    put_first,
    readers_of,
    stop_refreshing,
    unmask,
)
from prunecli.modules.masks import mask_from_flags, masked
from prunecli.modules.shards import is_spread
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.plan.model import Plan, PlannedParameter

__all__ = ["ParameterSite", "bake_site", "find_sites", "invalidate_graphs", "mask_site", "restore_fsdp_names"]


@dataclass(frozen=True, slots=True)
class ParameterSite:
    """The place of a parameter: its module, and the modules that read it without a call, each with the path down."""

    owner: nn.Module
    leaf: str
    planned: PlannedParameter
    readers: tuple[tuple[nn.Module, str], ...]


def find_sites(module: nn.Module, plan: Plan) -> list[ParameterSite]:
    """Return the places of the planned parameters; a parameter of a shared module, with several names, occurs once.

    Raises:
        UsageError: a parameter with several names is selected under some of them only, or one cannot take a mask.
    """
    sites: dict[tuple[int, str], ParameterSite] = {}
    for name, planned in plan.planned.items():
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        if not plan.bake:
            _check_maskable(planned, owner, leaf)
        site = sites.setdefault((id(owner), leaf), ParameterSite(owner, leaf, planned, ()))
        sites[id(owner), leaf] = replace(site, readers=(*site.readers, *readers_of(module, path)))
    for name in plan.parameters:
        path, _, leaf = name.rpartition(".")
        shared = sites.get((id(module.get_submodule(path)), leaf))
        if shared is not None and name not in plan.planned:
            raise UsageError(
                f"{show(shared.planned.parameter.name)} and {show(name)} are one parameter of one shared module, and "
                "cannot be told apart there; select both"
            )
    return list(sites.values())


def _check_maskable(planned: PlannedParameter, owner: nn.Module, leaf: str) -> None:
    """Refuse parameters that a hook cannot keep pruned, and names that would replace attributes other than tensors."""
    parameter = planned.parameter
    name = show(parameter.name)
    if parameter.weight.buffer:
        raise UsageError(f"{name} is a buffer, and only parameters take a mask; use bake=True")
    if parameter.mask is not None and find_hook(owner, leaf)[1] is None:
        raise UsageError(f"{name} has a mask and no hook that applies it; bake it first, with bake_module")
    if is_spread(owner.get_parameter(leaf if parameter.mask is None else f"{leaf}_orig")):
        raise UnsupportedError(
            f"{name} is a DTensor, which takes no mask: what spreads it would not know the new name; prune before "
            "fully_shard or parallelize_module, or use bake=True"
        )
    taken = [each for each in (f"{leaf}_orig", f"{leaf}_mask") if hasattr(owner, each)]
    if parameter.mask is None and taken:
        raise UsageError(f"the module of {name} already has an attribute {show(taken[0])}; use bake=True instead")


def mask_site(site: ParameterSite, mask: FinalMask) -> None:
    """Give a parameter a mask and a hook, and its readers a hook that computes the product before their forward."""
    earlier = site.owner.get_buffer(f"{site.leaf}_mask") if site.planned.parameter.mask is not None else None
    if earlier is None:
        made = mask_from_flags(mask.whole(), site.owner.get_parameter(site.leaf))
    else:
        made = masked(earlier, torch.from_numpy(mask.whole()).view(earlier.shape))
    attach(site.owner, GivenMask(site.leaf), made)
    put_first(site.owner, site.leaf)
    for reader, path in site.readers:
        keep_fresh(reader, path)


def bake_site(site: ParameterSite) -> None:
    """Remove the mask of a parameter, if it has one, with its hook and product; its values are already baked."""
    parameter = site.planned.parameter
    if parameter.mask is not None:
        unmask(site.owner, site.leaf)
        for reader, path in site.readers:
            stop_refreshing(reader, path)


def restore_fsdp_names(sites: Sequence[ParameterSite], records: Sequence[Any]) -> None:
    """Restore the names in FSDP2's records of parameters that got their own names back."""
    back = {
        (id(site.owner), f"{site.leaf}_orig"): site.leaf for site in sites if site.planned.parameter.mask is not None
    }
    for record in records:
        record.param_name = back.get((id(record.module), record.param_name), record.param_name)
        shared = zip(record.shared_modules, record.shared_param_names, strict=True)
        record.shared_param_names[:] = [back.get((id(module), name), name) for module, name in shared]


def invalidate_graphs(sites: Sequence[ParameterSite]) -> None:
    """Make a backward pass that still needs the old values raise an error, instead of computing with the new ones."""
    weights = [getattr(site.owner, site.leaf) for site in sites]
    weights += [weight.to_local().detach() for weight in weights if is_spread(weight)]
    for weight in weights:
        if not weight.is_inference():
            increment_version(weight)
