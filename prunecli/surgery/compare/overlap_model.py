"""The overlap of two masks: what both keep, beside what chance gives for their numbers of kept elements."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prunecli import __version__
from prunecli.lean import dataclass
from prunecli.surgery.report.model import CheckpointRef

__all__ = ["OVERLAP_SCHEMA", "Overlap", "OverlapCounts", "OverlapRow", "counts_of", "overlap_as_dict"]

OVERLAP_SCHEMA = "prunecli.overlap/1"


@dataclass(frozen=True, slots=True)
class OverlapCounts:
    """Numbers of elements: kept by both masks, only by the first, only by the second, and by neither.

    `expected` and `variance` are those of the number kept by both, if each mask keeps as many elements of each
    parameter as it does, at positions drawn independently and uniformly: of a hypergeometric distribution.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    expected: float
    variance: float

    @property
    def elements(self) -> int:
        """The number of all elements."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def iou(self) -> float | None:
        """The elements that both keep, as a share of those that at least one keeps; None if none is kept."""
        union = self.both + self.only_a + self.only_b
        return self.both / union if union else None

    @property
    def hamming(self) -> int:
        """The number of elements that exactly one mask keeps."""
        return self.only_a + self.only_b

    @property
    def z_score(self) -> float | None:
        """The distance of the overlap from the expected one, in standard deviations; None if chance has no choice."""
        return (self.both - self.expected) / math.sqrt(self.variance) if self.variance else None


def counts_of(both: int, kept_a: int, kept_b: int, elements: int) -> OverlapCounts:
    """Return the counts of one parameter from the elements that both masks, and that each of them, keep.

    >>> found = counts_of(both=2, kept_a=2, kept_b=2, elements=4)
    >>> found.expected, found.variance, found.iou, found.hamming
    (1.0, 0.3333333333333333, 1.0, 0)
    """
    expected = kept_a * kept_b / elements if elements else 0.0
    ways = kept_a * kept_b * (elements - kept_a) * (elements - kept_b)
    variance = ways / (elements * elements * (elements - 1)) if ways else 0.0
    neither = elements - kept_a - kept_b + both
    return OverlapCounts(both, kept_a - both, kept_b - both, neither, expected, variance)


@dataclass(frozen=True, slots=True)
class OverlapRow:
    """One parameter, under its name in the first source; `name_b` is its name in the second one."""

    name: str
    name_b: str
    shape: tuple[int, ...]
    counts: OverlapCounts
    shared_with: str | None = None
    """The earlier parameter with the same memory in both sources; the totals count only that one."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The masks of one source compared with those of another one, parameter by parameter."""

    a: CheckpointRef
    b: CheckpointRef
    rows: Sequence[OverlapRow]

    @property
    def parameters(self) -> int:
        """The number of parameters that the totals count."""
        return sum(row.shared_with is None for row in self.rows)

    @property
    def totals(self) -> OverlapCounts:
        """Sums over the parameters: chance draws positions within each parameter, independently of the others."""
        own = [row.counts for row in self.rows if row.shared_with is None]
        return OverlapCounts(
            sum(each.both for each in own),
            sum(each.only_a for each in own),
            sum(each.only_b for each in own),
            sum(each.neither for each in own),
            math.fsum(each.expected for each in own),
            math.fsum(each.variance for each in own),
        )


def overlap_as_dict(overlap: Overlap) -> dict[str, Any]:
    """Return an overlap as plain dicts and lists with the published names."""
    return {
        "schema": OVERLAP_SCHEMA,
        "tool": {"name": "prunecli", "version": __version__},
        "a": asdict(overlap.a),
        "b": asdict(overlap.b),
        "totals": {"parameters": overlap.parameters, **_numbers(overlap.totals)},
        "parameters": [
            {
                "name": row.name,
                "name_b": row.name_b,
                "shape": list(row.shape),
                **_numbers(row.counts),
                "shared_with": row.shared_with,
            }
            for row in overlap.rows
        ],
    }


def _numbers(counts: OverlapCounts) -> dict[str, int | float | None]:
    return {
        "elements": counts.elements,
        "kept_by_both": counts.both,
        "kept_by_a_only": counts.only_a,
        "kept_by_b_only": counts.only_b,
        "kept_by_neither": counts.neither,
        "iou": counts.iou,
        "hamming": counts.hamming,
        "expected_by_both": counts.expected,
        "z_score": counts.z_score,
    }
