"""A folder that torch's HuggingFaceStorageWriter wrote: tensors in slices, one safetensors file for each rank.

Format: torch 2.13, `torch/distributed/checkpoint/hf_storage.py`. The `__metadata__` of each file has DCP_SHARDING_INFO,
a JSON object that records for every tensor of the file where its slice begins in the whole tensor (`saved_offsets`).
The size of the whole tensor is not recorded: it follows from the ends of the last slices. transformers writes these
folders with `save_pretrained(distributed_checkpoint=True)`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, ClassVar, TypeGuard

from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.base import AS_FOUND, Edit, Part, PassthroughFile, ReadOptions, Storage, TensorInfo
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.dtypes import DType
from prunecli.formats.folders.base import Folder
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.dcp.boxes import tile
from prunecli.formats.folders.dcp.reassembled import Reassembled
from prunecli.formats.folders.files import SHARDING_INFO
from prunecli.formats.folders.reader import Listing
from prunecli.formats.folders.weights import is_index, is_whole
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source
from prunecli.formats.json_text import parse_object
from prunecli.formats.safetensors.read import SafetensorsFile, looks_like_safetensors
from prunecli.formats.views import View
from prunecli.lean import dataclass

__all__ = ["SlicesFolder", "holds_slices", "offsets_of", "open_slices", "slice_files"]

_OFFSETS = "saved_offsets"
_SUFFIX = ".safetensors"

Offsets = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SlicesFolder(Folder):
    """A folder of slices. Storages are keyed by file and name."""

    path: Location
    shards: Mapping[str, SafetensorsFile]
    sources: Mapping[str, Source]
    passthrough: Sequence[PassthroughFile]
    source: Reassembled
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo] = ()
    wrapper: str = ""
    format: ClassVar[str] = "folder of safetensors slices"
    no_masks_because: ClassVar[str] = (
        "each file says which slices of which tensors it holds, and has no place for new ones"
    )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the first file."""
        return next(iter(self.shards.values())).metadata

    def file_of(self, storage: str) -> str:
        """Return the file that contains a storage."""
        return storage.partition("/")[0]

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of a rewritten file: the header is unchanged, some elements of the slices change."""
        if edit.structural:
            raise UnsupportedError(
                f"{show(self.path)} takes no masks and loses none: {self.no_masks_because}; make one folder of whole "
                "tensors of it (torch's consolidate_safetensors_files does), and use that"
            )
        shard = self.shards[file]
        places = {f"{file}/{key}": key for key in shard.tensors}
        patches = {key: edit.patches[place] for place, key in places.items() if place in edit.patches}
        return shard.pieces(Edit(patches, metadata=edit.metadata))

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return an empty mapping: there is no index."""
        return {}


def slice_files(listing: Listing) -> list[str]:
    """Return the names of the files with slices; an empty list if this is another kind of folder.

    torch reads every safetensors file at the top as a file of slices. One file is checked for the entry that records
    where its slices begin: one with a name as torch gives it, if there is one.

    Raises:
        UnsupportedError: there is also a file of whole tensors.
        UnreadableError: the file cannot be opened.
    """
    names = sorted(name for name in listing.files if name.endswith(_SUFFIX) and "/" not in name)
    indexed = any(map(is_index, listing.files))
    likely = next((name for name in names if name.startswith("shard-")), names[0] if names else None)
    if indexed or likely is None:
        return []
    with listing.folder.open(likely) as source:
        if not holds_slices(source):
            return []
    whole = next((name for name in listing.files if is_whole(name) and name != likely), None)
    if whole is not None:
        raise UnsupportedError(
            f"{show(listing.location)} holds several checkpoints ({show(whole)}, and slices such as {show(likely)}); "
            "name one file, or move the others"
        )
    return names


def holds_slices(source: Source) -> bool:
    """Whether a file records where its slices begin: the entry is searched in the header, which is not parsed."""
    head = source.read(0, min(9, source.size))
    if not looks_like_safetensors(head):
        return False
    length = min(int.from_bytes(head[:8], "little"), source.size - 8)
    return f'"{SHARDING_INFO}"'.encode() in source.read(8, length)


