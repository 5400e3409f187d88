"""Contents that work on the bytes of tensors between input and output: zero dropped elements, make masks, count.

A piece of a storage is handled in one of two ways. Nearly every tensor is row-major and shares no bytes: its piece is
cut at the blocks of the mask, and each block of the mask is computed once, where it is needed. The others (transposed,
channels_last, several views of one storage) are handled element by element, with the whole mask in memory meanwhile.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.mask_digest import MaskDigest
from prunecli.core.raw_elements import Flags, Unsigned, clear_dropped, count_zeros, fill_mask, scale, unsigned
from prunecli.core.rescale import rescale
from prunecli.core.structure.counter import Window
from prunecli.errors import UsageError, show
from prunecli.formats.base import TensorInfo
from prunecli.formats.crc import crc32
from prunecli.formats.folders.dcp.boxes import Box
from prunecli.formats.folders.dcp.reassembled import box_of
from prunecli.formats.io.pieces import CHUNK, Outcome
from prunecli.lean import dataclass
from prunecli.surgery.data.counts import Counting
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.workspace import Workspace
from prunecli.terms import RESCALE

__all__ = [
    "BlockPass",
    "Cleared",
    "CountZeros",
    "ScaledZeroDropped",
    "StridedRegion",
    "StridedSteps",
    "TensorPass",
    "UpdateMask",
    "WriteMask",
    "ZeroDropped",
]

Findings = list[tuple[str, Any]]
"""The results of a block of a parameter, each with the name of its accumulator in `ParameterCounts`."""


@dataclass(frozen=True, slots=True)
class TensorPass:
    """A tensor that is edited or counted in a pass, the final mask of its parameter, and what to gather for that.

    With `box`, the tensor is only that part of the parameter. What is kept of a baked weight is multiplied by `factor`.
    """

    tensor: TensorInfo
    mask: FinalMask
    counting: Counting
    box: Box | None = None
    factor: float = 1.0

    def parts(self) -> Sequence[Self]:
        """Return a pass for each part of a tensor that is stored in parts, else only this one."""
        return [
            replace(
                self,
                tensor=replace(self.tensor, view=part.view, storage=part.storage, parts=()),
                box=box_of(self.tensor, part),
            )
            for part in self.tensor.parts
        ] or [self]

    def elements(self, data: NDArray[np.uint8]) -> Unsigned:
        """Return bytes as elements of the tensor, in the same memory."""
        dtype, swapped = self.tensor.dtype, self.tensor.storage.big_endian
        return unsigned(data, dtype.itemsize, big_endian=swapped, paired=dtype.paired)

    def count(
        self,
        raw: Unsigned,
        before: Flags | None,
        keep: Flags,
        where: int | NDArray[np.int64],
        workspace: Workspace,
        *,
        times: int = 1,
        window: Window | None = None,
        clear: bool = False,
    ) -> Findings:
        """Return the numbers of zeros among elements of the weight, with the old mask and with the new one.

        `where` is the index of the first element, or the index of each, in the row-major order of the parameter, or of
        the `window` of the parameter as a matrix. Each element counts `times` times. With `clear`, elements that are
        not kept are zeroed once they are counted. `keep` may have any values if the mask is trivial.
        """
        places = self.counting.places(self.mask.parameter.weight.shape)
        zero = workspace.zero.flags(raw.size)
        signed_zero = self.mask.parameter.weight.dtype.signed_zero
        everything = self.mask.trivial or self.mask.restored
        masked = None
        if self.mask.restored:  # more is kept than before, which one count does not allow
            masked, _ = count_zeros(raw, zero, workspace.room, signed_zero=signed_zero, before=before, flags=False)
            before = None
        was, now = count_zeros(
            raw,
            zero,
            workspace.room,
            signed_zero=signed_zero,
            before=before,
            keep=None if everything else keep,
            clear=clear,
            flags=bool(places),
        )
        was = was if masked is None else masked
        found: Findings = [("zeros", (was * times, now * times))]
        for name, counter in places:
            looked = counter.look(where, zero, window) if isinstance(where, int) else counter.look_at(where, zero)
            found.append((name, looked))
        if self.counting.magnitudes is not None:
            found.append(("magnitudes", self.counting.magnitudes.look(raw, zero if before is None else before)))
        patterns = self.counting.patterns
        if patterns is not None:
            own = patterns.look(where, zero, window) if isinstance(where, int) else patterns.look_at(where, zero)
            found.append(("patterns", own))
        return found

    def rescale(self, raw: Unsigned) -> None:
        """Multiply elements of the weight, of which the dropped ones are zero, by the factor.

        Raises:
            UsageError: the product of one is too large for its type.
        """
        dtype = self.tensor.dtype
        if self.factor != 1.0 and not rescale(raw, self.factor, dtype.half or dtype.name):
            raise UsageError(
                f"{RESCALE} multiplies {show(self.mask.parameter.name)} by {self.factor:.6g}, and an element is then "
                f"too large for {dtype.name}; prune less of it, or leave it out"
            )

    def sum_up(self, raw: Unsigned, first: int) -> Findings:
        """Return the checksum of the parameter's final elements from `first` on."""
        if not self.counting.summed:
            return []
        return [("values", (first * raw.itemsize, crc32(raw), raw.nbytes))]

    def sum_beside(self, raw: Unsigned, first: int) -> Findings:
        """As `sum_up`, for a weight that is not changed, and that the rewrite copies elsewhere.

        If the file records the checksum of exactly the weight's bytes, that is it: copying them, the rewrite checks it.
        """
        weight = self.mask.parameter.weight
        storage = weight.storage
        if storage.crc is None or weight.span != (0, storage.nbytes) or not self.counting.summed:
            return self.sum_up(raw, first)
        return [] if first else [("values", (0, storage.crc, storage.nbytes))]

    def digest(self, keep: Flags, first: int) -> Findings:
        """Return what is gathered of the mask, of the elements that begin at `first`, a multiple of `BLOCK`."""
        if not self.counting.masked:
            return []
        kept: Findings = [("kept", int(np.count_nonzero(keep)))] if self.counting.kept else []
        starts = range(0, keep.size, BLOCK)
        return kept + [("mask", MaskDigest.look(first + start, keep[start : start + BLOCK])) for start in starts]

    def outcome(self, changed: bool, found: Findings, *, sums_own: bool = False) -> Outcome:
        """Return the results under the parameter's name; `sums_own`: its checksum is that of the handled bytes."""
        crc = found[-1][1][1] if sums_own and found and found[-1][0] == "values" else None
        return Outcome(changed, [(self.mask.parameter.name, found)] if found else None, crc)


