"""A checkpoint in a folder of files: the interface of all kinds of them to plans, rewrites and reports."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

from prunecli.formats.base import Edit, PassthroughFile, TensorInfo
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import ByteSource, Source

__all__ = ["Folder"]


class Folder(ABC):
    """A layout over several files, and its rewrite file by file.

    `sources` are the files that hold tensors, by their names below `path`; `passthrough` are all the rest.
    `source` is what the layout's storages lie in: all files as one run of bytes.
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
        """What the report calls it."""

    @property
    @abstractmethod
    def wrapper(self) -> str:
        """Where the state dict lies."""

    @property
    @abstractmethod
    def no_masks_because(self) -> str | None:
        """Why masks have no place here, None if they have."""

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """Strings that the files hold beside their tensors, None if they have no place for any."""
        return None

    @property
    def notes(self) -> Sequence[str]:
        """Sentences on how it was read that its user should see."""
        return ()

    @property
    def absent(self) -> Mapping[str, str]:
        """The names that an index puts into a file (the value) that lacks them."""
        return {}

    @property
    @abstractmethod
    def other_weight_files(self) -> Sequence[str]:
        """Other files with weights, which a library might load instead, and which stay as they are."""

    @abstractmethod
    def file_of(self, storage: str) -> str:
        """Return the file in which the storage of that key lies."""

    @abstractmethod
    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Describe what an edit of the whole makes of one file, in pieces over that file's own source.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """

    @abstractmethod
    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the small files that are written last, by name: without them the folder is not a checkpoint."""
