"""Passes over parameters before anything is dropped, block by block: count candidates, and feed a method's scans."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.core.accumulate import Accumulator
from prunecli.core.block import BLOCK
from prunecli.core.methods.base import Scan
from prunecli.core.raw_elements import is_one
from prunecli.errors import UsageError, show
from prunecli.formats.base import Layout
from prunecli.formats.io.pieces import Generated, Outcome
from prunecli.lean import dataclass
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.kept import NO_MASKS, KeptFlags
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["BlockScan", "CandidateCount", "CandidateCounter", "MethodScan", "add_found", "scan_pieces"]


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


class _Look(Accumulator[Any], Protocol):
    """A scan that a pass can feed with blocks by number."""

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> Any:
        """Return the result of a block without changing the scan."""


class CandidateCounter:
    """Counts candidates block by block; `count` sums them up."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[int, bool, bytes]] = {}

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> tuple[int, tuple[int, bool, bytes]]:
        """Return the block's index, its number of candidates, whether its mask is binary, and a hash of candidates."""
        block, _ = mask.block(index, workspace)
        binary = True
        if mask.parameter.mask is not None:
            raw = mask.old.read(block.start, block.candidates.size, workspace.mask)
            binary = np.count_nonzero(is_one(raw, mask.parameter.mask.dtype.one)) == np.count_nonzero(raw)
        leaf = hashlib.sha256(np.packbits(block.candidates).data).digest()
        return index, (int(np.count_nonzero(block.candidates)), bool(binary), leaf)

    def add(self, found: tuple[int, tuple[int, bool, bytes]]) -> None:
        """Add a block."""
        self._blocks[found[0]] = found[1]

    def drain(self) -> dict[int, tuple[int, bool, bytes]] | None:
        """Return the blocks and reset."""
        blocks, self._blocks = self._blocks, {}
        return blocks or None

    def merge(self, drained: dict[int, tuple[int, bool, bytes]]) -> None:
        """Add blocks."""
        self._blocks |= drained

    def count(self) -> CandidateCount:
        """Return the sum of all blocks."""
        none = 0, True, b""  # a block inside a granule that began before the block is empty
        blocks = [self._blocks.get(index, none) for index in range(max(self._blocks, default=-1) + 1)]
        ends = np.cumsum([count for count, _, _ in blocks], dtype=np.int64).tolist()
        digest = hashlib.sha256(b"".join(leaf for _, _, leaf in blocks)).hexdigest()
        return CandidateCount(ends[-1] if ends else 0, [0, *ends[:-1]], all(each for _, each, _ in blocks), digest)


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
    """A scan of a parameter, and what it needs: zero elements treated as pruned, values, whole groups, a given mask."""

    parameter: Parameter
    scan: _Look
    zeros_are_pruned: bool = False
    reads_values: bool = False
    granule: int = 1
    reads_given: bool = False

    @property
    def width(self) -> int:
        """The number of bytes to read per element; 1 if none are read, since the length of a pass is in bytes."""
        mask = self.parameter.mask
        reads_weight = self.zeros_are_pruned or self.reads_values
        found = (self.parameter.weight.dtype.itemsize if reads_weight else 0) + (mask.dtype.itemsize if mask else 0)
        return max(found, 1)


class _ScannedBlocks:
    """A content that reads its blocks itself, each as a whole, wherever they are stored, and writes nothing."""

    workspace = Workspace

    def __init__(self, scan: BlockScan, checkpoint: Layout, given: Mapping[str, KeptFlags]) -> None:
        own = given.get(scan.parameter.name)
        if scan.reads_given and own is None:
            raise UsageError(f"there is no mask of {show(scan.parameter.name)}; give the file of masks that has one")
        width = scan.width + (0 if own is None else own.width)
        self.block = BLOCK * width
        self.length = scan.parameter.weight.elements * width
        self._scan = scan.scan
        self._mask = FinalMask(
            checkpoint.source,
            scan.parameter,
            zeros_are_pruned=scan.zeros_are_pruned,
            reads_values=scan.reads_values,
            granule=scan.granule,
            given=own,
        )
        self._left = self.length

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Scan one block."""
        index = start // self.block
        low, high = self._mask.bounds(index)
        found = self._scan.look(self._mask, index, workspace) if low < high else None
        return Outcome(False, (self, data.size, found))

    def add(self, size: int, found: Any) -> None:
        """Add the result of a block; after the last block, free gathered tensors."""
        if found is not None:
            self._scan.add(found)
        self._left -= size
        if not self._left:
            self._mask.release()


def scan_pieces(
    scans: Sequence[BlockScan], checkpoint: Layout, given: Mapping[str, KeptFlags] = NO_MASKS.flags
) -> list[Generated]:
    """Return scans as pieces of a pass that writes nothing; pass its results to `add_found`.

    `given` are the given masks by the names of their parameters.
    """
    contents = [_ScannedBlocks(scan, checkpoint, given) for scan in scans]
    return [Generated(content.length, content) for content in contents]


def add_found(found: tuple[_ScannedBlocks, int, Any]) -> None:
    """Add the result of a block to its scan."""
    content, size, of_block = found
    content.add(size, of_block)
