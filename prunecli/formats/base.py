"""The interface of every container: named tensors in storages, and rewrites that are described before they are run."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from prunecli.formats.dtypes import DType
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Checksum, Content, Copy, Piece
from prunecli.formats.io.source import ByteSource, Source
from prunecli.formats.views import View
from prunecli.lean import dataclass

__all__ = [
    "AS_FOUND",
    "ONLY_FILE",
    "Addition",
    "AnyCheckpoint",
    "Checkpoint",
    "Edit",
    "Layout",
    "Moment",
    "Part",
    "PassthroughFile",
    "Patch",
    "ReadOptions",
    "SingleFile",
    "Storage",
    "TensorInfo",
    "patched_copies",
]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Options for reading a checkpoint.

    `key` is the dotted path of the state dict, which is searched for if it is None. `foreign` admits objects of classes
    that weights-only loading refuses; they are copied, and never run. `follow_links` admits links that lead out of a
    folder. `recorded` means that the key comes from a report: a container without levels ignores it. `read_only` means
    that nothing is written, so that foreign objects that are plain data without tensors are admitted, with a note.
    """

    key: str | None = None
    foreign: bool = False
    follow_links: bool = False
    recorded: bool = False
    read_only: bool = False


AS_FOUND = ReadOptions()
"""The default options: no key, no foreign objects, no links out of a folder."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of raw bytes in the file. `key` is unique in the container; `crc` is the bytes' CRC-32 if it is recorded.

    `big_endian` is whether its elements are stored with the highest byte first.
    """

    key: str
    offset: int
    nbytes: int
    crc: int | None = None
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One of several parts in which a tensor is stored: a box that begins at `offsets`, with its view of a storage."""

    offsets: tuple[int, ...]
    view: View
    storage: Storage


@dataclass(frozen=True, slots=True)
class Moment:
    """The relation of a tensor in an optimizer's state to one of the optimizer's parameters, as the file records it.

    `optimizer` is the path to that state. `group` is the index of the parameter's group, `place` its index there;
    `parameter` is its name. `statistic` names what the tensor holds (`exp_avg`).
    """

    optimizer: str
    group: int | None
    place: int | None
    parameter: str | None
    statistic: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A named tensor: its element type and its view of a storage.

    `buffer` means that the file marks it as not a parameter; a plain state dict does not mark parameters and buffers.
    `within` is the part of the file that contains it: "optimizer state", "average", "tensor without plain elements", or
    "" for none of these. `moment` is its relation to a parameter there. `component` is the prefix of its name for a
    component of the checkpoint ("unet/"), or "". A tensor in several `parts` is read through a row-major storage that
    the layout's source assembles; only the storages of the parts can be edited.
    """

    name: str
    dtype: DType
    view: View
    storage: Storage
    buffer: bool = False
    parts: tuple[Part, ...] = ()
    within: str = ""
    moment: Moment | None = None
    component: str = ""

    @property
    def storages(self) -> tuple[Storage, ...]:
        """The storages that contain its bytes in the file."""
        return tuple(part.storage for part in self.parts) or (self.storage,)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.view.shape

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return self.view.elements

    @property
    def span(self) -> tuple[int, int]:
        """First byte and one past the last, within the storage."""
        return self.view.start * self.dtype.itemsize, self.view.stop * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Patch:
    """A byte range of a storage, and the `content` that edits its bytes."""

    start: int
    length: int
    content: Content


@dataclass(frozen=True, slots=True)
class Addition:
    """A new row-major tensor, named after its neighbour (`after`) and put directly behind it; `pieces` make it."""

    after: str
    name: str
    dtype: DType
    shape: tuple[int, ...]
    pieces: Sequence[Piece]

    @property
    def nbytes(self) -> int:
        """The size of the new tensor in bytes."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True)
class Edit:
    """A rewrite of a checkpoint. Everything that it does not name is copied byte for byte.

    `patches` are keyed by storage; those of a storage are in order and disjoint. `renames` and `removals` use the names
    in `tensors`.
    """

    patches: Mapping[str, Sequence[Patch]] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    additions: Sequence[Addition] = ()
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    """Entries of the container's metadata to add or replace; None removes one."""

    @property
    def structural(self) -> bool:
        """Whether names or storages change, not only bytes within storages."""
        return bool(self.renames or self.removals or self.additions)

    @property
    def new_names(self) -> list[str]:
        """The new names: those of renamed and of added tensors."""
        return [*self.renames.values(), *(addition.name for addition in self.additions)]

    @cached_property
    def behind(self) -> Mapping[str, Sequence[Addition]]:
        """The additions by the name of their neighbour."""
        found: dict[str, list[Addition]] = {}
        for addition in self.additions:
            found.setdefault(addition.after, []).append(addition)
        return found