class BlockPass(TensorPass, ABC):
    """The base of passes that are the content of a row-major tensor that shares no bytes, as nearly all do."""

    __slots__ = ()
    workspace = Workspace
    changes = True
    sums_own = True
    is_weight = False
    """Whether its tensor is the weight, whose values a method may need."""

    @property
    def block(self) -> int:
        """The size of a block in bytes."""
        return BLOCK * self.tensor.dtype.itemsize

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Handle one block."""
        raw = self.elements(data)
        first = start // self.tensor.dtype.itemsize
        keep = workspace.keep.flags(raw.size)
        weight = raw if self.is_weight else None
        before = None if self.mask.trivial else self.mask.keep(first, keep, workspace, weight)
        found = self.digest(keep, first) + self._handle(raw, first, keep, before, workspace)
        return self.outcome(self.changes, found, sums_own=self.sums_own)

    @abstractmethod
    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        """Carry out this content's edit of a block, and return the results."""


class CountZeros(BlockPass):
    """A weight that is copied unchanged while its zeros are counted."""

    __slots__ = ()
    changes = False
    is_weight = True

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        return self.count(raw, before, keep, first, workspace) + self.sum_up(raw, first)


class ZeroDropped(BlockPass):
    """A weight whose dropped elements become +0.0."""

    __slots__ = ()
    is_weight = True

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        found = self.count(raw, before, keep, first, workspace, clear=True)
        self.rescale(raw)
        return found + self.sum_up(raw, first)


class ScaledZeroDropped(ZeroDropped):
    """As `ZeroDropped`, for a mask with values other than 0 and 1, which is multiplied in first."""

    __slots__ = ()

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        dtype = self.tensor.dtype
        scale(raw, self.mask.old.read(first, raw.size, workspace.mask), dtype.half or dtype.name)
        return ZeroDropped._handle(self, raw, first, keep, before, workspace)


