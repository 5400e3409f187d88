"""A mask file: the masks of parameters as a safetensors file, a byte or a bit for each element."""

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.io.pieces import Generated, Outcome, Piece
from prunecli.formats.safetensors.write import NewTensor, safetensors_pieces
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.workspace import Workspace
from prunecli.surgery.masks.source import ENCODING, KEPT, MASKS, SHAPES, VERSION

__all__ = ["MaskFileCount", "mask_file_pieces"]


class MaskFileCount:
    """The numbers of elements, and of kept ones, in the masks that were written."""

    def __init__(self) -> None:
        self.elements = self.kept = 0

    def add(self, found: "tuple[_MaskBytes, int, int]") -> None:
        """Add what a piece found in a block, and free gathered tensors after the last block of a mask."""
        content, elements, kept = found
        self.elements += elements
        self.kept += kept
        content.finish(elements)


class _MaskBytes:
    """The content of a tensor of a mask file."""

    workspace = Workspace

    def __init__(self, mask: KeptFlags, *, bits: bool) -> None:
        self.block = BLOCK // 8 if bits else BLOCK
        self._mask, self._bits, self._left = mask, bits, mask.elements

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Workspace) -> Outcome:
        """Make the bytes of a block."""
        if not self._bits:
            flags = data.view(np.bool_)
            self._mask.read(start, flags, workspace)
        else:
            flags = workspace.block.flags(min(8 * data.size, self._mask.elements - 8 * start))
            self._mask.read(8 * start, flags, workspace)
            data[:] = np.packbits(flags, bitorder="little")
        return Outcome(True, (self, flags.size, int(np.count_nonzero(flags))))

    def finish(self, elements: int) -> None:
        """Note that a block is done."""
        self._left -= elements
        if not self._left:
            self._mask.release()


def mask_file_pieces(masks: Sequence[KeptFlags], *, bits: bool) -> list[Piece]:
    """Return the pieces of a mask file; what they find is for `MaskFileCount.add`.

    Raises:
        PrunecliError: as `safetensors_pieces`.
    """
    metadata = {MASKS: VERSION, KEPT: "true", ENCODING: "bits" if bits else "bool"}
    if bits:
        metadata[SHAPES] = json.dumps({mask.name: list(mask.shape) for mask in masks}, separators=(",", ":"))
    return list(safetensors_pieces([_tensor(mask, bits=bits) for mask in masks], metadata))


def _tensor(mask: KeptFlags, *, bits: bool) -> NewTensor:
    dtype, shape = (DTYPES["uint8"], (-(-mask.elements // 8),)) if bits else (DTYPES["bool"], mask.shape)
    size = shape[0] if bits else mask.elements
    return NewTensor(mask.name, dtype, shape, [Generated(size, _MaskBytes(mask, bits=bits))])
