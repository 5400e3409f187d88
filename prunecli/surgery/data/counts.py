"""Counts, checksums and digests of parameters, gathered in a pass over a checkpoint."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prunecli.core.accumulate import Accumulators
from prunecli.core.magnitudes import MagnitudeCounter, MagnitudeLook
from prunecli.core.mask_digest import MaskDigest
from prunecli.core.structure.counter import StructureCounter
from prunecli.core.structure.slices import SliceCounter
from prunecli.formats.base import TensorInfo
from prunecli.formats.io.pieces import Checksum
from prunecli.lean import dataclass

__all__ = ["Counting", "Counts", "KeptCount", "ParameterCounts", "ZeroCounts"]


class ZeroCounts:
    """The numbers of zeros in a parameter, before and after."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before = 0
        self.after = 0

    def add(self, found: Sequence[int]) -> None:
        """Add a block's numbers of zeros, before and after."""
        before, after = found
        self.before += before
        self.after += after

    def drain(self) -> list[int] | None:
        """Return both counts and reset them; None if there are no zeros."""
        drained = [self.before, self.after]
        self.before = self.after = 0
        return drained if any(drained) else None

    def merge(self, drained: Sequence[int]) -> None:
        """Add counts that were drained."""
        self.add(drained)


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
    """What to gather for a parameter besides its number of zeros.

    With `cells`: where the zeros are, as a picture with that number of cells per side. With `summed`: the checksum of
    the final values. With `along`: which slices along these dimensions contain only zeros. With `masked`: the digest of
    the mask. With `kept`: how many elements it keeps. With `magnitudes`: whether the smallest values were pruned.
    """

    weight: TensorInfo
    cells: int | None = None
    summed: bool = False
    along: Sequence[int] | None = None
    masked: bool = False
    kept: bool = False
    magnitudes: MagnitudeLook | None = None

    @property
    def places(self) -> Sequence[tuple[str, StructureCounter | SliceCounter]]:
        """New counters for the positions of its zeros, by name; mostly none are requested."""
        if self.cells is None and self.along is None:
            return ()
        counters = (("structure", self.structure), ("slices", self.slices))
        return [(name, counter) for name, counter in counters if counter is not None]

    @property
    def structure(self) -> StructureCounter | None:
        """A new counter for the positions of its zeros, None if they are not requested."""
        return None if self.cells is None else StructureCounter(self.weight.shape, self.cells)

    @property
    def slices(self) -> SliceCounter | None:
        """A new counter for its zero slices, None if they are not requested."""
        return None if self.along is None else SliceCounter(self.weight.shape, self.along)


class ParameterCounts:
    """The results for one parameter: each is an accumulator, None if it is not requested.

    It is an accumulator itself, of findings given as pairs with the name of a result.
    """

    __slots__ = ("kept", "magnitudes", "mask", "slices", "structure", "values", "zeros")

    def __init__(self, counting: Counting) -> None:
        weight = counting.weight
        self.zeros = ZeroCounts()
        self.structure = counting.structure
        self.slices = counting.slices
        self.values = Checksum(weight.elements * weight.dtype.itemsize) if counting.summed else None
        self.mask = MaskDigest() if counting.masked else None
        self.kept = KeptCount() if counting.kept else None
        self.magnitudes = None if counting.magnitudes is None else MagnitudeCounter(counting.magnitudes)

    def add(self, found: Iterable[tuple[str, Any]]) -> None:
        """Add the findings of a block."""
        for name, each in found:
            getattr(self, name).add(each)

    def drain(self) -> dict[str, Any] | None:
        """Return the drained results by name; None if all are empty."""
        parts = {name: getattr(self, name) for name in ParameterCounts.__slots__}
        drained = {name: part.drain() for name, part in parts.items() if part is not None}
        return {name: each for name, each in drained.items() if each is not None} or None

    def merge(self, drained: Mapping[str, Any]) -> None:
        """Add the results of `drain` for the same parameter."""
        for name, each in drained.items():
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

    def __init__(self, counted: Mapping[str, Counting], shared: Mapping[str, str]) -> None:
        parts = {name: ParameterCounts(counting) for name, counting in counted.items()}
        super().__init__(parts)
        self.by_name = parts | {name: parts[other] for name, other in shared.items()} if shared else parts
