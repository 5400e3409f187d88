"""What happens to bytes on their way from input to output: zero the dropped, make masks, count.

Two ways to see a piece of a storage. Nearly every tensor lies row-major in bytes of its own: its piece is cut at the
blocks of the mask, and each mask block is made once, where it is needed. The others (transposed, channels_last,
several views woven into one storage) are found element by element, with the whole mask in memory for the time being.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunecli.core.random_stream import BLOCK
from prunecli.core.raw_elements import Flags, Unsigned, clear_dropped, fill_mask, is_zero, scale, unsigned
from prunecli.core.structure.counter import StructureCounter, Window
from prunecli.core.structure.slices import SliceTally
from prunecli.formats.base import TensorInfo
from prunecli.formats.crc import crc32
from prunecli.formats.folders.dcp.boxes import Box
from prunecli.formats.folders.dcp.reassembled import box_of
from prunecli.formats.io.pieces import CHUNK, Checksum, CrcRun, Outcome
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.workspace import Workspace

__all__ = [
    "Cleared",
    "CountZeros",
    "StridedRegion",
    "StridedSteps",
    "TensorPass",
    "UpdateMask",
    "WriteMask",
    "ZeroCounts",
    "ZeroDropped",
]


class ZeroCounts:
    """What is found of one parameter, gathered from its blocks in any order: its zeros, before and after.

    If asked for, also where the latter lie (`structure`), the checksum of its values as they come out (`values`), and
    which slices have nothing but zeros (`slices`).
    """

    def __init__(
        self,
        structure: StructureCounter | None = None,
        values: Checksum | None = None,
        slices: SliceTally | None = None,
    ) -> None:
        self.zeros_before = 0
        self.zeros = 0
        self.structure = structure
        self.values = values
        self.slices = slices
        self._lock = threading.Lock()

    def add(self, zeros_before: int, zeros: int) -> None:
        """Take in the counts of a block."""
        with self._lock:
            self.zeros_before += zeros_before
            self.zeros += zeros

    def sum_up(self, run: CrcRun) -> None:
        """Take in the checksum of a run of values."""
        if self.values is not None:
            with self._lock:
                self.values.add(run)

    def take(self) -> dict[str, Any] | None:
        """Hand over what was found, and begin anew: what one process tells another, None if there is nothing."""
        with self._lock:
            counts = [self.zeros_before, self.zeros]
            self.zeros_before = self.zeros = 0
        values = (self.values and self.values.drain()) or []
        structure = None if self.structure is None else self.structure.take()
        slices = None if self.slices is None else self.slices.take()
        if not (any(counts) or values or structure or slices):
            return None
        return {"zeros": counts, "values": values, "structure": structure, "slices": slices}

    def give(self, told: Mapping[str, Any]) -> None:
        """Take in what was handed over."""
        self.add(*told["zeros"])
        if self.values is not None:
            self.values.merge(told["values"])
        if self.structure is not None and told["structure"] is not None:
            self.structure.give(told["structure"])
        if self.slices is not None and told["slices"] is not None:
            self.slices.give(told["slices"])


@dataclass(frozen=True)
class TensorPass:
    """A parameter on its way: the tensor to edit or look at, its final mask, where to count, in which byte order.

    With `box`, the tensor is only that part of the parameter.
    """

    tensor: TensorInfo
    mask: FinalMask
    tally: ZeroCounts
    big_endian: bool
    box: Box | None = None

    def parts(self) -> "Sequence[TensorPass]":
        """Return a job for each part of a tensor that is stored in several, else this one."""
        return [
            replace(
                self,
                tensor=replace(self.tensor, view=part.view, storage=part.storage, parts=()),
                box=box_of(self.tensor, part),
            )
            for part in self.tensor.parts
        ] or [self]

    def elements(self, data: NDArray[np.uint8]) -> Unsigned:
        """See bytes as elements of the tensor."""
        dtype = self.tensor.dtype
        return unsigned(data, dtype.itemsize, big_endian=self.big_endian, paired=dtype.paired)

    def zeros(self, raw: Unsigned, workspace: Workspace) -> Flags:
        """Return which elements of the weight are zero."""
        signed_zero = self.mask.parameter.weight.dtype.signed_zero
        return is_zero(raw, signed_zero=signed_zero, out=workspace.zero.flags(raw.size), room=workspace.room)

    def count(
        self,
        zero: Flags,
        before: Flags | None,
        keep: Flags,
        where: int | NDArray[np.int64],
        *,
        times: int = 1,
        window: Window | None = None,
    ) -> None:
        """Count the zeros that the parameter has with the old mask and with the new one. Uses `zero` up.

        `where` is the first of the elements, or the place of each, in the row-major order of the parameter, or of
        the `window` of it seen as a matrix; each of them counts so many `times`.
        """
        if before is not None:
            _or_not(zero, before)
        was = now = int(np.count_nonzero(zero))
        if not self.mask.trivial:
            _or_not(zero, keep)
            now = int(np.count_nonzero(zero))
        self.tally.add(was * times, now * times)
        for places in (self.tally.structure, self.tally.slices):
            if places is None:
                continue
            if isinstance(where, int):
                places.add(where, zero, window)
            else:
                places.add_at(where, zero)

    def sum_up(self, raw: Unsigned, first: int) -> None:
        """Add the parameter's elements from `first` on, as they come out, to its checksum."""
        if self.tally.values is not None:
            self.tally.sum_up((first * raw.itemsize, crc32(raw.view(np.uint8).data), raw.nbytes))


def _or_not(flags: Flags, others: Flags) -> None:
    """Set `flags` where `others` are not, in place."""
    np.greater_equal(flags, others, out=flags)