class Cleared(BlockPass):
    """Optimizer state of a weight: zeroed where the weight is dropped, and not counted."""

    __slots__ = ()

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        if not self.mask.trivial:
            clear_dropped(raw, keep)
        return []


class UpdateMask(BlockPass):
    """A mask in the file that becomes zero where the final mask drops; its weight is read alongside to be counted."""

    __slots__ = ()
    sums_own = False

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        clear_dropped(raw, keep)
        return _count_beside(self, first, keep, before, workspace)


class WriteMask(BlockPass):
    """A new mask with the type of its tensor."""

    __slots__ = ()
    sums_own = False

    def _handle(self, raw: Unsigned, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
        fill_mask(raw, keep, self.tensor.dtype.one)
        return _count_beside(self, first, keep, before, workspace)


def _count_beside(job: TensorPass, first: int, keep: Flags, before: Flags | None, workspace: Workspace) -> Findings:
    """Count a row-major weight's zeros along with a block of its mask; other weights are counted in their storage."""
    if not job.mask.parameter.weight.view.row_major:
        return []
    raw = job.mask.weight.read(first, keep.size, workspace.weight)
    return job.count(raw, before, keep, first, workspace) + job.sum_beside(raw, first)


class StridedRegion:
    """A run of a storage whose tensors are not row-major or share bytes; they are handled element by element.

    `origin` is the byte offset of the run in the storage, a multiple of every element size.
    """

    block = CHUNK
    workspace = Workspace

    def __init__(self, origin: int, length: int, jobs: Sequence[tuple[TensorPass, "StridedSteps"]]) -> None:
        self._origin = origin
        self._jobs = jobs
        self._length = self._left = length
        self._lock = threading.Lock()

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Handle the elements of each tensor that lie in this run."""
        changed, found = False, list[tuple[str, Findings]]()
        for job, steps in self._jobs:
            if not start and job.counting.masked:
                found.append((job.mask.parameter.name, job.digest(job.mask.whole(), 0)))
            itemsize = job.tensor.dtype.itemsize
            raw = job.elements(data[: data.size // itemsize * itemsize])
            inside, logical = job.tensor.view.place((self._origin + start) // itemsize, raw.size)
            if inside.any():
                changed |= steps.cleared
                own = logical[inside]
                where = own if job.box is None else job.box.spread(own)
                found.append((job.mask.parameter.name, self._handle(job, steps, raw, inside, where, workspace)))
        self._note(data.size)
        return Outcome(changed, found)

    def _note(self, done: int) -> None:
        """Free the whole masks when the entire run is done."""
        with self._lock:
            self._left -= done
            if not self._left:
                self._left = self._length
                for job, _ in self._jobs:
                    job.mask.release()

    def _handle(
        self,
        job: TensorPass,
        steps: "StridedSteps",
        raw: Unsigned,
        inside: Flags,
        logical: NDArray[np.int64],
        workspace: Workspace,
    ) -> Findings:
        keep = np.ones(logical.size, dtype=np.bool_) if job.mask.trivial else job.mask.whole()[logical]
        elements, found = raw[inside], Findings()
        if steps.scaled:
            dtype = job.tensor.dtype
            scale(elements, job.mask.old.whole()[logical], dtype.half or dtype.name)
        whole_before = job.mask.whole_before() if steps.beside or steps.counted else None
        before = None if whole_before is None else whole_before[logical]
        if steps.beside:
            weight = job.mask.weight.read(int(logical[0]), logical.size, workspace.weight)
            found += job.count(weight, before, keep, logical, workspace)
            found += job.sum_up(weight, int(logical[0]))
        if steps.counted:
            found += job.count(elements, before, keep, logical, workspace, times=job.tensor.view.repeats)
        if steps.cleared:
            clear_dropped(elements, keep)
            job.rescale(elements)
            raw[inside] = elements
        if steps.counted:
            found += job.sum_up(elements, int(logical[0]))
        return found


@dataclass(frozen=True, slots=True)
class StridedSteps:
    """What to do to a tensor in a strided region: multiply its mask in, count its zeros, clear dropped elements.

    With `beside`, the tensor is a row-major mask, and the zeros of its row-major weight are counted along with it.
    """

    scaled: bool = False
    counted: bool = True
    cleared: bool = False
    beside: bool = False
