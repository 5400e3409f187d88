"""LAMP: one amount over all layers, divided by scores that compare weights of different layers, then l1 in each.

The score of a weight is its square divided by the sum of the squares of all weights of its layer that are not smaller
(Lee et al. 2021, "Layer-adaptive Sparsity for the Magnitude-based Pruning"). So the order within a layer is that of
magnitudes, and the scores only decide how many weights of each layer are dropped. That follows from histograms of the
layers. Where these are too coarse, further passes divide the segments that can contain the threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from prunecli.core.methods.base import Choice, Method, Scan, TargetGroup
from prunecli.core.methods.ranked import NAN_STAYS, Ranked, flawed_note
from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.segments import Doubles, LayerScan
from prunecli.core.methods.smallest import Smallest
from prunecli.core.random_stream import split
from prunecli.errors import UsageError

__all__ = ["Lamp"]


class Lamp(Smallest):
    """Magnitude pruning with one amount over all layers, which LAMP scores divide."""

    name = "lamp"
    needs_global = True

    @classmethod
    def of(cls, request: MethodRequest) -> Method:
        """Return the method, which takes no settings."""
        request.check_takes()
        return cls(Ranked())

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the next pass: of layers until their numbers are known, then those of l1."""
        own = [layers for each in earlier if (layers := _layers(each))]
        if len(own) < len(earlier):
            return super().scans(self._divided(group, own), earlier[len(own) :])
        if not earlier:
            found: dict[str, Scan] = {}
            everything = np.zeros(1, np.uint64)
            for key in sorted(group.targets) if group.global_count else ():
                target = group.targets[key]
                if target.candidates:
                    order = self.ranked.numbers(target).order
                    found[key] = LayerScan(order, target.elements, everything, order.bits)
            return found
        more = self._more(group, own)
        return more or super().scans(self._divided(group, own), ())

    def _more(self, group: TargetGroup, own: Sequence[Mapping[str, LayerScan]]) -> dict[str, Scan]:
        """Return scans that divide the segments in which the threshold can be; none if the numbers are known."""
        latest = {key: scan for each in own for key, scan in each.items()}
        segments = [scan.segments for scan in latest.values()]
        bounds = [
            each.scores(scan.order, group.targets[key].name)
            for each, (key, scan) in zip(segments, latest.items(), strict=True)
        ]
        lows, highs = (np.concatenate([each[side] for each in bounds]) for side in (0, 1))
        counts = np.concatenate([each.sums[0] for each in segments]).astype(np.int64)
        wanted, left = group.global_count, int(counts.sum())
        if wanted > left:
            nans = sum(scan.nans for scan in own[0].values())
            raise UsageError(
                f"cannot prune {wanted:,} elements of the {len(latest)} selected parameters together: {nans:,} are "
                f"NaN, which is not smaller than anything; prune {left:,} at most"
            )
        least, most = _reached(lows, counts, wanted), _reached(highs, counts, wanted)
        deciding = (highs >= least) & (lows <= most) & (np.concatenate([each.shift for each in segments]) > 0)
        sizes = [each.first.size for each in segments]
        if deciding.any():
            parts = zip(latest.items(), np.split(deciding, np.add.accumulate(sizes)[:-1]), strict=True)
            return {key: scan.divided(part) for (key, scan), part in parts if part.any()}
        numbers = _numbers(group, sizes, counts, highs, most)
        for each in own:
            for scan in each.values():
                scan.release()
        next(iter(own[0].values())).counts = dict(zip(latest, numbers, strict=True))
        return {}

    def _divided(self, group: TargetGroup, own: Sequence[Mapping[str, LayerScan]]) -> TargetGroup:
        """Return the group with the number of elements to prune of each layer, instead of one amount."""
        counts = next((scan.counts for each in own[:1] for scan in each.values() if scan.counts is not None), {})
        given = dict.fromkeys(group.targets, 0) | (counts or {})
        return replace(group, amount=0, global_=False, given=given)

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choices of l1 with these numbers."""
        own = [layers for each in scans if (layers := _layers(each))]
        return super().choose(self._divided(group, own), scans[len(own) :])

    def notes(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Sequence[str]:
        """Return a note on NaN."""
        first = _layers(scans[0]) if scans else {}
        return flawed_note(NAN_STAYS, ((group.targets[key].name, scan.nans) for key, scan in first.items()))


def _layers(scans: Mapping[str, Scan]) -> dict[str, LayerScan]:
    return {key: scan for key, scan in scans.items() if isinstance(scan, LayerScan)}


def _reached(scores: Doubles, counts: NDArray[np.int64], wanted: int) -> float:
    """Return the least score up to which there are as many elements as are wanted."""
    places = np.argsort(scores, kind="stable")
    return float(scores[places[np.searchsorted(np.add.accumulate(counts[places]), wanted)]])


def _numbers(
    group: TargetGroup, sizes: Sequence[int], counts: NDArray[np.int64], scores: Doubles, threshold: float
) -> list[int]:
    """Return how many elements of each layer have scores below a threshold, and its share of those that equal it.

    `sizes` are the numbers of segments of the layers, `counts` those of elements of the segments.
    """
    layers = np.repeat(np.arange(len(sizes)), sizes)
    below, tied = (
        np.bincount(layers[chosen], counts[chosen], len(sizes)).astype(np.int64).tolist()
        for chosen in (scores < threshold, scores == threshold)
    )
    shares = split(group.seed, tied, group.global_count - sum(below), name=f"lamp {group.name}")
    return [count + share for count, share in zip(below, shares, strict=True)]
