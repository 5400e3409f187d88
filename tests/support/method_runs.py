"""Run a pruning method on whole tensors by hand: in blocks of any size and order, and in several parts."""

import json
import pickle
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Block, Method, Scan, Target, TargetGroup

Bools = NDArray[np.bool_]


def raw(tensor: Tensor) -> Any:
    """The elements as unsigned integers, in one dimension."""
    size = tensor.element_size()
    if tensor.is_complex():
        return torch.view_as_real(tensor.contiguous()).numpy().reshape(-1).view(np.dtype([("r", "u4"), ("i", "u4")]))
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    return tensor.contiguous().view(integers).numpy().reshape(-1).view(f"u{size}")


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


class MethodRun:
    """A method on tensors by name; `before` are masks that they have, `scores` their scores."""

    def __init__(
        self,
        method: Method,
        tensors: Mapping[str, Tensor],
        amount: Amount = 0,
        *,
        before: Mapping[str, Bools] | None = None,
        scores: Mapping[str, Tensor] | None = None,
        block: int = 64,
        seed: int = 7,
    ) -> None:
        self.method, self.block, self.before = method, block, before or {}
        self.raw = {key: raw(tensor) for key, tensor in tensors.items()}
        self.scores = {key: raw(tensor) for key, tensor in (scores or {}).items()}
        self.targets: dict[str, Target] = {}
        for key, tensor in tensors.items():
            kind = dtype_of(scores[key]) if scores else None
            target = Target(key, key, tuple(tensor.shape), dtype_of(tensor), tensor.numel(), scores_dtype=kind)
            if key in self.before:
                left = [int(each.candidates.sum()) for each in self.blocks(target)]
                ends = np.cumsum(left).tolist()
                target = replace(target, candidates=sum(left), before=[0, *ends[:-1]])
            self.targets[key] = target
        self.group = TargetGroup(self.targets, amount, False, seed)
        self.notes: list[str] = []

    def blocks(self, target: Target) -> Iterator[Block]:
        """The blocks of a target, cut as the engine cuts them."""
        granule, size = self.method.granule(target), self.raw[target.key].size
        left = self.before.get(target.key, np.ones(size, np.bool_)).reshape(-1)
        for index in range(-(-size // self.block)):
            low, high = (min(-(-end * self.block // granule) * granule, size) for end in (index, index + 1))
            if low < high:
                values = self.raw[target.key][low:high] if self.method.reads_values else None
                scores = self.scores[target.key][low:high] if self.method.reads_scores else None
                yield Block(index, low, left[low:high], values, None, scores)

    def _feed(self, scan: Scan, key: str, order: int) -> None:
        """Feed all blocks of a target to a scan."""
        dice, drained = random.Random(order), []  # noqa: S311 - any order will do
        for part in (0, 1):
            blocks = [each for each in self.blocks(self.targets[key]) if hash((order, each.index)) % 2 == part]
            dice.shuffle(blocks)
            for block in blocks:
                scan.add(scan.look(block))
            drained.append(pickle.dumps(scan.drain()))
        for each in drained if order % 2 else drained[::-1]:
            if (entry := pickle.loads(each)) is not None:
                scan.merge(entry)

    def keep(self, order: int = 0) -> dict[str, Bools]:
        """The masks: True where an element is kept. `order` shuffles the blocks, and how they lie on two machines."""
        for target in self.targets.values():
            self.method.check(target)
        passes: list[Mapping[str, Scan]] = []
        while scans := self.method.scans(self.group, passes):
            for key, scan in scans.items():
                self._feed(scan, key, order)
            passes.append(scans)
        choices = self.method.choose(self.group, passes)
        self.notes = list(self.method.notes(self.group, passes))
        found = {}
        for key, target in self.targets.items():
            record = json.loads(json.dumps(choices[key].as_dict()))
            again = self.method.replay(target, self.group.seed, choices[key].pruned, record)
            out = np.zeros(self.raw[key].size, np.bool_)
            for block in self.blocks(target):
                flags = np.empty(block.candidates.size, np.bool_)
                for choice in (again, choices[key]):
                    flags[:] = order % 2
                    choice.drop(block, flags)
                    part = out[block.start : block.start + flags.size]
                    assert choice is again or np.array_equal(part, block.candidates & ~flags)
                    part[:] = block.candidates & ~flags
            before = int(np.count_nonzero(self.before.get(key, np.ones(out.size))))
            assert choices[key].pruned == before - int(out.sum())
            found[key] = out.reshape(target.shape)
        return found


def only(method: Method, tensor: Tensor, amount: Amount = 0, **options: Any) -> Bools:
    """The mask of one tensor; `before` and `scores` are those of the tensor."""
    options |= {name: {"w": options[name]} for name in ("before", "scores") if name in options}
    order = options.pop("order", 0)
    return MethodRun(method, {"w": tensor}, amount, **options).keep(order)["w"]
