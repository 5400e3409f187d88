"""Evidence of masks that could not be assigned to a weight, and of the scores from which masks are computed."""

from collections.abc import Iterator

from prunecli.surgery.roles.modules import Module

__all__ = ["masks", "scores"]


def masks(module: Module) -> Iterator[str]:
    """Yield tensors named like masks, if a tensor of the same shape that they may mask lies next to them."""
    own = module.own
    for last, tensor in own.items():
        if not last.endswith("mask") or not tensor.shape:
            continue
        base = last.removesuffix("_mask")
        likely = [own.get(base), own.get(base.removeprefix("_")), own.get(f"{base}_orig")] if base != last else []
        if last in ("mask", "sparse_pruning_mask"):
            likely += [own.get("weight"), module.parent.get("original") if last == "mask" else None]
        if any(each is not None and each is not tensor and each.shape == tensor.shape for each in likely):
            yield last


def scores(module: Module) -> Iterator[str]:
    """Yield the scores from which masks are computed."""
    for last, tensor in module.own.items():
        weight = module.own.get("weight")
        trained = last == "sparse_mask_scores" and weight is not None and weight.shape == tensor.shape
        if trained or (last == "mask" and "__nncf_hooks" in module.marks):
            yield last
