"""Counts, checksums and digests of parameters, gathered in a pass over a checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prunecli.core.accumulate import Accumulators
from prunecli.core.magnitudes import MagnitudeCounter, MagnitudeLook
from prunecli.core.mask_digest import MaskDigest
from prunecli.core.structure.counter import StructureCounter
from prunecli.core.structure.patterns import PatternCounter, PatternLook
from prunecli.core.structure.slices import SliceCounter
from prunecli.formats.base import TensorInfo
from prunecli.formats.io.pieces import Checksum
from prunecli.lean import dataclass

__all__ = ["Counting", "Counts", "KeptCount", "ParameterCounts"]

_ACCUMULATORS = ("kept", "magnitudes", "mask", "patterns", "slices", "structure", "values")
"""The names of the results that are accumulators."""


class KeptCount:
    """The number of elements that a mask keeps."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept = 0

    def add(self, found: int) -> None:
        """Add a block's number."""
        self.kept += found

    merge = add

    def drain(self) -> int | None:
        """Return the number and reset it; None if it is 0."""
        drained, self.kept = self.kept, 0
        return drained or None


@dataclass(frozen=True, slots=True)
class Counting:
    """What to gather for parameters besides their numbers of zeros; parameters of which the same is gathered share one.

    With `cells`: where the zeros are, as a picture with that number of cells per side. With `summed`: the checksum of
    the final values. With `along`: which slices along these dimensions contain only zeros. With `masked`: the digest of
    the mask. With `kept`: how many elements it keeps. With `magnitudes`: whether the smallest values were pruned. With
    `patterns`, which needs `cells`: the N:M patterns of the zeros.
    """

    cells: int | None = None
    summed: bool = False
    along: Sequence[int] | None = None
    masked: bool = False
    kept: bool = False
    magnitudes: MagnitudeLook | None = None
    patterns: PatternLook | None = None

    def places(self, shape: Sequence[int]) -> Sequence[tuple[str, StructureCounter | SliceCounter]]:
        """Return new counters for the positions of a parameter's zeros, by name; mostly none are requested."""
        if self.cells is None and self.along is None:
            return ()
        counters = (("structure", self.structure(shape)), ("slices", self.slices(shape)))
        return [(name, counter) for name, counter in counters if counter is not None]

    def structure(self, shape: Sequence[int]) -> StructureCounter | None:
        """Return a new counter for the positions of a parameter's zeros, None if they are not requested."""
        return None if self.cells is None else StructureCounter(shape, self.cells)

    def slices(self, shape: Sequence[int]) -> SliceCounter | None:
        """Return a new counter for a parameter's zero slices, None if they are not requested."""
        return None if self.along is None else SliceCounter(shape, self.along)


class ParameterCounts:
    """The results for one parameter: its numbers of zeros, and accumulators, None for what is not requested.

    It is an accumulator itself, of findings given as pairs with the name of a result.
    """

    __slots__ = (*_ACCUMULATORS, "zeros", "zeros_before")

    def __init__(self, weight: TensorInfo, counting: Counting) -> None:
        self.zeros = self.zeros_before = 0
        self.structure = counting.structure(weight.shape)
        self.slices = counting.slices(weight.shape)
        self.values = Checksum(weight.elements * weight.dtype.itemsize) if counting.summed else None
        self.mask = MaskDigest() if counting.masked else None
        self.kept = KeptCount() if counting.kept else None
        self.magnitudes = None if counting.magnitudes is None else MagnitudeCounter(counting.magnitudes)
        self.patterns = None if counting.patterns is None else PatternCounter(counting.patterns)

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add the findings of a block."""
        for name, each in found:
            if name == "zeros":
                self._add_zeros(*each)
            else:
                getattr(self, name).add(each)

    def _add_zeros(self, before: int, now: int) -> None:
        self.zeros_before += before
        self.zeros += now

    def drain(self) -> dict[str, Any] | None:
        """Return the drained results by name; None if all are empty."""
        found = {name: getattr(self, name) for name in _ACCUMULATORS}
        drained = {name: part.drain() for name, part in found.items() if part is not None}
        if self.zeros or self.zeros_before:
            drained["zeros"] = [self.zeros_before, self.zeros]
            self.zeros = self.zeros_before = 0
        return {name: each for name, each in drained.items() if each is not None} or None

    def merge(self, drained: Mapping[str, Any]) -> None:
        """Add the results of `drain` for the same parameter."""
        for name, each in drained.items():
            if name == "zeros":
                self._add_zeros(*each)
            else:
                getattr(self, name).merge(each)

    @property
    def crc32(self) -> str | None:
        """The checksum of all values; None if some have not been seen, or no checksum is requested."""
        return f"{self.values.value:08x}" if self.values is not None and self.values.ready else None

    @property
    def mask_sha256(self) -> str | None:
        """The digest of the mask; None if every element is kept."""
        return None if self.mask is None else self.mask.hexdigest()


class Counts(Accumulators):
    """The results for all parameters in one pass.

    Results are added under the name of the parameter that was read. `by_name` has the counts of every parameter; those
    in `shared` have the counts of the parameter that they map to.
    """

    def __init__(self, parts: Mapping[str, ParameterCounts], shared: Mapping[str, str]) -> None:
        super().__init__(parts)
        tied = {name: parts[other] for name, other in shared.items()}
        self.by_name = {**parts, **tied} if tied else parts
