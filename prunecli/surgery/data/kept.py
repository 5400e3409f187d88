"""The interface of one parameter's mask, wherever it is stored; masks and scores that are given for a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Protocol

from prunecli.core.raw_elements import Flags
from prunecli.formats.base import AnyCheckpoint, Layout, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.data.workspace import Workspace

__all__ = ["NOTHING", "Given", "GivenScores", "KeptFlags", "ScoresRef"]


class KeptFlags(Protocol):
    """The flags of one parameter's elements in row-major order, True where kept. Several threads may read them.

    `name` is the parameter's name, `key` its canonical name. `width` is the number of bytes to read per element, at
    least 1, `tensors` are those that contain them. Flags with the same `place` in one source are the same.
    """

    @property
    def name(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def elements(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def tensors(self) -> Sequence[TensorInfo]: ...
    @property
    def place(self) -> object: ...

    def read(self, start: int, out: Flags, workspace: Workspace) -> None:
        """Fill `out` with the flags from element `start` on.

        Masks use the buffers `given` and `room` of the workspace; those made from zeros use most of them.

        Raises:
            DamagedError: a mask has a value other than 0 and 1, or the file ends early.
            UnreadableError: the file cannot be read.
        """

    def release(self) -> None:
        """Free the memory of gathered tensors."""


@dataclass(frozen=True, slots=True)
class ScoresRef:
    """The scores of a parameter: the place of their file as it was requested, their name in it, and their type."""

    place: str
    name: str
    dtype: str
    width: int
    """The number of bytes to read per element."""


@dataclass(frozen=True)
class GivenScores:
    """The tensors of a file of scores, by name; `keys` are their canonical names. Without a file, `label` is empty."""

    layout: Layout
    tensors: Mapping[str, TensorInfo]
    keys: Mapping[str, str]
    label: str = ""


@dataclass(frozen=True)
class Given:
    """What other files give for a checkpoint: masks by the names of its parameters, or scores by place.

    `sources` are those files, `notes` say what was left out.
    """

    flags: Mapping[str, KeptFlags] = field(default_factory=dict)
    scores: Mapping[str, GivenScores] = field(default_factory=dict)
    sources: Sequence[AnyCheckpoint] = ()
    notes: Sequence[str] = ()

    def scores_of(self, ref: ScoresRef | None) -> tuple[Layout, TensorInfo] | None:
        """Return the scores that are referred to, and the file that contains them."""
        if ref is None:
            return None
        file = self.scores[ref.place]
        return file.layout, file.tensors[ref.name]


NOTHING = Given()
"""Nothing is given."""
