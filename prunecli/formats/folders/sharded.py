"""A folder with a checkpoint in shards, as transformers and its relatives save one: read as one layout.

Every shard is a file that prunecli reads by itself; the index says which tensor lies where. What else is in the folder
(configuration, tokenizer) is carried along.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from prunecli.errors import DamagedError, UnreadableError, UnsupportedError, show
from prunecli.formats.base import AS_FOUND, Checkpoint, Edit, Reading, TensorInfo
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.folders.files import METADATA, WHOLE, weight_files
from prunecli.formats.folders.folder import Folder, Kept
from prunecli.formats.folders.index_file import Index, read_index, render_index
from prunecli.formats.folders.joined import Joined
from prunecli.formats.folders.reader import Listing, list_folder
from prunecli.formats.locations import Location
from prunecli.formats.pieces import Piece
from prunecli.formats.source import Source

__all__ = ["ShardedFolder", "open_folder"]


@dataclass(frozen=True)
class ShardedFolder(Folder):
    """A folder of shards. Storages are keyed by shard and key, and lie in the shards' bytes one behind the other."""

    path: Location
    index: Index | None
    shards: Mapping[str, Checkpoint]
    sources: Mapping[str, Source]
    others: Sequence[Kept]
    source: Joined
    tensors: Mapping[str, TensorInfo]
    carried: Sequence[TensorInfo]

    @property
    def format(self) -> str:
        """What the shards are."""
        return f"folder of {self._first.format}"

    @property
    def big_endian(self) -> bool:
        """The byte order of all shards."""
        return self._first.big_endian

    @property
    def wrapper(self) -> str:
        """Where the state dict lies in each shard."""
        return self._first.wrapper

    @property
    def maskless(self) -> str | None:
        """Why masks have no place here."""
        return next((shard.maskless for shard in self.shards.values() if shard.maskless), None)

    @property
    def metadata(self) -> Mapping[str, str] | None:
        """That of the first shard."""
        return self._first.metadata

    @property
    def rivals(self) -> list[str]:
        """Other files with weights."""
        return weight_files(self.others)

    @property
    def _first(self) -> Checkpoint:
        return next(iter(self.shards.values()))

    def file_of(self, storage: str) -> str:
        """Return the shard in which a storage lies."""
        return storage.partition("/")[0]

    def pieces(self, file: str, edit: Edit) -> Iterable[Piece]:
        """Describe a rewritten shard: masks stand in the shard of their weight."""
        shard = self.shards[file]
        # Looked up name by name, not filtered: an edit holds all shards' parts, and is asked for by each of them.
        places = {f"{file}/{tensor.storage.key}": tensor.storage.key for tensor in shard.tensors.values()}
        own = Edit(
            {key: edit.patches[place] for place, key in places.items() if place in edit.patches},
            {name: edit.renames[name] for name in shard.tensors if name in edit.renames},
            edit.removals.intersection(shard.tensors),
            [addition for name in shard.tensors for addition in edit.behind.get(name, ())],
            edit.metadata,
        )
        return shard.pieces(own)

    def closing(self, edit: Edit) -> Mapping[str, bytes]:
        """Return the index: as it was, unless names change."""
        if self.index is None:
            return {}
        return {self.index.name: self._edited_index(self.index, edit) if edit.structural else self.index.raw}

    def _edited_index(self, index: Index, edit: Edit) -> bytes:
        weight_map: dict[str, str] = {}
        for name, shard in index.weight_map.items():
            if name not in edit.removals:
                weight_map[edit.renames.get(name, name)] = shard
            weight_map |= {addition.name: shard for addition in edit.behind.get(name, ())}
        kept = [tensor for name, tensor in self.tensors.items() if name not in edit.removals]
        # Tied tensors are one and count once, as the libraries have it.
        sizes = {(each.storage.key, each.span): each.elements * each.dtype.itemsize for each in kept}
        size = sum(sizes.values()) + sum(addition.nbytes for addition in edit.additions)
        return render_index(index, weight_map, size)


