"""Methods that drop the smallest elements: by magnitude (l1), or by scores that somebody computed (scores).

L1 is `L1Unstructured` of torch, or its `global_unstructured` for a global amount: magnitude pruning as by Han et al.
(2015), "Learning both Weights and Connections for Efficient Neural Networks". The count is exact. If elements are equal
where the smallest end, all sets of them with the right size are equally likely.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from prunecli.core.amount import Amount
from prunecli.core.methods.base import Block, Choice, Method, Scan, Target, TargetGroup
from prunecli.core.methods.patterns import pattern_of
from prunecli.core.methods.ranked import (
    NAN_STAYS,
    Ranked,
    RankingMethod,
    SpecialScan,
    elements_of,
    flawed_note,
    negative_note,
    score_settings,
)
from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.rows import SmallestOfRows
from prunecli.core.methods.slices import replay_slices
from prunecli.core.methods.threshold import Counter, Cut, KeyRange, Pool, TargetShare
from prunecli.core.order import Order, common_orders
from prunecli.core.random_stream import Subset, split, stream_key
from prunecli.core.raw_elements import Flags
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass
from prunecli.terms import METHOD, SCORES

__all__ = ["L1", "Scores", "Smallest"]

_TIES = "prunecli/1/ties"
"""The purpose of the stream that settles ties; part of its definition."""


@dataclass(frozen=True, slots=True)
class _SmallestChoice:
    """All keys below a threshold, and `equal` of the `tied` candidates with that key, drawn from the stream of `key`.

    `before` are the tied candidates before each block, if a draw decides.
    """

    pruned: int
    order: Order
    threshold: int
    equal: int
    tied: int
    before: Sequence[int]
    key: int
    scores: bool
    name: str
    """What messages call the tensor."""

    def drop(self, block: Block, out: Flags) -> None:
        """Write into `out` which elements of a block are dropped.

        Raises:
            UsageError: the block has other elements at the threshold than those that were recorded.
        """
        raw, threshold = elements_of(block, scores=self.scores), self.threshold
        if self.equal == self.tied:
            threshold += self.tied > 0
            if threshold >> 8 * raw.itemsize and not self.order.common:
                out.fill(True)
            else:
                self.order.write_below(raw, threshold, out)
            return
        places = self.order.write_below(raw, threshold, out, block.candidates if self.equal else None)
        if self.equal:
            rank = self.before[block.index] if block.index < len(self.before) else self.tied
            if rank + places.size > self.tied:
                raise UsageError(
                    f"{show(self.name)} has other elements at the threshold than the report records; replay it on the "
                    "checkpoint that it was made from"
                )
            out[places] = Subset(self.key, self.tied, self.equal).span(rank, rank + places.size)

    def as_dict(self) -> dict[str, Any]:
        """Return the data of a record."""
        more: dict[str, Any] = {"keys": self.order.common} if self.order.common else {}
        if 0 < self.equal < self.tied:
            more["before"] = list(self.before)
        return {"threshold": self.threshold, "equal": self.equal, "tied": self.tied, **more}


@dataclass(frozen=True)
class Smallest(RankingMethod):
    """What the methods have in common that drop the smallest of the numbers that they rank."""

    ranked: Ranked = Ranked()

    @classmethod
    def of(cls, request: MethodRequest) -> Method:
        """Return the method, or that of the pattern in a request.

        Raises:
            UsageError: it does not take a setting, or lacks the place of scores.
        """
        if cls.name == "scores" and request.scores is None:
            raise UsageError(f"{METHOD} scores needs {SCORES}, with a score for each element")
        pattern = pattern_of(request)
        if pattern is None:
            request.check_takes(*score_settings(request))
        return pattern or cls(Ranked.of(request))

    def compared(self) -> Ranked:
        """Return what is compared."""
        return self.ranked

    def check(self, target: Target) -> None:
        """Refuse a target whose elements have no order."""
        self.ranked.numbers(target)

    def granule(self, target: Target) -> int:
        """Return the size of a slice if each slice has a number of its own."""
        return 1 if target.slices is None else max(target.slices.size, 1)

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the next pass."""
        if not earlier:
            return self._first(group)
        last = _counters(earlier[-1])
        for name, pool in _pools(last):
            pool.finish()
            left = pool.keys.inside - pool.nans
            if len(earlier) == 1 and pool.count > left:
                raise UsageError(
                    f"cannot prune {pool.count:,} elements of {show(name)}: {pool.nans:,} are NaN, which is not "
                    f"smaller than anything; prune {left:,} at most"
                )
        pools: dict[int, Pool] = {}
        found: dict[str, Scan] = {}
        for key, each in last.items():
            keys, cut = each.pool.next, each.pool.cut
            if keys is None and cut is not None and each.share is None:
                keys = KeyRange(cut.threshold, 0, 0, each.pool.count - cut.equal, cut.tied)
            if keys is not None:
                pool = pools.setdefault(id(each.pool), Pool(each.pool.count, keys, cut))
                found[key] = pool.join(each.order, each.elements, each.name, scores=each.scores)
        return found

    def _first(self, group: TargetGroup) -> dict[str, Scan]:
        targets = {key: target for key, target in group.targets.items() if target.candidates}
        counts = {} if group.global_ else group.counts
        together = group.global_count if group.global_ and targets else 0
        orders = self._orders(group)
        pool: Pool | None = None
        found: dict[str, Scan] = {}
        for key in sorted(targets):
            target, order = targets[key], orders[key]
            if target.slices is not None:
                numbers = self.ranked.numbers(target)
                found |= {key: SpecialScan(numbers)} if numbers.has_special else {}
                continue
            count = together if group.global_ else counts[key]
            if not count:
                continue
            if pool is None or not group.global_:
                left = sum(each.candidates for each in targets.values()) if group.global_ else target.candidates
                pool = Pool(count, KeyRange(0, order.shift, order.bits - order.shift, 0, left))
            found[key] = pool.join(order, target.elements, target.name, scores=self.reads_scores)
        return found

    def _orders(self, group: TargetGroup) -> dict[str, Order]:
        if not group.global_:
            return {key: self.ranked.numbers(target).order for key, target in group.targets.items()}
        types = {target.name: self.ranked.numbers(target).order.dtype for target in group.targets.values()}
        orders = common_orders(types, signed=self.ranked.signed)
        return {key: orders[target.name] for key, target in group.targets.items()}

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choices; of elements equal to a global threshold, targets have shares as of one tensor."""
        found: dict[str, tuple[Cut, TargetShare]] = {}
        orders = self._orders(group)
        for each in scans:
            for key, counter in _counters(each).items():
                counter.pool.finish()
                if counter.pool.cut is not None and counter.share is not None:
                    found[key] = counter.pool.cut, counter.share
        equal = {key: cut.equal for key, (cut, _) in found.items()}
        if group.global_ and found:
            keys = sorted(found)
            tied = [found[key][1].tied for key in keys]
            shares = split(group.seed, tied, equal[keys[0]], name=f"ties {group.name}")
            equal = dict(zip(keys, shares, strict=True))
        choices: dict[str, Choice] = {}
        for key, order in orders.items():
            if key in found:
                cut, share = found[key]
                before, scores = share.before if 0 < equal[key] < share.tied else (), self.reads_scores
                tie_key = stream_key(group.seed, key, share.tied, purpose=_TIES)
                numbers = share.below + equal[key], order, cut.threshold, equal[key], share.tied
                choices[key] = _SmallestChoice(*numbers, before, tie_key, scores, group.targets[key].name)
            else:
                choices[key] = _SmallestChoice(0, order, 0, 0, 0, (), 0, self.reads_scores, group.targets[key].name)
        return choices

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return a recorded choice."""
        if "slices" in recorded:
            return replay_slices(partial(self.choose_slices, target, seed=seed), pruned, recorded)
        order = self.ranked.numbers(target).order
        if "keys" in recorded:
            if recorded["keys"] not in ("float32", "float64"):
                raise ValueError("these are not keys of several types")
            order = Order(order.dtype, order.signed, recorded["keys"])
        threshold, equal, tied = numbers = [recorded[name] for name in ("threshold", "equal", "tied")]
        before = recorded.get("before", [])
        if not isinstance(before, list) or not all(type(each) is int for each in (*numbers, *before)):
            raise ValueError("these are not integers")
        within = 0 <= threshold < 1 << order.bits and 0 <= equal <= min(tied, pruned) and tied <= target.candidates
        if not within or not all(0 <= each <= tied for each in before):
            raise ValueError("the numbers of the record contradict each other")
        key = stream_key(seed, target.key, tied, purpose=_TIES)
        return _SmallestChoice(pruned, order, threshold, equal, tied, before, key, self.reads_scores, target.name)

    def choose_slices(self, target: Target, amounts: Amount | Sequence[int], seed: int) -> Choice:
        """Return the smallest elements of each slice."""
        return SmallestOfRows.of(target, amounts, self.ranked.numbers(target).order, seed, scores=self.reads_scores)

    def notes(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Sequence[str]:
        """Return notes on NaN, and on negative scores."""
        pools = list(_pools(_counters(scans[0]))) if scans else []
        found: list[tuple[str, Pool | SpecialScan]] = [*pools, *_rows(group, scans)]
        nans = flawed_note(NAN_STAYS, ((name, each.nans) for name, each in found))
        return [*nans, *negative_note((name, each.negative if self.ranked.signed else 0) for name, each in found)]


def _counters(scans: Mapping[str, Scan]) -> dict[str, Counter]:
    return {key: scan for key, scan in scans.items() if isinstance(scan, Counter)}


def _rows(group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Iterator[tuple[str, SpecialScan]]:
    """Yield the scans of targets with slices, with their names."""
    for each in scans:
        for key, scan in each.items():
            if isinstance(scan, SpecialScan):
                yield group.targets[key].name, scan


def _pools(counters: Mapping[str, Counter]) -> Iterator[tuple[str, Pool]]:
    """Yield each pool once, with a name for messages."""
    for pool in {id(each.pool): each.pool for each in counters.values()}.values():
        one = len(pool.counters) == 1
        yield pool.counters[0].name if one else f"the {len(pool.counters)} selected parameters together", pool


class L1(Smallest):
    """Magnitude pruning: the smallest absolute values are dropped."""

    name = "l1"


class Scores(Smallest):
    """The smallest scores are dropped: as signed numbers, or by their magnitudes."""

    name = "scores"
