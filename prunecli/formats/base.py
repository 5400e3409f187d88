"""What every container looks like from outside: named tensors in storages; rewrites are described, then done."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from prunecli.formats.dtypes import DType
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Checksum, Content, Copy, Piece
from prunecli.formats.io.source import ByteSource, Source
from prunecli.formats.views import View

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
    """How a checkpoint is to be read.

    `key` forces where the state dict lies (a dotted path). `foreign` admits objects of classes that weights-only
    loading refuses; they are carried through, and nothing of them is run. `follow_links` admits links in a folder that
    lead out of it. `recorded` means that the key is one that a report has: a container without levels passes over it.
    """

    key: str | None = None
    foreign: bool = False
    follow_links: bool = False
    recorded: bool = False


AS_FOUND = ReadOptions()
"""Nothing forced, nothing foreign."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of raw bytes in the file. `key` is unique in the container; `crc` is the bytes' CRC-32 if it is recorded.

    `big_endian` is the byte order of its elements.
    """

    key: str
    offset: int
    nbytes: int
    crc: int | None = None
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tensor that is stored in several: the box that begins at `offsets`, and its own view of a storage."""

    offsets: tuple[int, ...]
    view: View
    storage: Storage


@dataclass(frozen=True, slots=True)
class Moment:
    """What a tensor in an optimizer's state is to one of the optimizer's parameters, as far as the file says.

    `optimizer` is the path to that state; `group` and `place` say where the parameter stands in its parameter groups,
    `parameter` is its name; `statistic` is what is kept of it (`exp_avg`).
    """

    optimizer: str
    group: int | None
    place: int | None
    parameter: str | None
    statistic: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A named tensor: its element type and its view of a storage.

    `buffer` means that the file says it is not a parameter; a plain state dict does not say. `within` is what it hangs
    in by the file's structure: "optimizer state", "average", or "" for neither; `moment` is what it is to a parameter
    there. `component` is the beginning of its name that stands for a component of the checkpoint ("unet/"), or "". A
    tensor in several `parts` is read through a row-major storage that the layout's source puts together; only those of
    its parts can be edited.
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
        """The storages that really hold it."""
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
    """A byte range of a storage whose bytes pass through `content`."""

    start: int
    length: int
    content: Content


@dataclass(frozen=True, slots=True)
class Addition:
    """A new tensor, row-major, named like its neighbour `after` and put right behind it; `pieces` make its bytes."""

    after: str
    name: str
    dtype: DType
    shape: tuple[int, ...]
    pieces: Sequence[Piece]

    @property
    def nbytes(self) -> int:
        """Bytes of the new tensor."""
        return sum(piece.length for piece in self.pieces)


@dataclass(frozen=True)
class Edit:
    """A rewrite of a checkpoint. Everything that it does not name comes out byte for byte.

    `patches` are keyed by storage, in order and disjoint. `renames` and `removals` go by the names in `tensors`.
    """

    patches: Mapping[str, Sequence[Patch]] = field(default_factory=dict)
    renames: Mapping[str, str] = field(default_factory=dict)
    removals: frozenset[str] = frozenset()
    additions: Sequence[Addition] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Entries of the container's metadata that are new, or get another value."""

    @property
    def structural(self) -> bool:
        """Whether names or storages change, and not just bytes within them."""
        return bool(self.renames or self.removals or self.additions)

    @property
    def new_names(self) -> list[str]:
        """The names that come in: of renamed tensors and of new ones."""
        return [*self.renames.values(), *(addition.name for addition in self.additions)]

    @cached_property
    def behind(self) -> Mapping[str, Sequence[Addition]]:
        """The additions by their neighbour."""
        found: dict[str, list[Addition]] = {}
        for addition in self.additions:
            found.setdefault(addition.after, []).append(addition)
        return found


class Layout(Protocol):
    """Named tensors in storages, and the bytes that these consist of: all that a plan is made from.

    `tensors` are those of the state dict; `carried` are all others (optimizer state, averages), by their paths: never
    edited, but known, since they may share a storage. `no_masks_because` says why the container cannot hold masks,
    None if it can. `metadata`: the container's string entries, None if the format has none.
    `notes` are plain sentences on how it was read that its user should see; the command line prints them.

    `path` is where the file or the folder lies, None for a stream. `passthrough` are those files of a folder that hold
    none of the tensors. `absent` are the names that an index puts into a file (the value) that lacks them.
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
    """A file of a folder that comes along into the output as it is: its name below the folder, and where it lies."""

    name: str
    path: Location
    size: int

    @property
    def state(self) -> tuple[int, int] | None:
        """What changes when the file does; None behind a URL, where it is always fetched again."""
        if isinstance(self.path, Path):
            with suppress(OSError):  # reading it will say what is wrong
                status = self.path.stat()
                return status.st_size, status.st_mtime_ns
        return None


class AnyCheckpoint(Layout, Protocol):
    """A checkpoint in a file or a folder, read without running anything, and its rewrite file by file.

    `sources` are the files that hold tensors, by their names below `path`; `other_weight_files` are those of a
    folder that hold other weights, which a library might load instead. `tensors` go by their names in the file
    without the `wrapper` that the state dict lies under.
    """

    @property
    def sources(self) -> Mapping[str, Source]: ...
    @property
    def other_weight_files(self) -> Sequence[str]: ...
    @property
    def wrapper(self) -> str: ...

    def file_of(self, storage: str) -> str:
        """Return the file in which the storage of that key lies."""

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Describe what an edit of the whole makes of one file, in pieces over that file's own source.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the small files that are written last, by name: without them the folder is not a checkpoint."""


class Checkpoint(AnyCheckpoint, Protocol):
    """A checkpoint in one file."""

    @property
    def source(self) -> Source: ...

    def pieces(self, edit: Edit) -> Iterable[Piece]:
        """Describe the rewritten file.

        Raises:
            UnsupportedError: the container cannot hold what the edit asks for.
        """


ONLY_FILE = "checkpoint"
"""What the file of a checkpoint that has only one goes by among `sources`."""


class SingleFile(ABC):
    """Makes a checkpoint of a container: a folder of one file."""

    source: Source
    is_folder = False
    passthrough: Sequence[PassthroughFile] = ()
    other_weight_files: Sequence[str] = ()
    absent: Mapping[str, str] = MappingProxyType({})

    @property
    def path(self) -> Location | None:
        """Where the file lies, None for a stream."""
        return self.source.location

    @property
    def sources(self) -> Mapping[str, Source]:
        """The file."""
        return {ONLY_FILE: self.source}

    @abstractmethod
    def pieces(self, edit: Edit) -> Iterable[Piece]:
        """Describe the rewritten file."""

    def file_of(self, storage: str) -> str:
        """Return the only one."""
        return ONLY_FILE

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Describe the rewritten file."""
        return self.pieces(edit)

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return nothing: a file is whole by itself."""
        return {}


def patched_copies(storage: Storage, patches: Sequence[Patch], before: Checksum | None = None) -> Iterator[Copy]:
    """Copy a storage's bytes, cut so that each patch has a piece of its own."""
    at = 0
    for patch in patches:
        if patch.start > at:
            yield Copy(storage.offset + at, patch.start - at, None, before, None, at)
        yield Copy(storage.offset + patch.start, patch.length, patch.content, before, None, patch.start)
        at = patch.start + patch.length
    if storage.nbytes > at:
        yield Copy(storage.offset + at, storage.nbytes - at, None, before, None, at)
