"""Methods that drop whole units of a tensor, slices or blocks: at random, or those with the smallest sums.

A unit is a candidate if one of its elements is unpruned. Sums are computed in the order of a fixed binary tree over
runs of elements: they are the same to the bit in any order of blocks, with any number of threads, files and ranks. If a
tensor has very many units, what is known of each of them is not kept (`many_units`).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import starmap
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from prunecli.core.amount import Amount
from prunecli.core.block import BLOCK
from prunecli.core.methods.base import Block, Choice, Scan, Target, TargetGroup
from prunecli.core.methods.geometry import Combine, Geometry, UnitSums, joined
from prunecli.core.methods.many_units import BandScan, ManyUnits, Range, packed
from prunecli.core.methods.ranked import Numbers, Ranked, RankingMethod, flawed_note, negative_note
from prunecli.core.random_stream import Subset, stream_key
from prunecli.core.raw_elements import Flags
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["Measure", "UnitChoice", "UnitMethod", "UnitScan"]

_RUN = 1 << 17
"""Elements whose sums are computed at once: the leaves of the tree. Part of the definition of sums."""

_MOST_UNITS = 1 << 20
"""The number of units from which a pass has no further targets: what is known of each unit takes memory.

Of targets with more units, that is not kept if their bands have at most `_LONGEST_BAND` elements.
"""
_LONGEST_BAND = 1 << 20

_FLAGS = "units"
"""The field of a record with the flags of the dropped units, 8 to a byte, the first in the highest bit."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is computed of a unit: the sum or maximum (`combine`) of a function of its numbers (`each`, in place)."""

    ranked: Ranked
    combine: Combine = np.add
    each: Callable[[Doubles, Doubles], Any] | None = None


_Found = tuple[int, UnitSums | None, UnitSums | None, int]


