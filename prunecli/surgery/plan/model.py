"""The plan of a run: which parameters, what is dropped of each, and how it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal

from prunecli.core.methods.base import Choice, Method, Target
from prunecli.formats.base import TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.data.kept import ScoresRef
from prunecli.surgery.names.left_out import PassedOver
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.stored_twice import StoredTwice
from prunecli.surgery.plan.amounts import LikeRow
from prunecli.surgery.plan.request import PruneRequest

__all__ = ["Command", "Plan", "PlannedParameter"]

Command = Literal["apply", "remove", "restore", "report"]


@dataclass(frozen=True, slots=True)
class PlannedParameter:
    """A parameter to work on. `target` is its description for the method; all members of a tied group have one key.

    `binary` means that its mask contains only 0 and 1. `method` makes the `choice`, perhaps by its `scores`; without a
    choice, nothing more is dropped.
    """

    parameter: Parameter
    target: Target
    tied_to: tuple[str, ...]
    digest: str = ""
    """A digest of its candidates."""
    binary: bool = True
    choice: Choice | None = None
    method: Method | None = None
    scores: ScoresRef | None = None
    group: int = 0
    """The index of its group, if groups have different methods."""

    @property
    def key(self) -> str:
        """The canonical name, the same for all members of a tied group."""
        return self.target.key

    @property
    def pruned_now(self) -> int:
        """The number of elements that this run drops."""
        return self.choice.pruned if self.choice else 0

    def with_choice(self, choice: Choice, group: int) -> "PlannedParameter":
        """Return it with a choice and the index of its group; `replace` takes several times as long."""
        planned = self.parameter, self.target, self.tied_to, self.digest, self.binary
        return PlannedParameter(*planned, choice, self.method, self.scores, group)


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. With `bake`, masks are multiplied into the weights and removed.

    `expected` maps parameters to the digests that their final masks must have, taken from the report to reproduce; None
    for those of which it does not record one.
    """

    command: Command
    parameters: Mapping[str, Parameter]
    planned: Mapping[str, PlannedParameter]
    bake: bool
    prune: PruneRequest | None = None
    stored_twice: StoredTwice = field(default_factory=dict)
    expected: Mapping[str, str | None] = field(default_factory=dict)
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """Entries for the container's metadata: the stamp; None removes one."""
    unlike: Mapping[str, LikeRow] = field(default_factory=dict)
    """The masks whose counts were taken, by parameter: the new masks must not be the same."""
    passed: PassedOver = field(default_factory=PassedOver)
    """Tensors that patterns matched but did not take, and others that contain weights."""
    key: str | None = None
    """The path of the state dict as the user gave it."""
    state: Mapping[str, Sequence[TensorInfo]] = field(default_factory=dict)
    """Optimizer state in which dropped elements are zeroed too, by the planned parameter."""
    notes: Sequence[str] = ()
    """Sentences for the user about the division of the amount."""

    @property
    def seed(self) -> int | None:
        """The seed from which masks are drawn."""
        return self.prune.seed if self.prune else None

    def counted(self, parameter: Parameter) -> bool:
        """Whether the report contains a parameter's number of zeros."""
        return self.command == "report" or parameter.matches_globs or parameter.name in self.planned