class _Blocks(ABC):
    """The common part of contents that see a row-major tensor block by block."""

    workspace = Workspace

    def __init__(self, job: TensorPass) -> None:
        self.job = job
        self.block = BLOCK * job.tensor.dtype.itemsize

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Handle one block."""
        job = self.job
        raw = job.elements(data)
        first = start // job.tensor.dtype.itemsize
        keep = workspace.keep.flags(raw.size)
        before = job.mask.keep(first, keep, workspace)
        if not job.mask.trivial:
            job.mask.digest.add(first, keep)
        return Outcome(self._handle(raw, first, keep, before, workspace))

    @abstractmethod
    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> bool:
        """Do what this content is for; say whether the bytes may have changed."""


class CountZeros(_Blocks):
    """A weight that passes unchanged, its zeros counted."""

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> bool:
        self.job.count(self.job.zeros(raw, workspace), before, keep, first)
        self.job.sum_up(raw, first)
        return False


class ZeroDropped(_Blocks):
    """A weight whose dropped elements become +0.0; a mask that holds more than 0 and 1 is multiplied in first."""

    def __init__(self, job: TensorPass, *, binary: bool) -> None:
        super().__init__(job)
        self._binary = binary

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> bool:
        job = self.job
        if not self._binary:
            dtype = job.tensor.dtype
            scale(raw, job.mask.old.read(first, raw.size, workspace.mask), dtype.half or dtype.name)
        job.count(job.zeros(raw, workspace), before, keep, first)
        clear_dropped(raw, keep)
        job.sum_up(raw, first)
        return True


class Cleared:
    """Optimizer state of a weight: zeroed where the weight is dropped, and not counted."""

    workspace = Workspace

    def __init__(self, job: TensorPass) -> None:
        self._job = job
        self.block = BLOCK * job.tensor.dtype.itemsize

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Handle one block."""
        raw = self._job.elements(data)
        keep = workspace.keep.flags(raw.size)
        self._job.mask.keep(start // self._job.tensor.dtype.itemsize, keep, workspace)
        clear_dropped(raw, keep)
        return Outcome(True)


class UpdateMask(_Blocks):
    """A mask that the file has, with what is drawn now set to zero; the weight is read beside it for the count."""

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> bool:
        _count_beside(self.job, first, keep, before, workspace)
        clear_dropped(raw, keep)
        return True


class WriteMask(_Blocks):
    """A new mask, in the type of its tensor."""

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> bool:
        _count_beside(self.job, first, keep, before, workspace)
        fill_mask(raw, keep, self.job.tensor.dtype.one)
        return True


def _count_beside(job: TensorPass, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> None:
    """Count a weight's zeros from its mask's block, unless the weight is woven and counted where it lies."""
    weight = job.mask.weight
    if weight.tensor.view.row_major:
        raw = weight.read(first, keep.size, workspace.weight)
        job.count(job.zeros(raw, workspace), before, keep, first)
        job.sum_up(raw, first)


class StridedRegion:
    """A run of a storage in which tensors lie that are not row-major, or not alone: found element by element.

    `origin` is where the run begins in the storage, in bytes, a multiple of every element size.
    """

    block = CHUNK
    workspace = Workspace

    def __init__(self, origin: int, length: int, jobs: Sequence[tuple[TensorPass, "StridedSteps"]]) -> None:
        self._origin = origin
        self._jobs = jobs
        self._left = length
        self._lock = threading.Lock()

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Handle the elements of each tensor that lie in this run."""
        changed = False
        for job, action in self._jobs:
            itemsize = job.tensor.dtype.itemsize
            raw = job.elements(data[: data.size // itemsize * itemsize])
            inside, logical = job.tensor.view.place((self._origin + start) // itemsize, raw.size)
            if inside.any():
                own = logical[inside]
                changed |= self._handle(
                    job, action, raw, inside, own if job.box is None else job.box.spread(own), workspace
                )
        with self._lock:
            self._left -= data.size
            if not self._left:
                for job, _ in self._jobs:
                    job.mask.release()
        return Outcome(changed)

    def _handle(
        self,
        job: TensorPass,
        action: "StridedSteps",
        raw: Unsigned,
        inside: Flags,
        logical: NDArray[np.int64],
        workspace: Workspace,
    ) -> bool:
        keep = np.ones(logical.size, dtype=np.bool_) if job.mask.trivial else job.mask.whole()[logical]
        elements = raw[inside]
        if action.scaled:
            dtype = job.tensor.dtype
            scale(elements, job.mask.old.whole()[logical], dtype.half or dtype.name)
        if action.beside:
            before = job.mask.whole_before()
            weight = job.mask.weight.read(int(logical[0]), logical.size, workspace.weight)
            job.count(job.zeros(weight, workspace), None if before is None else before[logical], keep, logical)
            job.sum_up(weight, int(logical[0]))
        if action.counted:
            before = job.mask.whole_before()
            times = job.tensor.view.repeats
            job.count(
                job.zeros(elements, workspace), None if before is None else before[logical], keep, logical, times=times
            )
        if action.cleared:
            clear_dropped(elements, keep)
            raw[inside] = elements
        if action.counted:
            job.sum_up(elements, int(logical[0]))
        return action.cleared


@dataclass(frozen=True, slots=True)
class StridedSteps:
    """What to do to a woven tensor: multiply its mask in, count its zeros, clear what is dropped.

    With `beside`, it is a row-major mask, and the zeros of its row-major weight are counted on the way.
    """

    scaled: bool = False
    counted: bool = True
    cleared: bool = False
    beside: bool = False
