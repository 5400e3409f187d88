"""A folder with a checkpoint in shards, as transformers and related libraries save one, read as one layout.

Every shard is a file that prunecli can read alone; the index records which shard contains which tensor. All other files
in the folder (configuration, tokenizer) are carried along.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property

from prunecli.errors import PrunecliError, UnreadableError, UnsupportedError, raised_in, show
from prunecli.formats.base import AS_FOUND, Checkpoint, Edit, PassthroughFile, ReadOptions, TensorInfo
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.folders.base import Folder
from prunecli.formats.folders.concatenated import Concatenated
from prunecli.formats.folders.diagnosis import no_checkpoint
from prunecli.formats.folders.index_file import Index, read_index, render_index
from prunecli.formats.folders.placement import Placement, place_tensors
from prunecli.formats.folders.reader import Listing, list_folder
from prunecli.formats.folders.weights import find_weights, is_index, weights_among
from prunecli.formats.io.locations import Location
from prunecli.formats.io.pieces import Piece
from prunecli.formats.io.source import Source
from prunecli.formats.packed.names import may_be_sparse
from prunecli.lean import dataclass
from prunecli.terms import BAKE

__all__ = ["ShardedFolder", "open_folder"]


@dataclass(frozen=True)
class ShardedFolder(Folder):
    """A folder of shards. Storages are keyed by shard and key; `source` is the shards' bytes one after the other."""

    path: Location
    index: Index | None
    shards: Mapping[str, Checkpoint]
    sources: Mapping[str, Source]
    passthrough: Sequence[PassthroughFile]
    source: Concatenated
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]
    placement: Placement
    passed_over: Sequence[str] = ()

    @property
    def format(self) -> str:
        """The format of the shards."""
        return f"folder of {self._first.format}"

    @property
    def wrapper(self) -> str:
        """The place of the state dict in each shard."""
        return self._first.wrapper

    @property
    def no_masks_because(self) -> str | None:
        """The reason why masks cannot be stored here; None if they can."""
        return next((shard.no_masks_because for shard in self.shards.values() if shard.no_masks_because), None)

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """The metadata of the first shard."""
        return self._first.metadata

    @property
    def notes(self) -> Sequence[str]:
        """The notes on the first shard, the differences between index and shards, and the indexes that were ignored."""
        found = [*self._first.notes, *self.placement.notes()]
        if self.passed_over:
            named = ", ".join(show(name, 80) for name in self.passed_over)
            found.insert(0, f"passed over, since no shard that it names is in the folder: {named}")
        return found

    @property
    def absent(self) -> Mapping[str, str]:
        """The tensor names that the index lists for a shard (the value) that does not contain them."""
        return self.placement.absent

    @cached_property
    def _names(self) -> Mapping[str, Sequence[str]]:
        """The names of the checkpoint's tensors in each shard; other tensors in a shard stay as they are."""
        found: dict[str, list[str]] = {file: [] for file in self.shards}
        for name, file in self.placement.files.items():
            found[file].append(name)
        return found

    @property
    def _first(self) -> Checkpoint:
        return next(iter(self.shards.values()))

    def file_of(self, storage: str) -> str:
        """Return the shard that contains a storage."""
        return storage.partition("/")[0]

    def file_pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Return the pieces of a rewritten shard; a mask goes into the shard of its weight."""
        shard = self.shards[file]
        # Looked up by name, not filtered: an edit contains the parts of all shards, and this runs for every shard.
        names = self._names[file]
        keys = dict.fromkeys(shard.tensors[name].storage.key for name in names)
        keys |= dict.fromkeys(tensor.storage.key for tensor in shard.carried)
        own = Edit(
            {key: edit.patches[f"{file}/{key}"] for key in keys if f"{file}/{key}" in edit.patches},
            {name: edit.renames[name] for name in names if name in edit.renames},
            edit.removals.intersection(names),
            [addition for name in names for addition in edit.behind.get(name, ())],
            edit.metadata,
        )
        surplus = shard.tensors.keys() - names if len(names) < len(shard.tensors) else ()
        taken = next((name for name in own.new_names if name in surplus), None)
        if taken is not None:
            raise UnsupportedError(
                f"{show(self.path / file)} already holds a tensor {show(taken)}, which the index does not put there; "
                f"take it out, or use {BAKE}"
            )
        return shard.pieces(own)

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the index, unchanged unless names change."""
        if self.index is None:
            return {}
        return {self.index.name: self._edited_index(self.index, edit) if edit.structural else self.index.raw}

    def _edited_index(self, index: Index, edit: Edit) -> bytes:
        weight_map: dict[str, str] = {}
        taken = frozenset(edit.new_names)
        for name, named in index.weight_map.items():
            shard = self.placement.files.get(name, named)
            if name not in edit.removals and (name in self.tensors or name not in taken):
                weight_map[edit.renames.get(name, name)] = shard
            weight_map |= {addition.name: shard for addition in edit.behind.get(name, ())}
        kept = [tensor for name, tensor in self.tensors.items() if name not in edit.removals]
        # Tied tensors count once, as in the libraries.
        sizes = {(each.storage.key, each.span): each.elements * each.dtype.itemsize for each in kept}
        size = sum(sizes.values()) + sum(addition.nbytes for addition in edit.additions)
        return render_index(index, weight_map, size)


