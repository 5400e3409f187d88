"""Checks that pruning took the smallest, in files and in modules, with one tensor in memory at a time."""

from pathlib import Path

import numpy as np
import torch
from bench_files import tensors
from torch import Tensor, nn

__all__ = ["check_groups", "check_smallest", "check_with_torch"]

_BITS = {2: torch.int16, 4: torch.int32}


def check_smallest(source: Path, output: Path, *, together: bool) -> None:
    """Raise unless exactly half of every weight is zero, the smaller half, and the rest is unchanged.

    With `together`, it is half of all weights, the smaller half of them. The source contains no zeros.
    """
    after, pruned, elements, highest, lowest = tensors(output), 0, 0, 0, 1 << 31
    for name, before in tensors(source).items():
        dropped, sizes = _dropped(before, after[name], name)
        if not name.endswith("weight"):
            assert not dropped.any(), name
            continue
        most = torch.iinfo(sizes.dtype).max
        largest, smallest = int(torch.where(dropped, sizes, 0).max()), int(torch.where(dropped, most, sizes).min())
        if not together:
            assert int(dropped.sum()) == before.numel() // 2, name
            assert largest <= smallest, f"{name}: an element was pruned that is larger than one which stayed"
        pruned, elements = pruned + int(dropped.sum()), elements + before.numel()
        highest, lowest = max(highest, largest), min(lowest, smallest)
    assert pruned == elements // 2, f"{pruned} of {elements} elements are zero"
    assert highest <= lowest or not together, "an element was pruned that is larger than one which stayed"


def check_groups(source: Path, output: Path) -> None:
    """Raise unless the two smaller of every four neighbours in a row are zero, and the rest is unchanged."""
    after = tensors(output)
    for name, before in tensors(source).items():
        dropped, sizes = (each.view(-1, 4) for each in _dropped(before, after[name], name))
        if not name.endswith("weight"):
            assert not dropped.any(), name
            continue
        assert bool((dropped.sum(1) == 2).all()), f"{name}: a group without two zeros"
        largest, smallest = (
            sizes.masked_fill(~dropped, -1).amax(1),
            sizes.masked_fill(dropped, torch.iinfo(sizes.dtype).max).amin(1),
        )
        assert bool((largest <= smallest).all()), f"{name}: an element was pruned that is larger than one which stayed"


def check_with_torch(ours: nn.Module, theirs: nn.Module) -> None:
    """Raise unless the masks of two modules are the same, apart from elements that equal the threshold."""
    pairs = list(zip(_masked(ours), _masked(theirs), strict=True))
    counts = [[int(torch.count_nonzero(mask)) for _, mask in side] for side in zip(*pairs, strict=True)]
    assert sum(counts[0]) == sum(counts[1]), "other counts than torch"
    differing = [weight[mine != other].abs() for (weight, mine), (_, other) in pairs]
    assert np.unique(torch.cat(differing).numpy()).size <= 1, "masks differ at more than one magnitude"


def _masked(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    found = dict(module.named_parameters())
    return [(found[name.replace("_mask", "_orig")].detach(), mask) for name, mask in module.named_buffers()]


def _dropped(before: Tensor, after: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return which elements are +0.0 now, and the bits of all magnitudes before; raise if another one changed."""
    old, new = (each.view(_BITS[each.element_size()]) for each in (before, after))
    dropped = new == 0
    assert bool(((new == old) | dropped).all()), f"{name}: an element changed"
    return dropped, old & torch.iinfo(old.dtype).max
