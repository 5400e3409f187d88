"""Choices of methods for tensors in memory, block by block, as for a file: the same scans, the same choice."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from prunecli.core.amount import Amount
from prunecli.core.block import BLOCK, block_bounds
from prunecli.core.methods.base import Block, Method, Scan, Target, TargetGroup
from prunecli.core.raw_elements import Flags, Unsigned, all_true, unsigned
from prunecli.lean import dataclass
from prunecli.modules.masks import all_ones, nonzero_flags

__all__ = ["Candidates", "keep_flags"]


@dataclass(frozen=True, slots=True)
class Candidates:
    """A tensor whose values a method compares, and its mask, whose zeros were pruned before. `name` is for messages."""

    name: str
    values: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class _Elements:
    """A target with its elements and flags; `before` is None if nothing was pruned before."""

    target: Target
    raw: Unsigned
    before: Flags | None
    granule: int

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks that have elements."""
        for index in range(-(-self.raw.size // BLOCK)):
            low, high = block_bounds(index, self.granule, self.raw.size)
            if low < high:
                candidates = all_true(high - low) if self.before is None else self.before[low:high]
                yield Block(index, low, candidates, self.raw[low:high])


def keep_flags(
    method: Method, tensors: Mapping[str, Candidates], amount: Amount, seed: int, *, everywhere: bool = False
) -> dict[str, Flags]:
    """Return which elements of each tensor are kept, shape `(elements,)` in row-major order; what was pruned is not.

    `tensors` are by the keys of their random streams. With `everywhere`, the amount is that of all of them together.
    The method compares weights, or draws; values on other devices are copied.

    Raises:
        UsageError: a type has no order, a dimension is not there, or the amount is more than is left.
    """
    elements = {key: _elements(method, key, each) for key, each in tensors.items()}
    group = TargetGroup({key: each.target for key, each in elements.items()}, amount, everywhere, seed)
    passes: list[Mapping[str, Scan]] = []
    while scans := method.scans(group, passes):
        for key, scan in scans.items():
            for block in elements[key].blocks():
                scan.add(scan.look(block))
        passes.append(scans)
    choices = method.choose(group, passes)
    kept = {}
    for key, each in elements.items():
        kept[key] = keep = np.empty(each.raw.size, np.bool_)
        for block in each.blocks():
            part = keep[block.start : block.start + block.candidates.size]
            choices[key].drop(block, part)
            np.greater(block.candidates, part, out=part)
    return kept


def _elements(method: Method, key: str, given: Candidates) -> _Elements:
    values, dtype = given.values.detach(), str(given.values.dtype).removeprefix("torch.")
    target = Target(key, given.name, tuple(values.shape), dtype, values.numel())
    method.check(target)
    before, counts = None, None
    granule = method.granule(target)
    if not all_ones(given.mask):
        before = nonzero_flags(given.mask.detach()).view(-1).numpy()
        bounds = [block_bounds(index, granule, before.size) for index in range(-(-before.size // BLOCK))]
        ends = np.cumsum([np.count_nonzero(before[low:high]) for low, high in bounds], dtype=np.int64).tolist()
        counts = ends[-1] if ends else 0
        target = Target(key, given.name, target.shape, dtype, counts, [0, *ends[:-1]])
    raw = values.cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return _Elements(target, unsigned(raw, values.element_size(), paired=values.is_complex()), before, granule)