@dataclass(frozen=True, slots=True)
class UnitChoice:
    """The units of a tensor whose flags are set in `dropped`, 8 to a byte, with `pruned` candidates in all."""

    pruned: int
    geometry: Geometry
    dropped: bytes

    def drop(self, block: Block, out: Flags) -> None:
        """Write into `out` which elements of a block are dropped."""
        self.geometry.spread(self.flags, block.start, out)

    def flags(self, first: int, stop: int) -> Flags:
        """Return the flags of the units `first .. stop - 1`."""
        begin = first // 8
        some = np.frombuffer(self.dropped, np.uint8, -(-stop // 8) - begin, begin)
        return np.unpackbits(some).view(np.bool_)[first - 8 * begin : stop - 8 * begin]

    def elements(self) -> int:
        """Return the number of elements of the dropped units."""
        parts = _parts(self.geometry.count)
        return sum(self.geometry.elements(self.flags(start, stop), start) for start, stop in parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the flags in hexadecimal digits."""
        return {_FLAGS: self.dropped.hex()}


class _Tree:
    """Sums of runs, combined in the order of a binary tree over their numbers, in whatever order they come."""

    def __init__(self, count: int, combine: Combine) -> None:
        self._nodes: dict[tuple[int, int], UnitSums] = {}
        """Sums by level and number; the node n of level l + 1 has the nodes 2n and 2n + 1 of level l below it."""
        self._join = partial(joined, count=count, combine=combine)

    def add(self, number: int, sums: UnitSums, level: int = 0) -> None:
        """Add the sums of a run, or of a node."""
        while (level, number ^ 1) in self._nodes:
            other = self._nodes.pop((level, number ^ 1))
            sums = self._join(other, sums) if number % 2 else self._join(sums, other)
            level, number = level + 1, number // 2
        self._nodes[level, number] = sums

    def drain(self) -> list[tuple[int, UnitSums, int]]:
        """Return the arguments of `add` for each node, and reset."""
        nodes, self._nodes = self._nodes, {}
        return [(number, sums, level) for (level, number), sums in nodes.items()]

    def total(self) -> UnitSums | None:
        """Return the sums of all runs, None without any."""
        ordered = sorted(self._nodes, key=lambda place: place[1] << place[0])
        return reduce(self._join, map(self._nodes.__getitem__, ordered)) if ordered else None


class UnitScan:
    """Finds the sums of units by a `measure`, and with `counted` the number of candidates of each unit."""

    def __init__(self, geometry: Geometry, measure: Measure | None, numbers: Numbers | None, *, counted: bool) -> None:
        self._geometry, self._measure, self._numbers, self._counted = geometry, measure, numbers, counted
        self._combine: Combine = measure.combine if measure else np.add
        self._sums = _Tree(geometry.count, self._combine)
        self._counts = _Tree(geometry.count, np.add)
        self.choice: Choice | None = None
        """What follows from the sums, once they are no longer needed."""
        self.nans = self.negative = 0
        """Units that contain NaN, and negative scores."""

    @np.errstate(over="ignore", invalid="ignore")
    def look(self, block: Block) -> _Found:
        """Return the index of a block, the sums and the candidates of its units, and the number of negative scores."""
        count, negative = self._geometry.count, 0
        sums, counts = _Tree(count, self._combine), _Tree(count, np.add)
        for number, start in enumerate(range(0, block.candidates.size, _RUN)):
            run, place = slice(start, start + _RUN), block.start + start
            if self._measure is not None and self._numbers is not None:
                values, found = _measured(self._measure, self._numbers, block, run, counted=self._counted)
                negative += found
                sums.add(number, self._geometry.sums(place, values, self._combine))
            if self._counted:
                counts.add(number, self._geometry.sums(place, block.candidates[run].astype(np.int64), np.add))
        return block.index, sums.total(), counts.total(), negative

    def add(self, found: _Found) -> None:
        """Add a block."""
        index, sums, counts, negative = found
        if sums is not None:
            self._sums.add(index, sums)
        if counts is not None:
            self._counts.add(index, counts)
        self.negative += negative

    def drain(self) -> Any:
        """Return the nodes of both trees, and reset."""
        drained = self._sums.drain(), self._counts.drain(), self.negative
        self.negative = 0
        return drained if drained[0] or drained[1] else None

    def merge(self, drained: Any) -> None:
        """Add drained nodes."""
        for tree, nodes in zip((self._sums, self._counts), drained[:2], strict=True):
            for node in nodes:
                tree.add(*node)
        self.negative += drained[2]

    def found(self) -> tuple[Doubles | None, NDArray[np.int64] | None]:
        """Return the sums of all units, and their candidates, and forget them; None for what was not asked for."""
        sums = _everything(self._sums, self._geometry.count, np.float64) if self._measure else None
        self.nans = 0 if sums is None else int(np.count_nonzero(np.isnan(sums)))
        return sums, _everything(self._counts, self._geometry.count, np.int64) if self._counted else None


def _measured(measure: Measure, numbers: Numbers, block: Block, run: slice, *, counted: bool) -> tuple[Doubles, int]:
    """Return what is combined of a run of a block, and how many of its numbers are negative."""
    values = numbers.values(block, run)
    if counted:
        values[~block.candidates[run]] = 0.0
    negative = int(np.count_nonzero(values < 0))
    if measure.each is not None:
        measure.each(values, values)
    return values, negative


def _everything(tree: _Tree, count: int, dtype: type) -> NDArray[Any]:
    """Return the sums of all units, and reset the tree."""
    found = tree.total()
    tree.drain()
    return np.zeros(count, dtype) if found is None else found.values  # the first run begins with the first unit


class _PrunedScan:
    """Counts the candidates in the units that a choice drops."""

    def __init__(self, geometry: Geometry, dropped: bytes) -> None:
        self._choice = UnitChoice(0, geometry, dropped)
        self._pruned = 0
        self.nans = self.negative = 0

    def look(self, block: Block) -> int:
        """Return the number of a block."""
        dropped = np.empty(block.candidates.size, np.bool_)
        self._choice.drop(block, dropped)
        return int(np.count_nonzero(dropped & block.candidates))

    def add(self, found: int) -> None:
        """Add a number."""
        self._pruned += found

    merge = add

    def drain(self) -> int | None:
        """Return the sum, and reset it."""
        drained, self._pruned = self._pruned, 0
        return drained or None

    @property
    def choice(self) -> Choice:
        """The choice, with its number of pruned elements."""
        return replace(self._choice, pruned=self._pruned)


class UnitMethod(RankingMethod):
    """A method that drops units: those with the smallest sums by its `measure`; at random without one.

    An amount counts the candidates among the units. Elements that are pruned already do not count in sums.
    """

    counts = "units"
    units: ClassVar[str]
    """What the units are called in notes."""
    measure: Measure | None

    @abstractmethod
    def geometry(self, target: Target) -> Geometry:
        """Return the units of a target.

        Raises:
            UsageError: it does not have them.
        """

    def compared(self) -> Ranked | None:
        """Return the numbers whose sums are compared; None if units are chosen at random."""
        return None if self.measure is None else self.measure.ranked

    def check(self, target: Target) -> None:
        """Refuse a target without these units, or whose numbers have no order."""
        self.geometry(target)
        if self.measure is not None:
            self.measure.ranked.numbers(target)

    def detail(self, target: Target) -> str:
        """Return what the units of a target are."""
        return self.geometry(target).what

    def granule(self, target: Target) -> int:
        """Return the size of a band if what is known of each unit is not kept."""
        geometry = self.geometry(target)
        return geometry.band if _has_many(geometry) else 1

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of some more targets; what the last pass found is settled, so that it takes no memory."""
        found = self._settle(group, earlier)
        done = {key for scans in earlier for key in scans}
        units = 0
        for key, target in group.targets.items():
            counted = target.before is not None
            if units < _MOST_UNITS and key not in done and (counted or self.measure is not None):
                geometry = self.geometry(target)
                if _has_many(geometry):
                    found[key] = BandScan(self._many(group, target, geometry), Range(), last=self.measure is None)
                else:
                    numbers = self.measure.ranked.numbers(target) if self.measure is not None else None
                    found[key] = UnitScan(geometry, self.measure, numbers, counted=counted)
                units += geometry.count
        return found

    def _settle(self, group: TargetGroup, passes: Sequence[Mapping[str, Any]]) -> dict[str, Scan]:
        """Make the choices that the last pass led to; return the scans of targets that need a further pass."""
        found: dict[str, Scan] = {}
        for key, scan in passes[-1].items() if passes else ():
            target = group.targets[key]
            if isinstance(scan, BandScan) and scan.choice is None:
                further = scan.advance()
                if further is not None:
                    found[key] = further
                elif scan.dropped is not None and target.before is not None:
                    found[key] = _PrunedScan(self.geometry(target), scan.dropped)
                elif scan.dropped is not None:
                    scan.choice = _whole_choice(self.geometry(target), scan.dropped)
            elif isinstance(scan, UnitScan) and scan.choice is None:
                scan.choice = self._chosen(target, group, *scan.found())
        return found

    def _many(self, group: TargetGroup, target: Target, geometry: Geometry) -> ManyUnits:
        """Return what is computed of a target whose units are too many to keep their sums."""
        measure, counted = self.measure, target.before is not None
        purpose = "prunecli/1/units" if measure is None else "prunecli/1/ties"
        return ManyUnits(
            geometry,
            target.elements,
            _RUN,
            np.add if measure is None else measure.combine,
            counted,
            None if measure is None else partial(_measured, measure, measure.ranked.numbers(target), counted=counted),
            partial(_count, group.amount, target, geometry),
            partial(_draw, partial(stream_key, group.seed, target.key, purpose=purpose)),
        )

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choices that the scans led to; units of targets without a scan are chosen here.

        Raises:
            UsageError: there are fewer units than are to be dropped, or too few without NaN.
        """
        self._settle(group, scans)
        settled: dict[str, Any] = {key: scan for each in scans for key, scan in each.items()}
        return {
            key: settled[key].choice if key in settled else self._chosen(target, group, None, None)
            for key, target in group.targets.items()
        }

    def notes(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Sequence[str]:
        """Return what the scans found that is special: NaN, and negative scores."""
        found: list[tuple[str, Any]] = [(group.targets[key].name, scan) for each in scans for key, scan in each.items()]
        if self.measure is None or not found:
            return ()
        what = f"{self.units} that contain NaN are kept"
        notes = flawed_note(what, ((name, scan.nans) for name, scan in found))
        signed = self.measure.ranked.signed
        return notes + negative_note((name, scan.negative if signed else 0) for name, scan in found)

    def _chosen(
        self, target: Target, group: TargetGroup, sums: Doubles | None, counts: NDArray[np.int64] | None
    ) -> Choice:
        """Return the choice for a target, given the sums and candidates of its units."""
        geometry, key = self.geometry(target), partial(stream_key, group.seed, target.key)
        if counts is None and sums is None:
            many, left = self._many(group, target, geometry), geometry.count
            return _whole_choice(geometry, packed(starmap(many.draw(left, many.amount(left, 0)), _parts(left))))
        places = slice(None) if counts is None else np.flatnonzero(counts)
        left = geometry.count if counts is None else int(np.count_nonzero(counts))
        values = None if sums is None else sums[places]
        nans = 0 if values is None else int(np.count_nonzero(np.isnan(values)))
        amount = _count(group.amount, target, geometry, left, nans)
        dropped = np.zeros(geometry.count, dtype=np.bool_)
        dropped[places] = _smallest(values, left, amount, key)
        pruned = geometry.elements(dropped) if counts is None else int(counts[dropped].sum())
        return UnitChoice(pruned, geometry, np.packbits(dropped).tobytes())

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return the choice with the recorded flags."""
        geometry, dropped = self.geometry(target), bytes.fromhex(recorded[_FLAGS])
        if len(dropped) != -(-geometry.count // 8):
            raise ValueError(f"{len(dropped)} bytes of flags for {geometry.count} {geometry.what}")
        choice = UnitChoice(pruned, geometry, dropped)
        if target.before is None and pruned != choice.elements():
            raise ValueError(f"flags of other than {pruned} elements")
        return choice


def _parts(count: int) -> Iterator[tuple[int, int]]:
    """Yield where parts of some units begin and end that take little memory."""
    return ((start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


def _has_many(geometry: Geometry) -> bool:
    """Whether what is known of each unit would take much memory, and need not be kept."""
    return geometry.count > _MOST_UNITS and geometry.band <= _LONGEST_BAND


def _whole_choice(geometry: Geometry, dropped: bytes) -> Choice:
    """Return the choice of units all elements of which are candidates."""
    choice = UnitChoice(0, geometry, dropped)
    return replace(choice, pruned=choice.elements())


def _draw(key: Callable[[int], int], left: int, amount: int) -> Callable[[int, int], Flags]:
    """Return a function that draws some of equal units: from one rank to another."""
    return Subset(key(left), left, amount).span


def _count(amount: Amount, target: Target, geometry: Geometry, left: int, nans: int) -> int:
    """Return how many of the candidate units an amount prunes; fractions are rounded half to even, as in torch."""
    count = round(amount * left) if isinstance(amount, float) else amount
    if count > left:
        raise UsageError(f"cannot prune {count:,} {geometry.what} of {show(target.name)}: {left:,} are left unpruned")
    if count > left - nans:
        raise UsageError(
            f"cannot prune {count:,} {geometry.what} of {show(target.name)}: {nans:,} of {left:,} contain NaN, "
            "which is not smaller than anything"
        )
    return count


def _smallest(values: Doubles | None, left: int, amount: int, key: Callable[..., int]) -> Flags:
    """Return the flags of the units with the smallest values, of equal ones at random; all are equal without values."""
    if values is None:
        return Subset(key(left, purpose="prunecli/1/units"), left, amount).span(0, left)
    if not amount:
        return np.zeros(left, dtype=np.bool_)
    threshold = float(np.partition(values, amount - 1)[amount - 1])  # NaN comes last
    chosen: Flags = values < threshold
    tied = np.flatnonzero(values == threshold)
    wanted = amount - int(np.count_nonzero(chosen))
    chosen[tied[Subset(key(tied.size, purpose="prunecli/1/ties"), tied.size, wanted).span(0, tied.size)]] = True
    return chosen
