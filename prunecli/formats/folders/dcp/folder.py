"""A folder that torch.distributed.checkpoint wrote: tensors in chunks, each a small torch zip inside a large file.

A bake copies each file and zeroes some elements in its zips, so all offsets stay, and `.metadata` stays valid without a
change. Tensors that shared their storage were written once for each name, so here they are separate tensors.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

from prunecli.errors import DamagedError, UnreadableError, UnsafeError, UnsupportedError, raised_in, show
from prunecli.formats.base import AS_FOUND, Edit, Part, PassthroughFile, Patch, ReadOptions, Storage, TensorInfo
from prunecli.formats.folders.base import Folder
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.dcp.metadata import Chunk, Item, Metadata, StoredTensor, read_metadata
from prunecli.formats.folders.dcp.names import find_stored
from prunecli.formats.folders.dcp.reassembled import Reassembled
from prunecli.formats.folders.files import METADATA, weight_files
from prunecli.formats.folders.reader import Listing
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Copy, Piece
from prunecli.formats.io.source import Source, Window
from prunecli.formats.torch.signatures import looks_like_zip
from prunecli.formats.torch.state_dict import NamedNode
from prunecli.formats.torch.tensors import TensorRef
from prunecli.formats.torch.zip import TorchZip, check_torch_zip, read_torch_zip
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.terms import ALLOW_FOREIGN

__all__ = ["DcpFolder", "open_dcp_folder"]

_MAGIC = 16
_COMMON = "common.pt"
"""The file in which Megatron-Core stores everything but tensors: iteration, arguments."""


@dataclass(frozen=True)
class DcpFolder(Folder):
    """A folder of distributed checkpoint files. The key of a storage is the file and offset of its zip."""

    path: Location
    listing: Metadata
    sources: Mapping[str, Source]
    passthrough: Sequence[PassthroughFile]
    source: Reassembled
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    wrapper: str = ""
    notes: Sequence[str] = ()
    format: ClassVar[str] = "folder of torch.distributed.checkpoint"
    no_masks_because: ClassVar[str] = "its metadata says where every tensor lies, and has no place for new ones"

    @property
    def other_weight_files(self) -> list[str]:
        """Other files with weights."""
        return [name for name in weight_files(self.passthrough) if name != _COMMON]

    def file_of(self, storage: str) -> str:
        """Return the file that contains a storage."""
        return storage.rpartition(":")[0]

    def file_pieces(self, file: str, edit: Edit) -> Iterator[Piece]:
        """Return the pieces of a rewritten file: the zips keep their places, and some of their elements change."""
        if edit.structural:
            raise UnsupportedError(
                f"{show(self.path)} takes no masks and loses none: {self.no_masks_because}; make one file of it with "
                "torch's dcp_to_torch_save, and bake that"
            )
        source, at = self.sources[file], 0
        for item, label in self._zips.get(file, ()):
            yield Copy(at, item.offset - at)
            inner = read_torch_zip(_window(source, item, label), ReadOptions(foreign=True))  # judged when it was opened
            patches = edit.patches.get(_storage_key(item), ())
            for piece in inner.pieces(_inner_edit(inner, patches)):
                yield replace(piece, offset=piece.offset + item.offset) if isinstance(piece, Copy) else piece
            at = item.offset + item.length
        yield Copy(at, source.size - at)

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the metadata, unchanged."""
        return {METADATA: self.listing.raw}

    @cached_property
    def _zips(self) -> dict[str, list[tuple[Item, str]]]:
        """The zips of tensors in each file, in order, with their labels."""
        found: dict[str, list[tuple[Item, str]]] = {}
        for entry in self.listing.entries:
            for chunk in entry.chunks if isinstance(entry, StoredTensor) else ():
                label = _label(self.path, chunk.item, entry.name)
                found.setdefault(chunk.item.file, []).append((chunk.item, label))
        return {file: sorted(items, key=lambda each: each[0].offset) for file, items in found.items()}


def _placed(named: NamedNode, tensors: Mapping[int, TensorInfo]) -> TensorInfo | None:
    """Return the stored tensor that a node represents."""
    if not isinstance(named.ref, TensorRef):
        return None
    stored = tensors[int(named.ref.storage.key)]
    return replace(stored, name=named.name, within=named.within, moment=named.moment)


def _inner_edit(inner: TorchZip, patches: Sequence[Patch]) -> Edit:
    return Edit({inner.tensors[""].storage.key: patches}) if patches else Edit()


def _storage_key(item: Item) -> str:
    return f"{item.file}:{item.offset}"


def _label(path: Location, item: Item, name: str) -> str:
    return f"{show(path / item.file)}: {show(name)}"


def _window(source: Source, item: Item, label: str) -> Window:
    if item.offset + item.length > source.size:
        raise DamagedError(
            f"{label} ends at byte {item.offset + item.length}, the file at {source.size}; copy it again"
        )
    return Window(source, item.offset, item.length, label)


