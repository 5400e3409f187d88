"""The interface of pruning methods, which decide block by block which elements of tensors are dropped.

A method does not deal with files, threads, ranks or containers. The engine asks it for the scans that it needs, passes
the blocks of every tensor to them, in any order and on any machine, and then asks the method for a choice. A choice is
plain data from which the dropped elements of any block follow.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from prunecli.core.accumulate import Accumulator
from prunecli.core.amount import Amount, to_count
from prunecli.core.methods.request import MethodRequest
from prunecli.core.methods.slices import Slices
from prunecli.core.raw_elements import Flags, Unsigned
from prunecli.errors import UsageError, show
from prunecli.lean import dataclass

__all__ = ["Block", "Choice", "Counts", "Method", "Scan", "Target", "TargetGroup"]

Counts = Literal["elements", "units", "nothing"]
"""What an amount counts: elements, slices or blocks (units), or nothing, if a method takes no amount."""


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor to prune, with everything known before its values are read. Tied parameters are one target.

    `key` is its canonical name, `name` its name in messages. `candidates` is the number of elements that are still
    unpruned, `before[index]` the number of them before block `index`. Without `before`, all elements are candidates.
    `slices` are its slices along the first dimension, if each of them has a number of its own. `scores_dtype` is the
    type of its scores, if the method reads scores.
    """

    key: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    candidates: int
    before: Sequence[int] | None = None
    slices: Slices | None = None
    scores_dtype: str | None = None

    @property
    def elements(self) -> int:
        """The number of elements, pruned or not."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """Targets by key with one amount, which applies to each target or, with `global_`, to all of them together.

    A method that counts units gets the `amount` as it was given, and counts candidates itself. `seed` is for methods
    that draw. `name` distinguishes a draw for the group from that for an earlier group with the
    same number of candidates. `given` are numbers of elements to prune by key, which replace the amount.
    """

    targets: Mapping[str, Target]
    amount: Amount
    global_: bool
    seed: int
    name: str = ""
    given: Mapping[str, int] | None = None

    @property
    def counts(self) -> Mapping[str, int]:
        """The number of elements of each target to prune, if the amount is not global."""
        if self.given is not None:
            return self.given
        found: dict[str, int] = {}
        by_candidates: dict[int, int] = {}  # few: most of very many targets are alike
        for key, target in self.targets.items():
            count = by_candidates.get(target.candidates)
            if count is None:
                count = to_count(self.amount, target.candidates, show(target.name))
                by_candidates[target.candidates] = count
            found[key] = count
        return found

    @property
    def global_count(self) -> int:
        """The number of elements of all targets together that the amount prunes."""
        candidates = sum(target.candidates for target in self.targets.values())
        return to_count(self.amount, candidates, f"the {len(self.targets)} selected parameters together")


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive elements of a target from `start` on, in row-major order.

    `index` is the number of the block: every pass cuts a target into the same blocks. `candidates` are True for the
    elements that are still unpruned. `weight` contains the elements as stored, if the method reads values, and `scores`
    those of its scores, if it reads scores. `given` are the flags of a given mask, True where it keeps, if the method
    reads one. The arrays may be read-only.
    """

    index: int
    start: int
    candidates: Flags
    weight: Unsigned | None = None
    given: Flags | None = None
    scores: Unsigned | None = None


class Scan(Accumulator[Any], Protocol):
    """What a method finds out about a target in one pass: `look` at each block, then add up what was found."""

    def look(self, block: Block) -> Any:
        """Return what is found in a block, changing nothing: several threads look at the same time."""


class Choice(Protocol):
    """The dropped elements of a target, as frozen plain data."""

    @property
    def pruned(self) -> int:
        """The number of dropped elements."""

    def drop(self, block: Block, out: Flags) -> None:
        """Write into `out` which elements of a block are dropped; the values for non-candidates do not matter."""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON data that a report needs to replay the choice, besides seed, key, candidates and `pruned`."""


class Method(ABC):
    """A pruning method, with its settings. `name` is its name in the table of methods, for messages.

    A method that `reads_given` gets a given mask for each target. Without `draws`, it needs no seed. `counts` says what
    its amounts count; those of a method that `needs_global` are always over all targets of a group together.
    """

    name: ClassVar[str]
    reads_given: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    counts: ClassVar[Counts] = "elements"
    needs_global: ClassVar[bool] = False

    @classmethod
    def of(cls, request: MethodRequest) -> "Method":
        """Return the method with the settings of a request.

        Raises:
            UsageError: the method does not take one of them, or lacks one.
        """
        request.check_takes()
        return cls()

    @property
    def reads_values(self) -> bool:
        """Whether it gets the elements of the weight."""
        return False

    @property
    def reads_scores(self) -> bool:
        """Whether it gets scores, as elements of a type of their own."""
        return False

    def check(self, target: Target) -> None:
        """Refuse a target that the method cannot prune, before anything is read; its `candidates` are not counted yet.

        Raises:
            UsageError: its type has no order, it lacks a dimension, or a number does not divide its width.
        """
        self.granule(target)

    def detail(self, target: Target) -> str:
        """Return what a plan says about how a target is pruned, such as the dimension; "" for nothing."""
        return ""

    def granule(self, target: Target) -> int:
        """Return the size of the groups of elements, counted from the first element, that blocks must not split."""
        return 1

    def scans(self, group: TargetGroup, earlier: Sequence[Mapping[str, Scan]]) -> Mapping[str, Scan]:
        """Return the scans of the next pass by key, given those of the `earlier` passes; empty if no pass is needed."""
        return {}

    @abstractmethod
    def choose(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Mapping[str, Choice]:
        """Return the choice for each target by key, given the scans of all passes.

        Raises:
            UsageError: the amount is more than is left.
        """

    def notes(self, group: TargetGroup, scans: Sequence[Mapping[str, Scan]]) -> Sequence[str]:
        """Return sentences for the user about what the scans found: NaN, negative scores. A replay has none."""
        return ()

    def choose_slices(self, target: Target, amounts: Amount | Sequence[int], seed: int) -> Choice:
        """Return the choice for a target with slices, given an amount of each of them, or the numbers of elements.

        Raises:
            UsageError: the method cannot do that, or a slice has fewer candidates.
            ValueError: the target has no slices, or the numbers are not those of its slices.
        """
        raise UsageError(f"{self.name} cannot choose slice by slice")

    @abstractmethod
    def replay(self, target: Target, seed: int, pruned: int, recorded: Mapping[str, Any]) -> Choice:
        """Return a choice from its record in a report; `recorded` is the result of its `as_dict`.

        Raises:
            ValueError, KeyError, TypeError: `recorded` is not a record of this method.
        """
