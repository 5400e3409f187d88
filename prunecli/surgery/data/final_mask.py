"""The mask that a parameter ends up with, made block by block from what the file has and what the stream draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prunecli.core.once import Once
from prunecli.core.random_stream import BLOCK, Subset
from prunecli.core.raw_elements import Flags, MaskDigest, Unsigned, is_one, is_zero, unsigned
from prunecli.core.scratch import Buffer
from prunecli.errors import UnsupportedError, show
from prunecli.formats.base import TensorInfo
from prunecli.formats.io.source import ByteSource
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["CandidateCount", "Elements", "FinalMask", "check_scalable", "scan_candidates"]

_MULTIPLIES = ("float64", "float32", "float16", "bfloat16")
"""Types whose masks are multiplied in if they hold more than 0 and 1, and complex numbers of two of them."""


class Elements:
    """A tensor's elements in logical, row-major order, read from the file in runs.

    Row-major tensors, all but a few, are read where they lie. Others are gathered whole once and kept until
    `release`: that costs memory of their own size, for one tensor at a time.
    """

    def __init__(self, source: ByteSource, tensor: TensorInfo, *, big_endian: bool) -> None:
        self.tensor = tensor
        self._source = source
        self._big_endian = big_endian
        self._gathered = Once(self._gather)

    def read(self, start: int, count: int, buffer: Buffer) -> Unsigned:
        """Return the raw elements `start .. start + count - 1`, shape `(count,)`, to be read only.

        They lie in the buffer, unless they were gathered.
        """
        if self.tensor.view.row_major:
            return self._stored(self.tensor.view.start + start, count, buffer)
        return self.whole()[start : start + count]

    def whole(self) -> Unsigned:
        """Return all elements, shape `(elements,)`; gathered once."""
        return self._gathered.get()

    def release(self) -> None:
        """Forget what was gathered."""
        self._gathered.release()

    def _stored(self, first: int, count: int, buffer: Buffer) -> Unsigned:
        itemsize = self.tensor.dtype.itemsize
        data = buffer.bytes(count * itemsize)
        self._source.read_into(self.tensor.storage.offset + first * itemsize, data.data)
        return unsigned(data, itemsize, big_endian=self._big_endian, paired=self.tensor.dtype.paired)

    def _gather(self) -> Unsigned:
        view, buffer = self.tensor.view, Buffer()
        gathered = unsigned(
            np.empty(view.elements * self.tensor.dtype.itemsize, dtype=np.uint8),
            self.tensor.dtype.itemsize,
            big_endian=self._big_endian,
            paired=self.tensor.dtype.paired,
        )
        for first in range(view.start, view.stop, BLOCK):
            count = min(BLOCK, view.stop - first)
            inside, logical = view.place(first, count)
            gathered[logical[inside]] = self._stored(first, count, buffer)[inside]
        return gathered


@dataclass(frozen=True, slots=True)
class CandidateCount:
    """What a pass over a parameter's mask (and, if asked, its zeros) found before anything is drawn.

    `ranks[b]` is the number of candidates before block b; `binary` that the mask holds nothing but 0 and 1.
    """

    candidates: int
    ranks: Sequence[int] | None
    binary: bool = True
    digest: str = ""


def scan_candidates(
    source: ByteSource, parameter: Parameter, *, big_endian: bool, zeros_are_pruned: bool
) -> CandidateCount:
    """Count a parameter's candidates: all elements if it has no mask, without reading any; else a pass over it."""
    elements = parameter.weight.elements
    if parameter.mask is None and not zeros_are_pruned:
        return CandidateCount(elements, None)
    mask = FinalMask(source, parameter, None, big_endian=big_endian, zeros_are_pruned=zeros_are_pruned)
    one = parameter.mask.dtype.one if parameter.mask else 1
    digest = MaskDigest()
    ranks, total, binary, workspace = [], 0, True, Workspace()
    for start in range(0, elements, BLOCK):
        count = min(BLOCK, elements - start)
        candidates = workspace.candidates.flags(count)
        mask.candidates(start, candidates, workspace)
        if parameter.mask is not None:
            raw = mask.old.read(start, count, workspace.mask)
            binary = binary and int(np.count_nonzero(is_one(raw, one))) == int(np.count_nonzero(raw))
        digest.add(start, candidates)
        ranks.append(total)
        total += int(np.count_nonzero(candidates))
    mask.release()
    return CandidateCount(total, ranks, binary, digest.hexdigest())