@contextmanager
def open_dcp_folder(listed: Listing, reading: ReadOptions = AS_FOUND) -> Iterator[DcpFolder]:
    """Open a listed folder with a `.metadata`, and read its layout.

    Raises:
        UnreadableError: a file is missing or cannot be read.
        DamagedError: metadata and files contradict each other.
        UnsafeError: the metadata or an object names a class that loading would import, or the metadata leads out of
            the folder.
        UnsupportedError: tensors are stored in a way that prunecli cannot edit.
        UsageError: the key of `reading` leads nowhere.
    """
    path, folder, files = listed.location, listed.folder, listed.files
    with ExitStack() as stack:
        metadata = read_metadata(stack.enter_context(folder.open(METADATA)), foreign=reading.foreign)
        names = sorted({item.file for item in _items(metadata)})
        if METADATA in names:  # the output gets a copy of this file, without what was pruned in it
            raise DamagedError(
                f"{show(path / METADATA)} says that tensors are stored in it itself; copy the folder again"
            )
        missing = next((name for name in names if name not in files), None)
        if missing is not None:
            raise UnreadableError(f"{show(path / missing)} is missing, though {METADATA} names it; fetch it")
        sources = {name: stack.enter_context(folder.open(name)) for name in names}
        others = [each for name, each in files.items() if name not in sources and name != METADATA]
        yield _Opening(path, metadata, sources, reading).folder(others)


def _items(metadata: Metadata) -> Iterator[Item]:
    for entry in metadata.entries:
        if isinstance(entry, StoredTensor):
            yield from (chunk.item for chunk in entry.chunks)
        else:
            yield entry.item


class _Opening:
    """A reader of the zips that the metadata names, which checks that they match the metadata."""

    def __init__(self, path: Location, metadata: Metadata, sources: Mapping[str, Source], reading: ReadOptions) -> None:
        self._path = path
        self._metadata = metadata
        self._sources = sources
        self._reading = ReadOptions(foreign=reading.foreign)
        self._key = reading.key
        self._joined = Concatenated(list(sources.values()), show(path), str(path))
        self._starts = dict(zip(sources, self._joined.starts, strict=True))
        self._end = self._joined.size  # the offset of the next assembled tensor
        self._assembled: list[TensorInfo] = []

    def folder(self, others: Sequence[PassthroughFile]) -> DcpFolder:
        entries = self._metadata.entries
        self._check_overlaps()
        tensors: dict[int, TensorInfo] = {}
        for place, entry in enumerate(entries):
            if isinstance(entry, StoredTensor):
                tensors[place] = self._tensor(entry)
            else:
                self._check_object(entry.item, entry.name)
        with raised_in(f"{show(self._path)}/{METADATA}"):
            state = find_stored(entries, self._key)
        if not tensors:
            raise UnsupportedError(f"{show(self._path)} holds no tensors")
        named = [_placed(each, tensors) for each in state.nodes]
        rest = [_placed(each, tensors) for each in state.others]
        return DcpFolder(
            self._path,
            self._metadata,
            self._sources,
            others,
            Reassembled(self._joined, self._assembled),
            {each.name: each for each in named if each is not None},
            [each for each in rest if each is not None],
            state.wrapper,
            state.notes,
        )

    def _check_overlaps(self) -> None:
        reach: dict[str, int] = {}
        for item in sorted(_items(self._metadata), key=lambda item: item.offset):
            if item.offset < reach.get(item.file, 0):
                raise DamagedError(f"{show(self._path / item.file)}: two items of {METADATA} overlap in it")
            reach[item.file] = item.offset + item.length

    def _check_object(self, item: Item, name: str) -> None:
        """Check that loading an object would run only code that is allowed."""
        window = _window(self._sources[item.file], item, _label(self._path, item, name))
        if looks_like_zip(window.read(0, min(_MAGIC, window.size))):
            check_torch_zip(window, self._reading)
        elif not self._reading.foreign:
            raise UnsafeError(
                f"{window.label} is an object that torch.save did not write, and loading would run what it says; "
                f"{ALLOW_FOREIGN} leaves it as it is, unread"
            )

    def _tensor(self, entry: StoredTensor) -> TensorInfo:
        parts = tuple(self._part(entry, chunk) for chunk in entry.chunks)
        if len(parts) == 1:
            return TensorInfo(entry.name, entry.dtype, parts[0].view, parts[0].storage)
        nbytes = sum(part.view.elements for part in parts) * entry.dtype.itemsize
        if len({part.storage.big_endian for part in parts}) > 1:
            raise UnsupportedError(f"{show(self._path)}: {show(entry.name)} has chunks of different byte orders")
        storage = Storage(f"({entry.name})", self._end, nbytes, big_endian=any(p.storage.big_endian for p in parts))
        tensor = TensorInfo(entry.name, entry.dtype, View.of(entry.shape), storage, parts=parts)
        if parts:
            self._assembled.append(tensor)
            self._end += nbytes
        return tensor

    def _part(self, entry: StoredTensor, chunk: Chunk) -> Part:
        item, label = chunk.item, _label(self._path, chunk.item, entry.name)
        window = _window(self._sources[item.file], item, label)
        if not looks_like_zip(window.read(0, min(_MAGIC, window.size))):
            raise UnsupportedError(f"{label} is not a zip of torch.save; save the folder anew with torch's own format")
        inner = read_torch_zip(window, self._reading)
        found = inner.tensors.get("")
        if found is None or len(inner.tensors) + len(inner.carried) != 1:
            raise DamagedError(f"{label} should contain exactly one tensor; copy the folder again")
        if found.dtype != entry.dtype or found.shape != chunk.sizes:
            raise DamagedError(
                f"{label} is {found.dtype.name} {list(found.shape)}, {METADATA} says {entry.dtype.name} "
                f"{list(chunk.sizes)}; copy the folder again"
            )
        if not found.view.nested or (found.elements and found.view.repeats > 1):
            raise UnsupportedError(f"{label} has elements that share memory, which torch does not write here")
        start = self._starts[item.file] + item.offset + found.storage.offset
        return Part(chunk.offsets, found.view, replace(found.storage, key=_storage_key(item), offset=start))
