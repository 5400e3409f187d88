"""The random method: a uniform choice of an exact number of elements, drawn from the random stream by seed and key."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Block, Choice, Method, Scan, Target, TargetGroup
from prunecli.core.methods.patterns import pattern_of
from prunecli.core.methods.request import RANDOM, MethodRequest
from prunecli.core.methods.slices import SlicedDraw, replay_slices
from prunecli.core.random_stream import Subset, split, stream_key
from prunecli.core.raw_elements import Flags
from prunecli.lean import dataclass

__all__ = ["Random"]


@dataclass(frozen=True, slots=True)
class _RandomChoice(Subset):
    """A subset of the candidates, with the number of candidates before each block (None if all are candidates)."""

    before: Sequence[int] | None = None

    @property
    def pruned(self) -> int:
        return self.amount

    def drop(self, block: Block, out: Flags) -> None:
        if self.before is None:
            self.draw(block.start, out)
            return
        rank, places = self.before[block.index], np.flatnonzero(block.candidates)
        out.fill(False)
        out[places] = self.span(rank, rank + places.size)

    def as_dict(self) -> dict[str, Any]:
        return {}


class Random(Method):
    """Random pruning: all sets of candidates with the requested size are equally likely."""

    name = RANDOM

    @classmethod
    def of(cls, request: MethodRequest) -> Method:
        """Return the method, or that of the pattern in a request."""
        pattern = pattern_of(request)
        if pattern is None:
            request.check_takes()
        return pattern or cls()

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the drawn choices; a global amount is split over the targets as if they were one tensor."""
        counts = self._split(group) if group.global_ else group.counts
        return {key: self.replay(target, group.seed, counts[key], {}) for key, target in group.targets.items()}

    def _split(self, group: TargetGroup) -> dict[str, int]:
        keys = sorted(group.targets)
        candidates = [group.targets[key].candidates for key in keys]
        return dict(zip(keys, split(group.seed, candidates, group.global_count, name=group.name), strict=True))

    def choose_slices(self, target: Target, amounts: Amount | Sequence[int], seed: int) -> Choice:
        """Return a draw from each slice, as from a tensor with the name of the slice."""
        slices = target.slices
        if slices is None:
            raise ValueError(f"{target.key} has no slices")
        each = slices.choose(amounts, target.name)
        return SlicedDraw(seed, target.key, slices, each, target.before, slices.record(amounts))

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return a draw of `pruned` elements of a target, or of those of each slice that are recorded."""
        if "slices" in recorded:
            return replay_slices(partial(self.choose_slices, target, seed=seed), pruned, recorded)
        key = stream_key(seed, target.key, target.candidates)
        return _RandomChoice(key, target.candidates, pruned, target.before)
