"""The final mask of a parameter, made block by block from the mask in the file and a method's choice."""

import numpy as np

from prunecli.core.block import BLOCK, block_bounds
from prunecli.core.methods.base import Block, Choice
from prunecli.core.raw_elements import Flags, Unsigned, all_true, is_zero, unsigned
from prunecli.core.scratch import Buffer
from prunecli.errors import UnsupportedError, show
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.io.source import ByteSource
from prunecli.formats.io.threads import Once, once_in
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.sums import ReadSums
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["Elements", "FinalMask", "check_scalable"]

_MULTIPLIES = ("float64", "float32", "float16", "bfloat16")
"""Types in which masks with values other than 0 and 1 can be multiplied in, as can complex numbers of two of them."""


class Elements:
    """A tensor's elements in logical, row-major order, read from the file in runs.

    Row-major tensors (nearly all) are read in place. Others are gathered once and kept until `release`: that takes
    memory of their own size, for one tensor at a time. `sums` sum up what is read.
    """

    __slots__ = ("_gathered", "_source", "_sums", "tensor")

    def __init__(self, source: ByteSource, tensor: TensorInfo, sums: ReadSums | None = None) -> None:
        self.tensor = tensor
        self._source = source
        self._sums = sums if sums is not None and sums.expect(tensor) else None
        self._gathered: Once[Unsigned] | None = None

    def read(self, start: int, count: int, buffer: Buffer) -> Unsigned:
        """Return the raw elements `start .. start + count - 1`, shape `(count,)`, read-only.

        They are in the buffer, unless the tensor was gathered.
        """
        if self.tensor.view.row_major:
            return self._stored(self.tensor.view.start + start, count, buffer)
        return self.whole()[start : start + count]

    def whole(self) -> Unsigned:
        """Return all elements, shape `(elements,)`; gathered once."""
        return once_in(self, "_gathered", self._gather).get()

    def release(self) -> None:
        """Free the gathered elements."""
        if self._gathered is not None:
            self._gathered.release()

    def _stored(self, first: int, count: int, buffer: Buffer) -> Unsigned:
        itemsize = self.tensor.dtype.itemsize
        data = buffer.bytes(count * itemsize)
        self._source.read_into(self.tensor.storage.offset + first * itemsize, data.data)
        if self._sums is not None:
            self._sums.add(self.tensor, first * itemsize, data)
        return unsigned(data, itemsize, big_endian=self.tensor.storage.big_endian, paired=self.tensor.dtype.paired)

    def _gather(self) -> Unsigned:
        view, buffer = self.tensor.view, Buffer()
        gathered = unsigned(
            np.empty(view.elements * self.tensor.dtype.itemsize, dtype=np.uint8),
            self.tensor.dtype.itemsize,
            big_endian=self.tensor.storage.big_endian,
            paired=self.tensor.dtype.paired,
        )
        for first in range(view.start, view.stop, BLOCK):
            count = min(BLOCK, view.stop - first)
            inside, logical = view.place(first, count)
            gathered[logical[inside]] = self._stored(first, count, buffer)[inside]
        return gathered


def check_scalable(parameter: Parameter) -> None:
    """Refuse a mask that has values other than 0 and 1 and cannot be multiplied in.

    Raises:
        UnsupportedError: its type differs from the weight's, or cannot be multiplied here.
    """
    mask, weight = parameter.mask, parameter.weight
    if mask is not None and (mask.dtype != weight.dtype or (weight.dtype.half or weight.dtype.name) not in _MULTIPLIES):
        raise UnsupportedError(
            f"the mask of {show(parameter.name)} holds more than 0 and 1, as {mask.dtype.name} over "
            f"{weight.dtype.name}; prunecli multiplies such masks only in the weight's own floating type"
        )


