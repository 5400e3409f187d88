"""Parameters looked at before anything is dropped, block by block: candidates counted, a method's scans fed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.methods.base import Scan
from prunecli.core.raw_elements import is_one
from prunecli.formats.base import Layout
from prunecli.formats.io.pieces import Generated, Outcome
from prunecli.surgery.data.final_mask import FinalMask
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.names.parameters import Parameter

__all__ = ["BlockScan", "CandidateCount", "CandidateCounter", "MethodScan", "add_found", "scan_pieces"]


@dataclass(frozen=True, slots=True)
class CandidateCount:
    """What is known of a parameter's mask, and if asked of its zeros, before anything is chosen.

    `before[b]` of the candidates lie before block b; without it all elements are candidates. `binary` means that the
    mask contains nothing but 0 and 1. `digest` is equal for equal candidates.
    """

    candidates: int
    before: Sequence[int] | None = None
    binary: bool = True
    digest: str = ""


class _Look(Protocol):
    """A scan, as the pass sees it: of blocks by number."""

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> Any:
        """Return what is found in a block, changing nothing."""

    def add(self, found: Any) -> None:
        """Add what was found in a block."""

    def drain(self) -> Any:
        """Return all that was added, and start anew; None if nothing was."""

    def merge(self, drained: Any) -> None:
        """Add what was drained."""


class CandidateCounter:
    """Counts candidates block by block; `count` sums them up."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[int, bool, bytes]] = {}

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> tuple[int, tuple[int, bool, bytes]]:
        """Return the block's candidates, whether its mask has nothing but 0 and 1, and a hash of which they are."""
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
        """Return the blocks, and start anew."""
        blocks, self._blocks = self._blocks, {}
        return blocks or None

    def merge(self, drained: dict[int, tuple[int, bool, bytes]]) -> None:
        """Add blocks."""
        self._blocks |= drained

    def count(self) -> CandidateCount:
        """Return the sum of all blocks."""
        none = 0, True, b""  # a block that lies within a granule that began before it is empty
        blocks = [self._blocks.get(index, none) for index in range(max(self._blocks, default=-1) + 1)]
        ends = np.cumsum([count for count, _, _ in blocks], dtype=np.int64).tolist()
        digest = hashlib.sha256(b"".join(leaf for _, _, leaf in blocks)).hexdigest()
        return CandidateCount(ends[-1] if ends else 0, [0, *ends[:-1]], all(each for _, each, _ in blocks), digest)


class MethodScan:
    """A scan of a method."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self.add, self.drain, self.merge = scan.add, scan.drain, scan.merge

    def look(self, mask: FinalMask, index: int, workspace: Workspace) -> Any:
        """Return what the method finds in a block."""
        return self._scan.look(mask.block(index, workspace)[0])


@dataclass(frozen=True, slots=True)
class BlockScan:
    """A scan of a parameter, and what it has to see: elements that are zero as pruned ones, values, whole groups."""

    parameter: Parameter
    scan: _Look
    zeros_are_pruned: bool = False
    reads_values: bool = False
    granule: int = 1

    @property
    def width(self) -> int:
        """Bytes that are read of each element; 1 if none are, since a pass is as long as its bytes."""
        mask = self.parameter.mask
        reads_weight = self.zeros_are_pruned or self.reads_values
        found = (self.parameter.weight.dtype.itemsize if reads_weight else 0) + (mask.dtype.itemsize if mask else 0)
        return max(found, 1)


class _ScannedBlocks:
    """A content that reads its blocks by itself, each whole, wherever they are stored, and fills nothing."""

    workspace = Workspace

    def __init__(self, scan: BlockScan, checkpoint: Layout) -> None:
        self.block = BLOCK * scan.width
        self.length = scan.parameter.weight.elements * scan.width
        self._scan = scan.scan
        self._mask = FinalMask(
            checkpoint.source,
            scan.parameter,
            zeros_are_pruned=scan.zeros_are_pruned,
            reads_values=scan.reads_values,
            granule=scan.granule,
        )
        self._left = self.length

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Look at one block."""
        index = start // self.block
        low, high = self._mask.bounds(index)
        found = self._scan.look(self._mask, index, workspace) if low < high else None
        return Outcome(False, (self, data.size, found))

    def add(self, size: int, found: Any) -> None:
        """Add what was found in a block; after the last one, let go of what was gathered."""
        if found is not None:
            self._scan.add(found)
        self._left -= size
        if not self._left:
            self._mask.release()


def scan_pieces(scans: Sequence[BlockScan], checkpoint: Layout) -> list[Generated]:
    """Return scans as pieces of a pass in which nothing is written; what it finds is for `add_found`."""
    contents = [_ScannedBlocks(scan, checkpoint) for scan in scans]
    return [Generated(content.length, content) for content in contents]


def add_found(found: tuple[_ScannedBlocks, int, Any]) -> None:
    """Add what was found in a block to its scan."""
    content, size, of_block = found
    content.add(size, of_block)