@contextmanager
def open_folder(
    location: Location, reading: ReadOptions = AS_FOUND, listing: Listing | None = None, index: str | None = None
) -> Iterator[ShardedFolder]:
    """Open a folder with shards or a single file of weights, and read its layout.

    `listing` is given if the folder has been listed before. `index` is the name of the index to read, if the user
    named one.

    Raises:
        UnreadableError: a file is missing or cannot be read, or the folder does not contain a checkpoint.
        DamagedError: the index and the shards contradict each other.
        UnsafeError: the index or a link leads out of the folder; or as for a single file.
        UnsupportedError: as for a single file.
    """
    listing = listing or list_folder(location, follow_links=reading.follow_links)
    folder, files = listing.folder, listing.files
    passed_over = [] if index else _without_shards(listing)
    with raised_in(show(location, 80)):
        weights = index or find_weights([name for name in files if name not in passed_over])
    if weights is None:
        raise no_checkpoint(location, files)
    with ExitStack() as stack:
        read = read_index(stack.enter_context(folder.open(weights)), weights) if is_index(weights) else None
        names = sorted(set(read.weight_map.values())) if read else [weights]
        missing = next((shard for shard in names if shard not in files), None)
        if missing is not None:
            raise UnreadableError(f"{show(location / missing)} is missing, though the index names it; fetch it")
        sources = {shard: stack.enter_context(folder.open(shard)) for shard in names}
        if read is not None and may_be_sparse(read.weight_map):
            from prunecli.formats.folders.sparse import dense_shards

            read, sources = dense_shards(read, sources)
        shards = {shard: read_checkpoint(source, reading) for shard, source in sources.items()}
        others = [each for name, each in files.items() if name not in shards and name != weights]
        found = _join(location, location / index if index else location, read, shards, others)
        yield replace(found, passed_over=passed_over)


def _without_shards(listing: Listing) -> list[str]:
    """Return the indexes whose shards are all missing, if the folder contains other weights.

    They are left over: a download of one variant includes the `*.json` files of all variants, and transformers 5.24
    removes the shards of a variant, but not its index, when it saves the plain model into the same folder.
    """
    names = weights_among(listing.files)
    found = []
    for name in names if len(names) > 1 else ():
        with contextlib.suppress(PrunecliError), listing.folder.open(name) as source:
            if is_index(name) and listing.files.keys().isdisjoint(read_index(source, name).weight_map.values()):
                found.append(name)
    return found if len(found) < len(names) else []


def _join(
    path: Location,
    named: Location,
    index: Index | None,
    shards: Mapping[str, Checkpoint],
    others: Sequence[PassthroughFile],
) -> ShardedFolder:
    """Return the folder of these shards; `named` is what the user named, the folder at `path` or an index in it."""
    label = show(named)
    joined = Concatenated([shard.source for shard in shards.values()], label, str(named))
    first = next(iter(shards.values()))
    for file, each in shards.items():
        if (each.format, each.wrapper) != (first.format, first.wrapper):
            raise UnsupportedError(f"{label} has shards of different kinds: {show(next(iter(shards)))}, {show(file)}")
    starts = dict(zip(shards, joined.starts, strict=True))
    with raised_in(label):
        placement = place_tensors(index, shards)
    tensors = {name: _moved(shards[file].tensors[name], file, starts[file]) for name, file in placement.files.items()}
    surplus = [(file, shards[file].tensors[name]) for file, name in placement.surplus]
    rest = [(file, tensor) for file, each in shards.items() for tensor in each.carried]
    carried = [
        replace(_moved(tensor, file, starts[file]), name=f"{file}: {tensor.name}") for file, tensor in (*surplus, *rest)
    ]
    sources = {file: shard.source for file, shard in shards.items()}
    return ShardedFolder(path, index, shards, sources, others, joined, tensors, carried, placement)


def _moved(tensor: TensorInfo, file: str, start: int) -> TensorInfo:
    storage = tensor.storage
    return replace(tensor, storage=replace(storage, key=f"{file}/{storage.key}", offset=start + storage.offset))