class FinalMask:
    """A parameter's mask after the prune: it keeps what the file's mask kept (all without one) and is not dropped now.

    Without a `choice` nothing is dropped: the mask is that of the file. The method that made the choice may need to
    see values (`reads_values`), `scores`, the flags of another mask (`given`) and whole groups of elements (`granule`).
    With `restored`, everything is kept, whatever the file's mask says.
    """

    __slots__ = (
        "_given",
        "_granule",
        "_held",
        "_old",
        "_reads_values",
        "_scores",
        "_source",
        "_whole",
        "_whole_before",
        "_woven",
        "_zeros_are_pruned",
        "choice",
        "parameter",
        "restored",
    )

    def __init__(
        self,
        source: ByteSource,
        parameter: Parameter,
        choice: Choice | None = None,
        *,
        zeros_are_pruned: bool = False,
        reads_values: bool = False,
        granule: int = 1,
        restored: bool = False,
        given: KeptFlags | None = None,
        scores: tuple[Layout, TensorInfo] | None = None,
    ) -> None:
        self.parameter = parameter
        self.choice = choice
        self.restored = restored
        self._old = Elements(source, parameter.mask) if parameter.mask else None
        self._source = source
        self._woven = None if parameter.weight.view.row_major else Elements(source, parameter.weight)
        self._zeros_are_pruned = zeros_are_pruned
        self._reads_values = reads_values
        self._granule = granule
        self._given = given
        self._scores = None if scores is None else Elements(scores[0].source, scores[1])
        self._whole: Once[Flags] | None = None
        self._whole_before: Once[Flags] | None = None
        self._held: Flags | None = None

    @property
    def trivial(self) -> bool:
        """Whether everything is kept: no mask in the file, and nothing chosen."""
        return self._old is None and self.choice is None

    @property
    def weight(self) -> Elements:
        """The elements of the weight in the file; those of a row-major weight keep nothing, and are made on demand."""
        return self._woven or Elements(self._source, self.parameter.weight)

    @property
    def old(self) -> Elements:
        """The elements of the mask in the file."""
        if self._old is None:
            raise ValueError(f"{self.parameter.name} has no mask in the file")
        return self._old

    def before(self, start: int, count: int, workspace: Workspace) -> Flags | None:
        """Return which elements the file's mask keeps; None without a mask."""
        if self._old is None:
            return None
        signed_zero = self._old.tensor.dtype.signed_zero
        out = workspace.before.flags(count)
        is_zero(self._old.read(start, count, workspace.mask), signed_zero=signed_zero, out=out, room=workspace.room)
        np.logical_not(out, out=out)
        return out

    def bounds(self, index: int) -> tuple[int, int]:
        """Return where block `index` of the method begins and ends; both are multiples of the granule."""
        return block_bounds(index, self._granule, self.parameter.weight.elements)

    def block(self, index: int, workspace: Workspace, weight: Unsigned | None = None) -> tuple[Block, Flags | None]:
        """Return block `index` of the method, and what `before` returns for it; the weight is read if not given."""
        start, stop = self.bounds(index)
        before = self.before(start, stop - start, workspace)
        candidates = all_true(stop - start) if before is None else before
        given = None
        if self._given is not None:
            given = workspace.allowed.flags(stop - start)
            self._given.read(start, given, workspace)
        if weight is None and (self._zeros_are_pruned or self._reads_values):
            weight = self.weight.read(start, stop - start, workspace.weight)
        if self._zeros_are_pruned and weight is not None:
            signed_zero = self.parameter.weight.dtype.signed_zero
            zero = workspace.candidates.flags(weight.size)
            is_zero(weight, signed_zero=signed_zero, out=zero, room=workspace.room)
            candidates = np.greater(candidates, zero, out=zero)
        scores = None
        if self._scores is not None:
            scores = self._scores.read(start, stop - start, workspace.scores)
        return Block(index, start, candidates, weight if self._reads_values else None, given, scores), before

    def keep(self, start: int, out: Flags, workspace: Workspace, weight: Unsigned | None = None) -> Flags | None:
        """Write into `out` which elements are kept, beginning at `start`, a multiple of `BLOCK`.

        `weight` are these elements of the weight in the file, if they are in memory. Returns what `before` returns.
        """
        if self.choice is None or self._held is not None:
            before = self.before(start, out.size, workspace)
            kept = before if self._held is None else self._held[start : start + out.size]
            np.copyto(out, True if kept is None or self.restored else kept)
            return before
        stop, index = start + out.size, start // BLOCK
        if self.bounds(index) == (start, stop):
            return self._keep(self.choice, index, out, workspace, weight)
        while index and self.bounds(index)[0] > start:
            index -= 1
        while self.bounds(index)[0] < stop:
            low, high = self.bounds(index)
            first, last = max(start, low), min(stop, high)
            if first < last:
                whole = workspace.block.flags(high - low)
                self._keep(self.choice, index, whole, workspace)
                out[first - start : last - start] = whole[first - low : last - low]
            index += 1
        return self.before(start, out.size, workspace)

    def _keep(
        self, choice: Choice, index: int, out: Flags, workspace: Workspace, weight: Unsigned | None = None
    ) -> Flags | None:
        """Write into `out` which elements of the method's block `index` are kept; return what `before` returns."""
        if self._given is not None and not self._zeros_are_pruned:  # what the choice would do, in one step
            start, _ = self.bounds(index)
            self._given.read(start, out, workspace)
            before = self.before(start, out.size, workspace)
            if before is not None:
                np.logical_and(out, before, out=out)
            return before
        block, before = self.block(index, workspace, weight)
        choice.drop(block, out)
        if before is None and not self._zeros_are_pruned:  # all are candidates
            np.logical_not(out, out=out)
        else:
            np.greater(block.candidates, out, out=out)
        return before

    def whole(self) -> Flags:
        """Return the mask of all elements in logical order, computed once; for tensors that are not row-major."""
        return once_in(self, "_whole", self._make_whole).get() if self._held is None else self._held

    def hold(self) -> None:
        """Compute the mask of all elements now, and keep it even after `release`."""
        self._held = self.whole()

    def whole_before(self) -> Flags | None:
        """Return which of all elements the file's mask keeps, computed once; None without a mask."""
        return None if self._old is None else once_in(self, "_whole_before", self._make_whole_before).get()

    def release(self) -> None:
        """Free the masks of all elements."""
        for each in (self._whole, self._whole_before, self._woven, self._old, self._given, self._scores):
            if each is not None:
                each.release()

    def _make_whole(self) -> Flags:
        whole, workspace = np.empty(self.parameter.weight.elements, dtype=np.bool_), Workspace()
        for start in range(0, whole.size, BLOCK):
            self.keep(start, whole[start : start + BLOCK], workspace)
        return whole

    def _make_whole_before(self) -> Flags:
        whole, workspace = np.empty(self.parameter.weight.elements, dtype=np.bool_), Workspace()
        for start in range(0, whole.size, BLOCK):
            part = whole[start : start + BLOCK]
            before = self.before(start, part.size, workspace)
            if before is not None:
                np.copyto(part, before)
        return whole
