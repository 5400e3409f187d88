"""Masks made from other masks: of the elements that two masks keep, or that one does not keep."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from prunecli.core.raw_elements import Flags
from prunecli.surgery.data.kept import KeptFlags
from prunecli.surgery.data.workspace import Workspace

__all__ = ["OPERATIONS", "CombinedFlags", "InvertedFlags"]

OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "minus": np.greater,  # kept by the first and not by the second
}
"""The operations on two sets of kept elements."""


class CombinedFlags:
    """The mask that keeps what an operation makes of the sets that two masks of one shape keep; named as the first."""

    def __init__(self, left: KeptFlags, right: KeptFlags, operation: str) -> None:
        self.name, self.key, self.shape, self.elements = left.name, left.key, left.shape, left.elements
        self.tensors = (*left.tensors, *right.tensors)
        self.width, self.place = left.width + right.width, (left.place, right.place, operation)
        self._left, self._right, self._combine = left, right, OPERATIONS[operation]

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on; raises as `KeptFlags.read`."""
        other = workspace.keep.flags(out.size)
        self._left.read(start, out, workspace)
        self._right.read(start, other, workspace)
        self._combine(out, other, out=out)

    def release(self) -> None:
        """Free the memory of gathered tensors."""
        self._left.release()
        self._right.release()


class InvertedFlags:
    """The mask that keeps what another one does not keep."""

    def __init__(self, mask: KeptFlags) -> None:
        self.name, self.key, self.shape, self.elements = mask.name, mask.key, mask.shape, mask.elements
        self.tensors = mask.tensors
        self.width, self.place = mask.width, ("not", mask.place)
        self._mask = mask

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on; raises as `KeptFlags.read`."""
        self._mask.read(start, out, workspace)
        np.logical_not(out, out=out)

    def release(self) -> None:
        """Free the memory of a gathered tensor."""
        self._mask.release()
