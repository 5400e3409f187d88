"""The digest that identifies a mask in reports."""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK

__all__ = ["MaskDigest"]


class MaskDigest:
    """The digest of a mask, computed block by block in any order.

    It is the SHA-256 over the SHA-256 digests of the packed bits (`numpy.packbits`, True where kept) of every `BLOCK`
    elements in row-major order. It is a tree, so that blocks need not wait for each other.
    """

    __slots__ = ("_first", "_leaves")

    def __init__(self) -> None:
        self._first: bytes | None = None
        """The leaf of block 0, the only one of most masks."""
        self._leaves: dict[int, bytes] | None = None

    @staticmethod
    def look(start: int, keep: NDArray[np.bool_]) -> tuple[int, bytes]:
        """Return the leaf of at most one block of elements; `start`, a multiple of `BLOCK`, is the first of them."""
        return start // BLOCK, hashlib.sha256(np.packbits(keep).data).digest()

    def add(self, found: tuple[int, bytes]) -> None:
        """Add a leaf."""
        block, leaf = found
        if not block:
            self._first = leaf
        elif self._leaves is None:
            self._leaves = {block: leaf}
        else:
            self._leaves[block] = leaf

    def _all(self) -> dict[int, bytes]:
        """Return the leaves by block, in order."""
        first = {} if self._first is None else {0: self._first}
        return first | dict(sorted((self._leaves or {}).items()))

    def drain(self) -> dict[str, str] | None:
        """Return the added leaves by block as JSON data, and reset the digest; None if nothing was added."""
        leaves = self._all()
        self._first = self._leaves = None
        return {str(block): leaf.hex() for block, leaf in leaves.items()} or None

    def merge(self, drained: Mapping[str, str]) -> None:
        """Add the result of `drain` of another digest of the same mask."""
        for block, leaf in drained.items():
            self.add((int(block), bytes.fromhex(leaf)))

    def hexdigest(self) -> str:
        """Return the digest of all added leaves."""
        leaves = self._first or b"" if self._leaves is None else b"".join(self._all().values())
        return hashlib.sha256(leaves).hexdigest()