class Layout(Protocol):
    """Named tensors in storages, and the bytes of the storages: the input of a plan.

    `tensors` are those of the state dict. `carried` are all others (optimizer state, averages), named by their paths:
    they are never edited, but may share a storage. `no_masks_because` is why the container cannot hold masks, None if
    it can. `metadata`: the container's string entries, None if the format has none. `notes` are sentences for
    the user about how it was read; the command line prints them.

    `path` is the path of the file or folder, None for a stream. `passthrough` are the files of a folder that hold none
    of the tensors. `absent` maps the names of missing tensors to the files in which an index places them.
    """

    is_folder: bool

    @property
    def source(self) -> ByteSource: ...
    @property
    def format(self) -> str: ...
    @property
    def tensors(self) -> Mapping[str, TensorInfo]: ...
    @property
    def carried(self) -> Sequence[TensorInfo]: ...
    @property
    def no_masks_because(self) -> str | None: ...
    @property
    def metadata(self) -> Mapping[str, str] | None: ...
    @property
    def notes(self) -> Sequence[str]: ...
    @property
    def path(self) -> Location | None: ...
    @property
    def passthrough(self) -> Sequence["PassthroughFile"]: ...
    @property
    def absent(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class PassthroughFile:
    """A file of a folder that is copied to the output unchanged: its name below the folder, its path, its size."""

    name: str
    path: Location
    size: int

    @property
    def state(self) -> tuple[int, int] | None:
        """Size and modification time, to notice changes; None for a URL, which is always fetched again."""
        if isinstance(self.path, Path):
            with suppress(OSError):  # reading the file later raises the error
                status = self.path.stat()
                return status.st_size, status.st_mtime_ns
        return None


class AnyCheckpoint(Layout, Protocol):
    """A checkpoint in a file or a folder, read without running anything, and its rewrite file by file.

    `sources` are the files that hold tensors, by their names below `path`. `other_weight_files` are the files of a
    folder that hold other weights, which a library might load instead. The names of `tensors` do not include the
    `wrapper`, the path to the state dict.
    """

    @property
    def sources(self) -> Mapping[str, Source]: ...
    @property
    def other_weight_files(self) -> Sequence[str]: ...
    @property
    def wrapper(self) -> str: ...

    def file_of(self, storage: str) -> str:
        """Return the name of the file that contains the storage with this key."""

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of one rewritten file, over that file's source, for an edit of the whole checkpoint.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the small files to write last, by name: without them, the folder is not a checkpoint."""


class Checkpoint(AnyCheckpoint, Protocol):
    """A checkpoint in one file."""

    @property
    def source(self) -> Source: ...

    def pieces(self, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of the rewritten file.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """


ONLY_FILE = "checkpoint"
"""The key in `sources` for the file of a checkpoint that has only one."""


class SingleFile(ABC):
    """The base of containers in a single file: it presents the file as a checkpoint, like a folder of one file."""

    source: Source
    is_folder = False
    passthrough: Sequence[PassthroughFile] = ()
    other_weight_files: Sequence[str] = ()
    absent: Mapping[str, str] = MappingProxyType({})

    @property
    def path(self) -> Location | None:
        """The path of the file, None for a stream."""
        return self.source.location

    @property
    def sources(self) -> Mapping[str, Source]:
        """The source of the only file."""
        return {ONLY_FILE: self.source}

    @abstractmethod
    def pieces(self, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of the rewritten file."""

    def file_of(self, storage: str) -> str:
        """Return the name of the only file."""
        return ONLY_FILE

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of the rewritten file."""
        return self.pieces(edit)

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return an empty mapping: a single file needs no others."""
        return {}


def patched_copies(storage: Storage, patches: Sequence[Patch], before: Checksum | None = None) -> Iterator[Copy]:
    """Yield the copies of a storage's bytes, cut so that each patch has its own piece."""
    at = 0
    for patch in patches:
        if patch.start > at:
            yield Copy(storage.offset + at, patch.start - at, None, before, None, at)
        yield Copy(storage.offset + patch.start, patch.length, patch.content, before, None, patch.start)
        at = patch.start + patch.length
    if storage.nbytes > at:
        yield Copy(storage.offset + at, storage.nbytes - at, None, before, None, at)
