"""A checkpoint in a folder of files: the interface that plans, rewrites and reports use for every kind of folder."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from prunecli.formats.base import Edit, PassthroughFile, TensorInfo
from prunecli.formats.folders.files import weight_files
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import ByteSource, Source

__all__ = ["Folder"]


class Folder(ABC):
    """A layout over several files, which are rewritten file by file.

    `sources` are the files that contain tensors, by their names below `path`; `passthrough` are all other files.
    `source` is all files with tensors as one run of bytes; the storages of the layout lie in it.
    """

    is_folder = True
    path: Location
    sources: Mapping[str, Source]
    passthrough: Sequence[PassthroughFile]
    source: ByteSource
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]

    @property
    @abstractmethod
    def format(self) -> str:
        """The name of the format in reports."""

    @property
    @abstractmethod
    def wrapper(self) -> str:
        """The place of the state dict in each file."""

    @property
    @abstractmethod
    def no_masks_because(self) -> str | None:
        """The reason why masks cannot be stored here; None if they can."""

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """The string entries of the files, None if the format has none."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the user on how the folder was read."""
        return ()

    @property
    def absent(self) -> Mapping[str, str]:
        """The tensor names that an index lists for a file (the value) that does not contain them."""
        return {}

    @property
    def other_weight_files(self) -> Sequence[str]:
        """Other files with weights, which a library might load instead; they stay as they are."""
        return weight_files(self.passthrough)

    @abstractmethod
    def file_of(self, storage: str) -> str:
        """Return the file that contains the storage with this key."""

    @abstractmethod
    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces, over the file's own source, that an edit of the whole checkpoint makes of one file.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """

    @abstractmethod
    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the small files that are written last, by name; without them the folder is not a checkpoint."""
