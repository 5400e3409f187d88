"""The interface of one parameter's mask, wherever it is stored, and masks that are given for a checkpoint."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from prunecli.core.raw_elements import Flags
from prunecli.formats.base import AnyCheckpoint, TensorInfo
from prunecli.lean import dataclass
from prunecli.surgery.data.workspace import Workspace

__all__ = ["NO_MASKS", "GivenMasks", "KeptFlags"]


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


@dataclass(frozen=True)
class GivenMasks:
    """Masks by the names of a checkpoint's parameters, the file that they come from, and notes on what was left out."""

    flags: Mapping[str, KeptFlags]
    source: AnyCheckpoint | None = None
    notes: Sequence[str] = ()


NO_MASKS = GivenMasks(MappingProxyType({}))
"""None are given."""