@contextmanager
def open_folder(
    location: Location, reading: Reading = AS_FOUND, listing: Listing | None = None
) -> Iterator[ShardedFolder]:
    """Open a folder of shards, or with a single file of weights, and read its layout; it may have been listed before.

    Raises:
        UnreadableError: a file is missing or cannot be read, or the folder holds no checkpoint.
        DamagedError: the index and the shards contradict each other.
        UnsafeError: the index or a link leads out of the folder; or as for a single file.
        UnsupportedError: as for a single file.
    """
    listing = listing or list_folder(location)
    folder, files = listing.folder, listing.files
    with ExitStack() as stack:
        named, whole = _find_weights(location, files)
        index = None if named is None else read_index(stack.enter_context(folder.open(named)), named)
        names = sorted(set(index.weight_map.values())) if index else [str(whole)]
        missing = next((shard for shard in names if shard not in files), None)
        if missing is not None:
            raise UnreadableError(f"{show(location / missing)} is missing, though the index names it; fetch it")
        shards = {shard: read_checkpoint(stack.enter_context(folder.open(shard)), reading) for shard in names}
        others = [each for name, each in files.items() if name not in shards and (index is None or name != index.name)]
        yield _join(location, index, shards, others)


def _join(
    path: Location, index: Index | None, shards: Mapping[str, Checkpoint], others: Sequence[Kept]
) -> ShardedFolder:
    label = show(path)
    joined = Joined([shard.source for shard in shards.values()], label, str(path))
    tensors: dict[str, TensorInfo] = {}
    carried: list[TensorInfo] = []
    for (file, each), start in zip(shards.items(), joined.starts, strict=True):
        first = next(iter(shards.values()))
        if (each.format, each.big_endian, each.wrapper) != (first.format, first.big_endian, first.wrapper):
            raise UnsupportedError(f"{label} has shards of different kinds: {show(next(iter(shards)))}, {show(file)}")
        for name, tensor in each.tensors.items():
            if name in tensors:
                raise DamagedError(f"{label}: tensor {show(name)} is in two shards, {show(file)} is one of them")
            if index is not None and index.weight_map.get(name) != file:
                raise DamagedError(
                    f"{label}: {show(file)} has a tensor {show(name)}, which the index does not put there"
                )
            tensors[name] = _moved(tensor, file, start)
        carried += [replace(_moved(tensor, file, start), name=f"{file}: {tensor.name}") for tensor in each.carried]
    lacking = next((name for name in (index.weight_map if index else ()) if name not in tensors), None)
    if index is not None and lacking is not None:
        raise DamagedError(
            f"{label}: {show(index.weight_map[lacking])} lacks {show(lacking)}, which the index puts there"
        )
    if index is not None:  # the order of the index is the order of the model
        tensors = {name: tensors[name] for name in index.weight_map}
    sources = {file: shard.source for file, shard in shards.items()}
    return ShardedFolder(path, index, shards, sources, others, joined, tensors, carried)


def _moved(tensor: TensorInfo, file: str, start: int) -> TensorInfo:
    storage = tensor.storage
    return replace(tensor, storage=replace(storage, key=f"{file}/{storage.key}", offset=start + storage.offset))


def _find_weights(path: Location, files: Mapping[str, Kept]) -> tuple[str | None, str | None]:
    """Return the index's name or the name of the only file of weights; safetensors first, as the libraries do."""
    for kind in ("safetensors", "bin"):
        indexes = [name for name in files if name.endswith(f".{kind}.index.json") and "/" not in name]
        wholes = [name for name in WHOLE if name.endswith(kind) and name in files]
        if len(indexes) + len(wholes) > 1:
            named = ", ".join(show(name) for name in (*indexes, *wholes))
            raise UnsupportedError(
                f"{show(path)} holds several checkpoints ({named}); name one file, or move the others"
            )
        if indexes or wholes:
            return next(iter(indexes), None), next(iter(wholes), None)
    if METADATA in files:
        raise UnsupportedError(
            f"{show(path)} is a folder of torch.distributed.checkpoint, which can be read here only; fetch it"
        )
    raise UnreadableError(
        f"{show(path)} is a folder without an index of shards (*.safetensors.index.json, *.bin.index.json) and without "
        "model.safetensors or pytorch_model.bin; name one checkpoint file in it"
    )
