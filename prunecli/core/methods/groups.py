"""N:M patterns: of every M neighbours along a dimension, the N with the largest numbers are kept, or N at random."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from prunecli.core.group_ranks import count_dropped, drop_smallest
from prunecli.core.methods.base import Block, Choice, Scan, Target, TargetGroup
from prunecli.core.methods.geometry import positive_dim
from prunecli.core.methods.ranked import (
    Numbers,
    Ranked,
    RankingMethod,
    SpecialScan,
    flawed_note,
    negative_note,
    score_settings,
)
from prunecli.core.methods.request import RANDOM, MethodRequest
from prunecli.core.random_stream import stream_key
from prunecli.core.raw_elements import Flags
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.terms import DIM, N_OF_M

__all__ = ["GroupsOf"]

_WIDEST = 1 << 22
"""The most elements from the first of a group to the last of those beside it: they are in memory together."""


@dataclass(frozen=True, slots=True)
class _Grouping:
    """Groups of `size` elements that are `inner` places apart, of which at most `kept` are kept."""

    size: int
    inner: int
    kept: int

    def dropped(self, candidates: Flags) -> int:
        return count_dropped(candidates, size=self.size, inner=self.inner, kept=self.kept)


@dataclass(frozen=True, slots=True)
class _GroupChoice:
    """The smallest of each group; of equal ones, and without `numbers` of all, those with the smallest tie words."""

    pruned: int
    grouping: _Grouping
    numbers: Numbers | None
    tie_key: int

    def drop(self, block: Block, out: Flags) -> None:
        keys = None if self.numbers is None else self.numbers.keys(block)
        size, inner, kept = self.grouping.size, self.grouping.inner, self.grouping.kept
        place = {"tie_key": self.tie_key, "start": block.start}
        drop_smallest(keys, block.candidates, out, size=size, inner=inner, kept=kept, **place)

    def as_dict(self) -> dict[str, Any]:
        return {}


class _GroupScan(SpecialScan):
    """Counts the elements that are dropped, too."""

    def __init__(self, grouping: _Grouping, numbers: Numbers | None) -> None:
        super().__init__(numbers)
        self._grouping = grouping
        self.dropped = 0

    def look(self, block: Block) -> tuple[int, ...]:
        return (*super().look(block), self._grouping.dropped(block.candidates))

    def add(self, found: tuple[int, ...]) -> None:
        super().add(found)
        self.dropped += found[2]

    def drain(self) -> tuple[int, ...]:
        drained = *super().drain(), self.dropped
        self.dropped = 0
        return drained


@dataclass(frozen=True)
class GroupsOf(RankingMethod):
    """An N:M pattern: `kept` of every `size` neighbours along a dimension are kept, or all that are left if fewer are.

    Without a dimension, that is the last one of a matrix, and the inputs of a convolution (dimension 1 of 4 or 5).
    """

    name = "n_of_m"
    counts = "nothing"
    kept: int
    size: int
    dim: int | None = None
    ranked: Ranked | None = None

    @classmethod
    def of(cls, request: MethodRequest) -> Self:
        """Return the pattern of a request, at random or by what the method of the request ranks."""
        request.check_takes("n_of_m", "dim", *score_settings(request))
        if request.n_of_m is None:
            raise ValueError("no N:M pattern is requested")
        return cls(*request.n_of_m, request.dim, None if request.name == RANDOM else Ranked.of(request))

    def compared(self) -> Ranked | None:
        """Return what is compared; None at random."""
        return self.ranked

    def granule(self, target: Target) -> int:
        """Return the number of elements from the first one of a group to the last one of those beside it."""
        return max(self.size * self._grouping(target).inner, 1)

    def check(self, target: Target) -> None:
        """Refuse a target without such groups, or whose numbers have no order."""
        self._grouping(target)
        if self.ranked is not None:
            self.ranked.numbers(target)

    def detail(self, target: Target) -> str:
        """Return the pattern and its dimension."""
        return f"{self.kept}:{self.size} along dimension {self._place(target)}"

    def _place(self, target: Target) -> int:
        """Return the dimension along which the groups of a target lie."""
        count = len(target.shape)
        if self.dim is None and not (count == 2 or 4 <= count <= 5):
            shown = f"{N_OF_M} {self.kept}:{self.size}: {show(target.name)} has {count} dimension{'s' * (count != 1)}"
            raise UsageError(f"{shown}; say along which one the groups lie by {DIM}, or exclude it")
        return positive_dim((1 if self.dim is None else self.dim), target.shape, target.name)

    def _grouping(self, target: Target) -> _Grouping:
        place, shape = self._place(target), target.shape
        if shape[place] % self.size:
            raise UsageError(
                f"{N_OF_M} {self.kept}:{self.size}: dimension {place} of {show(target.name)} has the size "
                f"{shape[place]:,}, which {self.size} does not divide; choose another one by {DIM}, or exclude it"
            )
        inner = math.prod(shape[place + 1 :])
        if self.size * inner > _WIDEST:
            raise UsageError(
                f"{N_OF_M} {self.kept}:{self.size}: a group along dimension {place} of {show(target.name)} lies within "
                f"{self.size * inner:,} elements, and more than {_WIDEST:,} are not compared at once; choose another "
                f"one by {DIM}, or exclude it"
            )
        return _Grouping(self.size, inner, self.kept)

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the only pass: of targets with pruned elements, or numbers that may be special."""
        if earlier:
            return {}
        found: dict[str, Scan] = {}
        for key, target in group.targets.items():
            numbers = None if self.ranked is None else self.ranked.numbers(target)
            if target.before is not None:
                found[key] = _GroupScan(self._grouping(target), numbers)
            elif numbers is not None and numbers.has_special:
                found[key] = SpecialScan(numbers)
        return found

    def notes(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Sequence[str]:
        """Return what the scans found that is special: NaN, and negative scores."""
        found: list[tuple[str, Any]] = [(group.targets[key].name, scan) for each in scans for key, scan in each.items()]
        what = f"NaN is larger than anything, and stays unless more than {self.kept} of {self.size} neighbours are NaN"
        signed = self.ranked is not None and self.ranked.signed
        notes = flawed_note(what, ((name, scan.nans) for name, scan in found))
        return notes + negative_note((name, scan.negative if signed else 0) for name, scan in found)

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choices; there is no amount."""
        counted: dict[str, Any] = {key: scan for each in scans for key, scan in each.items()}
        found: dict[str, Choice] = {}
        for key, target in group.targets.items():
            whole = target.candidates // self.size * (self.size - self.kept)
            dropped = whole if target.before is None else counted[key].dropped
            found[key] = self.replay(target, group.seed, dropped, {})
        return found

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return the choice again; it follows from seed, key and candidates."""
        numbers = None if self.ranked is None else self.ranked.numbers(target)
        key = stream_key(seed, target.key, target.candidates, purpose="prunecli/1/groups")
        return _GroupChoice(pruned, self._grouping(target), numbers, key)
