"""The common part of torch zips and legacy files as checkpoints: both expose what their pickle describes."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

from prunecli.formats.base import Edit, ReadOptions, SingleFile, TensorInfo
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source
from prunecli.formats.torch.objects import TorchObjects
from prunecli.lean import dataclass

__all__ = ["TorchContainer"]


@dataclass(frozen=True)
class TorchContainer(SingleFile):
    """The common part of the two layouts. `reading` holds the user's options for reading."""

    source: Source
    objects: TorchObjects
    reading: ReadOptions

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors of the state dict, by name."""
        return self.objects.tensors

    @property
    def carried(self) -> Sequence[TensorInfo]:
        """All other tensors of the file."""
        return self.objects.carried

    @property
    def wrapper(self) -> str:
        """The dotted path to the state dict, "" for the top."""
        return self.objects.wrapper

    @property
    def no_masks_because(self) -> str | None:
        """The reason why the file cannot hold masks, None if it can."""
        return self.objects.no_masks_because

    @property
    def metadata(self) -> None:
        """None: the files of `torch.save` cannot hold string metadata."""
        return

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user about how the file was read."""
        return self.objects.notes

    def pieces(self, edit: Edit) -> Iterator[Piece]:
        """Return the pieces of the rewritten file."""
        return self._relaid(edit) if edit.structural else self._in_place(edit)

    @abstractmethod
    def _in_place(self, edit: Edit) -> Iterator[Piece]:
        """Copy the file unchanged except for the patches."""

    @abstractmethod
    def _relaid(self, edit: Edit) -> Iterator[Piece]:
        """Write a new pickle and lay the storages out again."""
