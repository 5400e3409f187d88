"""Tasks that read tensors block by block, wherever they are stored, and write nothing."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.formats.io.pieces import Generated, Outcome
from prunecli.formats.io.sinks import NullSink
from prunecli.formats.io.source import ByteSource
from prunecli.formats.io.stream import run_pieces
from prunecli.surgery.data.workspace import Workspace

__all__ = ["BlockTask", "add_found", "pieces_of", "run_tasks"]

Found = TypeVar("Found")


class _Input(Protocol):
    def release(self) -> None: ...


class BlockTask(ABC, Generic[Found]):
    """The content of a piece in a pass: it reads its `inputs` itself, `width` bytes for each of `elements` elements.

    After the last block, the memory of gathered inputs is freed.
    """

    workspace: ClassVar[Callable[[], Any]] = Workspace

    def __init__(self, elements: int, width: int, *inputs: _Input) -> None:
        self.elements, self.width, self._inputs = elements, width, inputs
        self._left = elements

    @property
    def block(self) -> int:
        """The number of bytes to read per block."""
        return BLOCK * self.width

    @property
    def length(self) -> int:
        """The number of bytes to read."""
        return self.elements * self.width

    @abstractmethod
    def look(self, first: int, count: int, workspace: Any) -> Found:
        """Return what is found in the block of the elements from `first` on. Several threads call this."""

    @abstractmethod
    def add(self, found: Found) -> None:
        """Add what was found in a block; only one thread at a time calls this."""

    def fill(self, data: NDArray[np.uint8], start: int, workspace: Any) -> Outcome:
        """Look at one block; the bytes are not changed."""
        count = data.size // self.width
        return Outcome(False, (self, count, self.look(start // self.width, count, workspace)))

    def finish(self, count: int) -> None:
        """Note that a block of `count` elements is done."""
        self._left -= count
        if not self._left:
            for each in self._inputs:
                each.release()


def pieces_of(tasks: Sequence[BlockTask[Any]]) -> list[Generated]:
    """Return tasks as the pieces of a pass; its results are for `add_found`."""
    return [Generated(task.length, task) for task in tasks]


def add_found(found: tuple[BlockTask[Any], int, Any]) -> None:
    """Add what was found in a block to the sums of its task."""
    task, count, of_block = found
    task.add(of_block)
    task.finish(count)


def run_tasks(
    tasks: Sequence[BlockTask[Any]], source: ByteSource, jobs: int, progress: Callable[[int], None] | None = None
) -> None:
    """Carry tasks out with `jobs` threads; `progress` is called with the number of bytes just read.

    Raises:
        PrunecliError: a task raised it.
    """
    run_pieces(pieces_of(tasks), source, NullSink(), jobs=jobs, progress=progress, found=add_found)
