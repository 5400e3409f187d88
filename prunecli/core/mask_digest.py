"""The digest that names a mask in reports."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK

__all__ = ["MaskDigest"]


class MaskDigest:
    """The digest of a mask, gathered block by block in any order.

    SHA-256 over the SHA-256 digests of the packed bits (`numpy.packbits`, True where kept) of every `BLOCK` elements in
    row-major order. A tree, so that blocks need not wait for each other.
    """

    __slots__ = ("_leaves",)

    def __init__(self) -> None:
        self._leaves: dict[int, bytes] = {}

    @staticmethod
    def look(start: int, keep: NDArray[np.bool_]) -> tuple[int, bytes]:
        """Return the leaf of the elements from `start`, a multiple of `BLOCK`, on; at most one block of them."""
        return start // BLOCK, hashlib.sha256(np.packbits(keep).data).digest()

    def add(self, found: tuple[int, bytes]) -> None:
        """Add a leaf."""
        block, leaf = found
        self._leaves[block] = leaf

    def drain(self) -> dict[str, str] | None:
        """Return the leaves that were added by block, as JSON data, and start anew; None if there are none."""
        leaves, self._leaves = self._leaves, {}
        return {str(block): leaf.hex() for block, leaf in leaves.items()} or None

    def merge(self, drained: Mapping[str, str]) -> None:
        """Add leaves that another digest of the mask returned from `drain`."""
        self._leaves |= {int(block): bytes.fromhex(leaf) for block, leaf in drained.items()}

    def hexdigest(self) -> str:
        """Return the digest of all that was added."""
        return hashlib.sha256(b"".join(leaf for _, leaf in sorted(self._leaves.items()))).hexdigest()
