"""What a pruning method is: it decides which elements of tensors are dropped, from blocks of them.

A method knows nothing of files, threads, ranks and containers. The engine asks it for the scans that it needs, shows
these the blocks of every tensor, in any order and on any machine, and lets the method choose. A choice is plain data,
which drops the elements of any block.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from prunecli.core.amount import Amount, to_count
from prunecli.core.raw_elements import Flags, Unsigned
from prunecli.errors import show

__all__ = ["Block", "Choice", "Method", "Scan", "Target", "TargetGroup"]


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor to prune: all that is known before its values are read. Tied parameters are one target.

    `key` is its canonical name, `name` the one for messages; `candidates` elements are still unpruned, `before[index]`
    of them before the block of that number. Without `before`, all elements are candidates.
    """

    key: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    candidates: int
    before: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets by key, with one amount: for each by itself, or with `global_` for all of them together.

    `seed` is for methods that draw. `name` tells a draw for the group from that for an earlier group with as many
    candidates.
    """

    targets: Mapping[str, Target]
    amount: Amount
    global_: bool
    seed: int
    name: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many elements of each target the amount prunes, where it is not a global one."""
        return {
            key: to_count(self.amount, target.candidates, show(target.name)) for key, target in self.targets.items()
        }

    @property
    def global_count(self) -> int:
        """How many elements of all targets together the amount prunes."""
        candidates = sum(target.candidates for target in self.targets.values())
        return to_count(self.amount, candidates, f"the {len(self.targets)} selected parameters together")


@dataclass(frozen=True, slots=True)
class Block:
    """The elements of a target from `start` on, in row-major order.

    `index` is its number: a target is cut in the same way whenever its blocks are shown. `candidates` are the elements
    that are still unpruned. `weight` has the elements as they are stored, if the method reads values.
    """

    index: int
    start: int
    candidates: Flags
    weight: Unsigned | None = None


class Scan(Protocol):
    """What a method finds out about a target in one pass: `look` at each block, then add up what was found."""

    def look(self, block: Block) -> Any:
        """Return what is found in a block, changing nothing: several threads look at the same time."""

    def add(self, found: Any) -> None:
        """Add what was found in a block."""

    def drain(self) -> Any:
        """Return all that was added, as plain data, and start anew; None if nothing was."""

    def merge(self, drained: Any) -> None:
        """Add what a scan of the same target returned from `drain`, here or in another process."""


class Choice(Protocol):
    """The elements of a target that are dropped, as frozen plain data."""

    @property
    def pruned(self) -> int:
        """How many they are."""

    def drop(self, block: Block, out: Flags) -> None:
        """Write into `out` which elements of a block are dropped; those that are not candidates do not matter."""

    def as_dict(self) -> dict[str, Any]:
        """Return as JSON what a report must record to replay the choice, beside seed, key, candidates and `pruned`."""


class Method(ABC):
    """A pruning method. `name` is what requests and reports call it; values are only read for it if `reads_values`."""

    name: ClassVar[str]
    reads_values: ClassVar[bool] = False

    def granule(self, target: Target) -> int:
        """Return how many elements, counted from the first on, no block may part."""
        return 1

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the next pass by key, given those of the `earlier` passes; none if it needs no more."""
        return {}

    @abstractmethod
    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choice for each target by key, given the scans of all passes.

        Raises:
            UsageError: the amount is more than is left.
        """

    @abstractmethod
    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return a choice again from what a report records of it; `recorded` is what `as_dict` returned.

        Raises:
            ValueError, KeyError, TypeError: it is not such a record.
        """
