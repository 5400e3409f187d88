"""What a torch zip and a legacy file have in common as checkpoints: they show what their pickle says."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prunecli.formats.base import Edit, ReadOptions, SingleFile, TensorInfo
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source
from prunecli.formats.torch.objects import TorchObjects

__all__ = ["TorchContainer"]


@dataclass(frozen=True)
class TorchContainer(SingleFile):
    """The common part of the layouts. `reading` is what the user forced."""

    source: Source
    objects: TorchObjects
    reading: ReadOptions

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors of the state dict, by name."""
        return self.objects.tensors

    @property
    def carried(self) -> Sequence[TensorInfo]:
        """All other tensors."""
        return self.objects.carried

    @property
    def wrapper(self) -> str:
        """Where the state dict lies."""
        return self.objects.wrapper

    @property
    def no_masks_because(self) -> str | None:
        """Why masks have no place here."""
        return self.objects.no_masks_because

    @property
    def metadata(self) -> None:
        """None: what `torch.save` writes has no place for strings of others."""
        return

    @property
    def notes(self) -> Sequence[str]:
        """Sentences on how it was read that its user should see."""
        return self.objects.notes

    def pieces(self, edit: Edit) -> Iterator[Piece]:
        """Describe the rewritten file."""
        return self._relaid(edit) if edit.structural else self._in_place(edit)

    @abstractmethod
    def _in_place(self, edit: Edit) -> Iterator[Piece]:
        """Copy the file as it lies, with the patches put in."""

    @abstractmethod
    def _relaid(self, edit: Edit) -> Iterator[Piece]:
        """Write the pickle and the storages anew."""
