"""The masks method: given masks, made elsewhere, decide which elements are dropped. Nothing is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunecli.core.mask_digest import MaskDigest
from prunecli.core.methods.base import Block, Choice, Method, Scan, Target, TargetGroup
from prunecli.core.raw_elements import Flags
from prunecli.lean import dataclass

__all__ = ["GivenScan", "Masks"]

_RUN = 1 << 15
_DIGEST = "given_sha256"
"""The field of a record with the digest of the given mask."""


def _given(block: Block) -> Flags:
    if block.given is None:
        raise ValueError("a block of a given mask has no flags of it")
    return block.given


def _dropped(candidates: Flags, given: Flags) -> int:
    """Return the number of candidates that a mask drops, counted in runs that need little memory."""
    runs = (slice(start, start + _RUN) for start in range(0, given.size, _RUN))
    return sum(int(np.count_nonzero(candidates[run] > given[run])) for run in runs)


@dataclass(frozen=True, slots=True)
class _GivenChoice:
    """The given mask with this digest, which drops `pruned` unpruned elements."""

    pruned: int
    digest: str

    def drop(self, block: Block, out: Flags) -> None:
        np.logical_not(_given(block), out=out)

    def as_dict(self) -> dict[str, Any]:
        return {_DIGEST: self.digest}


class GivenScan:
    """Counts the unpruned elements that a given mask drops, and computes the mask's digest."""

    def __init__(self) -> None:
        self._mask = MaskDigest()
        self._pruned = 0

    def look(self, block: Block) -> tuple[tuple[int, bytes], int]:
        """Return the leaf of a block's digest, and how many candidates the mask drops there."""
        given = _given(block)
        return MaskDigest.look(block.start, given), _dropped(block.candidates, given)

    def add(self, found: tuple[tuple[int, bytes], int]) -> None:
        """Add a block."""
        leaf, dropped = found
        self._mask.add(leaf)
        self._pruned += dropped

    def drain(self) -> Any:
        """Return the sums as JSON data and reset."""
        leaves, pruned = self._mask.drain(), self._pruned
        self._pruned = 0
        return None if leaves is None else (leaves, pruned)

    def merge(self, drained: Any) -> None:
        """Add drained sums."""
        leaves, pruned = drained
        self._mask.merge(leaves)
        self._pruned += pruned

    def choice(self) -> Choice:
        """Return what the whole mask drops."""
        return _GivenChoice(self._pruned, self._mask.hexdigest())


class Masks(Method):
    """Given masks: an element is dropped where the mask of its parameter is False."""

    name = "masks"
    reads_given = True
    draws = False

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the only pass, one for each mask."""
        return {} if earlier else {key: GivenScan() for key in group.targets}

    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choices that the masks make."""
        found = {key: scans[0][key] for key in group.targets}
        return {key: scan.choice() for key, scan in found.items() if isinstance(scan, GivenScan)}

    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return a recorded choice; the engine gives the same mask again."""
        return _GivenChoice(pruned, str(recorded[_DIGEST]))