@contextmanager
def open_slices(listing: Listing, names: Sequence[str], reading: ReadOptions = AS_FOUND) -> Iterator[SlicesFolder]:
    """Open the files of slices in a folder, and assemble the tensors.

    Raises:
        UnreadableError: a file cannot be opened or read.
        DamagedError: a file is damaged, or the slices of a tensor contradict each other.
        UnsupportedError: a file is not a safetensors file.
        UsageError: `reading` forces a key.
    """
    with ExitStack() as stack:
        shards: dict[str, SafetensorsFile] = {}
        for name in names:
            shard = read_checkpoint(stack.enter_context(listing.folder.open(name)), reading)
            if not isinstance(shard, SafetensorsFile):
                raise UnsupportedError(f"{shard.source.label} is not a safetensors file, though its name says so")
            shards[name] = shard
        others = [each for name, each in listing.files.items() if name not in shards]
        yield _SliceReader(listing.location, shards).folder(others)


class _SliceReader:
    """A reader that assembles tensors from the slices in the files of one folder."""

    def __init__(self, path: Location, shards: Mapping[str, SafetensorsFile]) -> None:
        self._path = path
        self._shards = shards
        self._sources = {name: shard.source for name, shard in shards.items()}
        self._joined = Concatenated(list(self._sources.values()), show(path), str(path))
        self._end = self._joined.size  # the offset of the next assembled tensor
        self._assembled: list[TensorInfo] = []

    def folder(self, others: Sequence[PassthroughFile]) -> SlicesFolder:
        found: dict[str, list[Part]] = {}
        dtypes: dict[str, DType] = {}
        for (file, shard), start in zip(self._shards.items(), self._joined.starts, strict=True):
            offsets = offsets_of(shard)
            for name, tensor in shard.tensors.items():
                if dtypes.setdefault(name, tensor.dtype) != tensor.dtype:
                    raise self._damaged(f"slices of {show(name)} are {dtypes[name].name} and {tensor.dtype.name}")
                storage = replace(tensor.storage, key=f"{file}/{name}", offset=start + tensor.storage.offset)
                found.setdefault(name, []).append(Part(offsets[name], tensor.view, storage))
        tensors = {name: self._tensor(name, dtypes[name], parts) for name, parts in found.items()}
        source = Reassembled(self._joined, self._assembled)
        return SlicesFolder(self._path, self._shards, self._sources, others, source, tensors)

    def _tensor(self, name: str, dtype: DType, parts: Sequence[Part]) -> TensorInfo:
        shape = self._shape(name, parts)
        filled = [part for part in parts if part.view.elements]
        if not tile(shape, [(part.offsets, part.view.shape) for part in filled]):
            raise self._damaged(f"the slices of {show(name)} overlap, or leave gaps; a file may be missing")
        if len(filled) <= 1:
            (only,) = filled or parts[:1]
            return TensorInfo(name, dtype, only.view if filled else View.of(shape), only.storage)
        nbytes = sum(part.view.elements for part in filled) * dtype.itemsize
        tensor = TensorInfo(name, dtype, View.of(shape), Storage(f"({name})", self._end, nbytes), parts=tuple(filled))
        self._assembled.append(tensor)
        self._end += nbytes
        return tensor

    def _shape(self, name: str, parts: Sequence[Part]) -> tuple[int, ...]:
        """Return the shape of the whole tensor, which ends where the last slices end."""
        ends = [[at + size for at, size in zip(part.offsets, part.view.shape, strict=True)] for part in parts]
        if len({len(each) for each in ends}) != 1:
            raise self._damaged(f"slices of {show(name)} have different numbers of dimensions")
        return tuple(map(max, zip(*ends, strict=True)))

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{show(self._path)}: {what}; copy the folder again")


def offsets_of(shard: SafetensorsFile) -> Offsets:
    """Return where the slices in a file begin in their whole tensors; without the entry, all begin at 0.

    Raises:
        DamagedError: the entry does not record it for every tensor.
    """
    text = shard.metadata.get(SHARDING_INFO)
    if not text:  # as in torch
        return {name: (0,) * len(tensor.shape) for name, tensor in shard.tensors.items()}
    label = f"{shard.source.label}: {SHARDING_INFO} in its metadata"
    info = parse_object(text.encode("utf-8", "surrogatepass"), label)
    found: dict[str, tuple[int, ...]] = {}
    for name, tensor in shard.tensors.items():
        entry = info.get(name)
        offsets = entry.get(_OFFSETS) if isinstance(entry, dict) else None
        if not _are_places(offsets) or len(offsets) != len(tensor.shape):
            raise DamagedError(f"{label} does not say where {show(name)} begins in its whole; copy the folder again")
        found[name] = tuple(offsets)
    return found


def _are_places(offsets: Any) -> TypeGuard[list[int]]:
    return isinstance(offsets, list) and all(type(at) is int and 0 <= at < 1 << 62 for at in offsets)