def check_scalable(parameter: Parameter) -> None:
    """Refuse a mask that holds more than 0 and 1 and cannot be multiplied in.

    Raises:
        UnsupportedError: it is of another type than the weight, or of one that is not multiplied here.
    """
    mask, weight = parameter.mask, parameter.weight
    if mask is not None and (mask.dtype != weight.dtype or (weight.dtype.half or weight.dtype.name) not in _MULTIPLIES):
        raise UnsupportedError(
            f"the mask of {show(parameter.name)} holds more than 0 and 1, as {mask.dtype.name} over "
            f"{weight.dtype.name}; prunecli multiplies such masks only in the weight's own floating type"
        )


class FinalMask:
    """A parameter's mask after the prune: kept before (by its mask, or all), and not drawn now.

    With `subset` None nothing is drawn: the mask as it stands in the file. `ranks` comes from the census.
    """

    def __init__(
        self,
        source: ByteSource,
        parameter: Parameter,
        subset: Subset | None,
        ranks: Sequence[int] | None = None,
        *,
        big_endian: bool,
        zeros_are_pruned: bool = False,
    ) -> None:
        self.parameter = parameter
        self.subset = subset
        self.digest = MaskDigest()
        self._ranks = ranks
        self._old = Elements(source, parameter.mask, big_endian=big_endian) if parameter.mask else None
        self.weight = Elements(source, parameter.weight, big_endian=big_endian)
        self._zeros_are_pruned = zeros_are_pruned
        self._whole = Once(self._make_whole)
        self._whole_before = Once(self._make_whole_before)

    @property
    def trivial(self) -> bool:
        """Whether everything is kept: no mask in the file, and nothing drawn."""
        return self._old is None and self.subset is None

    @property
    def old(self) -> Elements:
        """The mask that the file has."""
        if self._old is None:
            raise ValueError(f"{self.parameter.name} has no mask in the file")
        return self._old

    def before(self, start: int, count: int, workspace: Workspace) -> Flags | None:
        """Return what the file's mask keeps; None where there is no mask."""
        if self._old is None:
            return None
        signed_zero = self._old.tensor.dtype.signed_zero
        out = workspace.before.flags(count)
        is_zero(self._old.read(start, count, workspace.mask), signed_zero=signed_zero, out=out, room=workspace.room)
        np.logical_not(out, out=out)
        return out

    def candidates(self, start: int, out: Flags, workspace: Workspace) -> Flags | None:
        """Write into `out` which elements may be drawn; return what `before` returns for them."""
        before = self.before(start, out.size, workspace)
        if before is None:
            out.fill(True)
        else:
            np.copyto(out, before)
        if self._zeros_are_pruned:
            raw = self.weight.read(start, out.size, workspace.weight)
            signed_zero = self.weight.tensor.dtype.signed_zero
            zero = is_zero(raw, signed_zero=signed_zero, out=workspace.zero.flags(out.size), room=workspace.room)
            np.greater(out, zero, out=out)
        return before

    def keep(self, start: int, out: Flags, workspace: Workspace) -> Flags | None:
        """Write into `out` what is kept of the elements from `start`, a multiple of `BLOCK`, on.

        Returns what `before` returns for them.
        """
        if self.trivial:
            out.fill(True)
            return None
        if self._ranks is None and self.subset is not None:
            self.subset.draw(start, out)
            np.logical_not(out, out=out)
            return None
        before = self.candidates(start, out, workspace)
        if self.subset is not None and self._ranks is not None:
            rank, places = self._ranks[start // BLOCK], np.flatnonzero(out)
            out[places[self.subset.span(rank, rank + places.size)]] = False
        return before

    def whole(self) -> Flags:
        """Return the mask of all elements, in logical order; made once, for tensors that are not row-major."""
        return self._whole.get()

    def whole_before(self) -> Flags | None:
        """Return what the file's mask keeps of all elements, made once; None where there is no mask."""
        return None if self._old is None else self._whole_before.get()

    def release(self) -> None:
        """Forget what was made whole."""
        for each in (self._whole, self._whole_before, self.weight, self._old):
            if each is not None:
                each.release()

    def _make_whole(self) -> Flags:
        whole, workspace = np.empty(self.parameter.weight.elements, dtype=np.bool_), Workspace()
        for start in range(0, whole.size, BLOCK):
            self.keep(start, whole[start : start + BLOCK], workspace)
            self.digest.add(start, whole[start : start + BLOCK])
        return whole

    def _make_whole_before(self) -> Flags:
        whole, workspace = np.empty(self.parameter.weight.elements, dtype=np.bool_), Workspace()
        for start in range(0, whole.size, BLOCK):
            part = whole[start : start + BLOCK]
            before = self.before(start, part.size, workspace)
            if before is not None:
                np.copyto(part, before)
        return whole
