"""Three pruning methods that only tests know: each a class to enter into the table of methods."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prunecli.core.methods.base import Block, Choice, Method, Scan, Target, TargetGroup
from prunecli.core.raw_elements import Flags, Unsigned


@dataclass(frozen=True)
class _FirstChoice:
    pruned: int
    before: Sequence[int] | None

    def drop(self, block: Block, out: Flags) -> None:
        rank = block.start if self.before is None else self.before[block.index]
        np.less_equal(rank + np.cumsum(block.candidates), self.pruned, out=out)

    def as_dict(self) -> dict[str, Any]:
        return {}


class First(Method):
    """The first candidates of each target."""

    name = "first"

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        return {key: self.replay(target, 0, group.counts[key], {}) for key, target in group.targets.items()}

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        return _FirstChoice(pruned, target.before)


def _magnitudes(weight: Unsigned | None, dtype: str) -> Any:
    """The bits of absolute values as float32, which are in the order of the values."""
    assert weight is not None
    bits = weight.astype(np.uint32) << np.uint32(16 if dtype == "bfloat16" else 0)
    return bits & np.uint32(0x7FFFFFFF)


class _Histogram:
    """How many candidates have each of the upper halves of magnitudes."""

    def __init__(self, dtype: str) -> None:
        self.dtype, self.counts = dtype, np.zeros(1 << 15, np.int64)

    def look(self, block: Block) -> Any:
        found = _magnitudes(block.weight, self.dtype)[block.candidates] >> 16
        return np.bincount(found, minlength=self.counts.size)

    def add(self, found: Any) -> None:
        self.counts = self.counts + found

    def drain(self) -> Any:
        counts, self.counts = self.counts, np.zeros_like(self.counts)
        return counts

    merge = add


class _Within:
    """How many candidates of each block have each of the magnitudes with one upper half."""

    def __init__(self, dtype: str, upper: int) -> None:
        self.dtype, self.upper, self.blocks = dtype, upper, dict[int, dict[int, int]]()

    def look(self, block: Block) -> Any:
        found = _magnitudes(block.weight, self.dtype)[block.candidates]
        values, counts = np.unique(found[found >> 16 == self.upper], return_counts=True)
        return {block.index: dict(zip(values.tolist(), counts.tolist(), strict=True))}

    def add(self, found: Any) -> None:
        assert not set(found) & set(self.blocks)
        self.blocks = self.blocks | found

    def drain(self) -> Any:
        blocks, self.blocks = self.blocks, {}
        return blocks

    merge = add


@dataclass(frozen=True)
class _LargestChoice:
    """All above a threshold, and the first so many of those that are equal to it."""

    pruned: int
    dtype: str
    threshold: int
    equal: int
    before: tuple[int, ...]

    def drop(self, block: Block, out: Flags) -> None:
        found = _magnitudes(block.weight, self.dtype)
        equal = (found == self.threshold) & block.candidates
        ranks = self.before[block.index] + np.cumsum(equal)
        np.logical_or(found > self.threshold, equal & (ranks <= self.equal), out=out)

    def as_dict(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "equal": self.equal, "before": list(self.before)}


class Largest(Method):
    """The largest values of all targets together; of equal ones the first, by key and place."""

    name = "largest"
    reads_values = True

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Any]]) -> Mapping[str, Scan]:
        if not earlier:
            return {key: _Histogram(target.dtype) for key, target in group.targets.items()}
        if len(earlier) > 1:
            return {}
        upper, _ = self._deciding(group, earlier[0])
        return {key: _Within(target.dtype, upper) for key, target in group.targets.items()}

    def _deciding(self, group: TargetGroup, first: Mapping[str, Any]) -> tuple[int, int]:
        """The upper half of the threshold, and how many candidates have a larger one."""
        counts: Any = sum(scan.counts for scan in first.values())
        at_least = np.cumsum(counts[::-1])[::-1]
        upper = int(np.flatnonzero(at_least >= group.global_count)[-1])
        return upper, int(at_least[upper] - counts[upper])

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Any]]) -> Mapping[str, Choice]:
        first, second = scans
        upper, larger = self._deciding(group, first)
        totals: dict[int, int] = {}
        for scan in second.values():
            for values in scan.blocks.values():
                for value, count in values.items():
                    totals[value] = totals.get(value, 0) + count
        left, threshold = group.global_count - larger, 0
        for threshold in sorted(totals, reverse=True):
            if totals[threshold] >= left:
                break
            left -= totals[threshold]
        choices: dict[str, Choice] = {}
        for key in sorted(group.targets):
            above = int(first[key].counts[upper + 1 :].sum())
            blocks = [second[key].blocks[index] for index in sorted(second[key].blocks)]
            above += sum(count for values in blocks for value, count in values.items() if value > threshold)
            ends = np.cumsum([values.get(threshold, 0) for values in blocks]).tolist()
            equal = min(left, ends[-1])
            left -= equal
            dtype = group.targets[key].dtype
            choices[key] = _LargestChoice(above + equal, dtype, threshold, equal, (0, *ends[:-1]))
        return choices

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        before = tuple(map(int, recorded["before"]))
        return _LargestChoice(pruned, target.dtype, int(recorded["threshold"]), int(recorded["equal"]), before)


class _Odd:
    """How many candidates are in odd places along dimension 1."""

    def __init__(self, inner: int) -> None:
        self.inner, self.count = inner, 0

    def look(self, block: Block) -> int:
        return int(np.count_nonzero(block.candidates.reshape(-1, 2, self.inner)[:, 1]))

    def add(self, found: int) -> None:
        self.count += found

    def drain(self) -> int:
        count, self.count = self.count, 0
        return count

    merge = add


@dataclass(frozen=True)
class _SecondChoice:
    pruned: int
    inner: int

    def drop(self, block: Block, out: Flags) -> None:
        out.reshape(-1, 2, self.inner)[:] = [[False], [True]]  # fails if a group is split

    def as_dict(self) -> dict[str, Any]:
        return {}


class Second(Method):
    """Every second slice along dimension 1, whatever the amount."""

    name = "second"

    def granule(self, target: Target) -> int:
        return 2 * math.prod(target.shape[2:])

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Any]]) -> Mapping[str, Scan]:
        return {} if earlier else {key: _Odd(math.prod(each.shape[2:])) for key, each in group.targets.items()}

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Any]]) -> Mapping[str, Choice]:
        return {key: self.replay(target, 0, scans[0][key].count, {}) for key, target in group.targets.items()}

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        return _SecondChoice(pruned, math.prod(target.shape[2:]))


TOYS = {each.name: each for each in (First, Largest, Second)}
