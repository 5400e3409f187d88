"""Passes over parameters before anything is dropped, block by block: count candidates, and feed a method's scans."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.core.accumulate import Accumulator
from prunecli.core.block import BLOCK
from prunecli.core.methods.base import Scan
from prunecli.core.raw_elements import is_one
from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout
from prunecli.lean import dataclass
from prunecli.surgery.data.block_task import BlockTask
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import Given, ScoresRef
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["BlockScan", "CandidateCount", "CandidateCounter", "MethodScan", "ScanTask"]


@dataclass(frozen=True, slots=True)
class CandidateCount:
    """The number of a parameter's candidates (elements that can still be dropped), before anything is chosen.

    `before[b]` candidates lie before block b; without `before`, all elements are candidates. `binary` means that the
    mask contains only 0 and 1. `digest` is equal for equal candidates.
    """

    candidates: int
    before: Sequence[int] | None = None
    binary: bool = True
    digest: str = ""
    slices: NDArray[np.int64] | None = None
    """The candidates of each slice along the first dimension, if requested."""


_Found = tuple[int, bool, bytes, int, NDArray[np.int64]]
"""Of a block: candidates, whether its mask is binary, a hash, its first slice, and the candidates of each slice."""

_NONE: NDArray[np.int64] = np.empty(0, np.int64)


class _Look(Accumulator[Any], Protocol):
    """A scan that a pass can feed with blocks by number."""

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> Any:
        """Return the result of a block without changing the scan."""


class CandidateCounter:
    """Counts candidates block by block; `count` sums them up, also for each of the slices if there are any."""

    def __init__(self, slices: int = 0) -> None:
        self._blocks: dict[int, _Found] = {}
        self._slices = slices

    @property
    def slices(self) -> int:
        """The number of slices that are counted."""
        return self._slices

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> tuple[int, _Found]:
        """Return the block's index, and what is found in it."""
        block, _ = mask.block(index, workspace)
        binary = True
        if mask.parameter.mask is not None:
            raw = mask.old.read(block.start, block.candidates.size, workspace.mask)
            binary = np.count_nonzero(is_one(raw, mask.parameter.mask.dtype.one)) == np.count_nonzero(raw)
        leaf = hashlib.sha256(np.packbits(block.candidates).data).digest()
        first, each = 0, _NONE
        if self._slices:
            size = mask.parameter.weight.elements // self._slices
            first, begun = divmod(block.start, size)
            starts = np.arange(-begun, block.candidates.size, size)
            starts[0] = 0
            each = np.add.reduceat(block.candidates, starts, dtype=np.int64)
        return index, (int(np.count_nonzero(block.candidates)), bool(binary), leaf, first, each)

    def add(self, found: tuple[int, _Found]) -> None:
        """Add a block."""
        self._blocks[found[0]] = found[1]

    def drain(self) -> dict[int, _Found] | None:
        """Return the blocks and reset."""
        blocks, self._blocks = self._blocks, {}
        return blocks or None

    def merge(self, drained: dict[int, _Found]) -> None:
        """Add blocks."""
        self._blocks |= drained

    def count(self) -> CandidateCount:
        """Return the sum of all blocks."""
        none = 0, True, b"", 0, _NONE  # a block inside a granule that began before the block is empty
        blocks = [self._blocks.get(index, none) for index in range(max(self._blocks, default=-1) + 1)]
        ends = np.cumsum([found[0] for found in blocks], dtype=np.int64).tolist()
        digest = hashlib.sha256(b"".join(found[2] for found in blocks)).hexdigest()
        slices = np.zeros(self._slices, dtype=np.int64)
        for *_, first, each in blocks:
            slices[first : first + each.size] += each
        binary = all(found[1] for found in blocks)
        return CandidateCount(ends[-1] if ends else 0, [0, *ends[:-1]], binary, digest, slices if slices.size else None)


class MethodScan:
    """A method's scan, fed with blocks of the final mask."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.add, self.drain, self.merge = scan.add, scan.drain, scan.merge

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> Any:
        """Return the method's result of a block."""
        return self._scan.look(mask.block(index, workspace)[0])


@dataclass(frozen=True, slots=True)
class BlockScan:
    """A scan of a parameter, and what it needs: zeros as pruned, values, whole groups, a given mask, scores."""

    parameter: Parameter
    scan: _Look
    zeros_are_pruned: bool = False
    reads_values: bool = False
    granule: int = 1
    reads_given: bool = False
    scores: ScoresRef | None = None

    @property
    def width(self) -> int:
        """The number of bytes to read per element; 1 if none are read, since the length of a pass is in bytes."""
        mask = self.parameter.mask
        reads_weight = self.zeros_are_pruned or self.reads_values
        found = (self.parameter.weight.dtype.itemsize if reads_weight else 0) + (mask.dtype.itemsize if mask else 0)
        return max(found + (self.scores.width if self.scores else 0), 1)


class ScanTask(BlockTask[Any]):
    """A scan of whole blocks of a parameter, wherever they are stored."""

    def __init__(self, scan: BlockScan, checkpoint: Layout, given: Given) -> None:
        own = given.flags.get(scan.parameter.name)
        if scan.reads_given and own is None:
            raise UsageError(f"there is no mask of {show(scan.parameter.name)}; give the file of masks that has one")
        self._scan = scan.scan
        self._mask = FinalMask(
            checkpoint.source,
            scan.parameter,
            zeros_are_pruned=scan.zeros_are_pruned,
            reads_values=scan.reads_values,
            granule=scan.granule,
            given=own,
            scores=given.scores_of(scan.scores),
        )
        super().__init__(scan.parameter.weight.elements, scan.width + (0 if own is None else own.width), self._mask)

    def look(self, first: int, count: int, workspace: Workspace) -> Any:
        """Return what the scan finds in a block, None if the block lies in a group that began before it."""
        index = first // BLOCK
        low, high = self._mask.bounds(index)
        return self._scan.look(self._mask, index, workspace) if low < high else None

    def add(self, found: Any) -> None:
        """Add the result of a block."""
        if found is not None:
            self._scan.add(found)
