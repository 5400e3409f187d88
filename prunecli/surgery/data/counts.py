"""What a pass over a checkpoint finds of its parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunecli.core.accumulate import Accumulators
from prunecli.core.mask_digest import MaskDigest
from prunecli.core.structure.counter import StructureCounter
from prunecli.core.structure.slices import SliceCounter
from prunecli.formats.base import TensorInfo
from prunecli.formats.io.pieces import Checksum

__all__ = ["Counting", "Counts", "ParameterCounts", "ZeroCounts"]


class ZeroCounts:
    """The zeros of a parameter, before and after."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.before = 0
        self.after = 0

    def add(self, found: Sequence[int]) -> None:
        """Add the zeros of a block, before and after."""
        before, after = found
        self.before += before
        self.after += after

    def drain(self) -> list[int] | None:
        """Return both counts, and start anew; None if there are no zeros."""
        drained = [self.before, self.after]
        self.before = self.after = 0
        return drained if any(drained) else None

    def merge(self, drained: Sequence[int]) -> None:
        """Add counts that were drained."""
        self.add(drained)


@dataclass(frozen=True, slots=True)
class Counting:
    """What is to be found of a parameter beside its zeros.

    With `cells`, where they are, as a picture of so many cells a side; with `summed`, the checksum of its values as
    they come out; with `along`, which of its slices along these dimensions have nothing but zeros; with `masked`, the
    digest of its mask.
    """

    weight: TensorInfo
    cells: int | None = None
    summed: bool = False
    along: Sequence[int] | None = None
    masked: bool = False

    @property
    def structure(self) -> StructureCounter | None:
        """A new counter of where its zeros are."""
        return None if self.cells is None else StructureCounter(self.weight.shape, self.cells)

    @property
    def slices(self) -> SliceCounter | None:
        """A new counter of its slices."""
        return None if self.along is None else SliceCounter(self.weight.shape, self.along)


class ParameterCounts(Accumulators):
    """What is found of one parameter: each of them an accumulator, None if it is not asked for."""

    __slots__ = ("mask", "slices", "structure", "values", "zeros")

    def __init__(self, counting: Counting) -> None:
        weight = counting.weight
        self.zeros = ZeroCounts()
        self.structure = counting.structure
        self.slices = counting.slices
        self.values = Checksum(weight.elements * weight.dtype.itemsize) if counting.summed else None
        self.mask = MaskDigest() if counting.masked else None
        parts = {name: getattr(self, name) for name in ParameterCounts.__slots__}
        super().__init__({name: part for name, part in parts.items() if part is not None})

    @property
    def crc32(self) -> str | None:
        """The checksum of all values; None if some have not been seen, or are not summed."""
        return f"{self.values.value:08x}" if self.values is not None and self.values.ready else None

    @property
    def mask_sha256(self) -> str | None:
        """The digest of the mask; None where everything is kept."""
        return None if self.mask is None else self.mask.hexdigest()


class Counts(Accumulators):
    """What is found of all parameters in one pass.

    It is added by the name of the parameter that was looked at. `by_name` has the counts of every parameter: of those
    that are `shared`, the ones of another.
    """

    def __init__(self, counted: Mapping[str, Counting], shared: Mapping[str, str]) -> None:
        parts = {name: ParameterCounts(counting) for name, counting in counted.items()}
        super().__init__(parts)
        self.by_name = parts | {name: parts[other] for name, other in shared.items()}
