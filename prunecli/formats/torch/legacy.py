"""The format of torch.save before torch 1.6: five pickles, then the storages one after the other.

The pickles are a magic number, a protocol version, facts about the writing machine, the object, and the list of
storage keys. For each key, in that order, the number of elements (8 bytes, little-endian) and the elements follow
(`torch/serialization.py`, `_legacy_save`). The format has no checksums and no padding.
"""

from collections.abc import Iterator, Mapping, Sequence

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError, raised_in, show
from prunecli.formats.base import Edit, ReadOptions, Storage, patched_copies
from prunecli.formats.io.pieces import Copy, Literal, Piece
from prunecli.formats.io.source import Source, in_source
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.machine import EndsEarlyError
from prunecli.formats.pickles.nodes import ListNode, PickleGraph
from prunecli.formats.torch.container import TorchContainer
from prunecli.formats.torch.object_tree import Tree
from prunecli.formats.torch.objects import check_objects, edit_objects, load_objects, read_objects
from prunecli.formats.torch.tensors import StorageRef
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["TorchLegacy", "read_torch_legacy"]

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_WINDOW = 1 << 20
_LARGEST_PICKLE = 1 << 30
"""Bytes of the largest pickle that is read, enough for tens of millions of tensors."""

_COUNT = 8


@dataclass(frozen=True)
class TorchLegacy(TorchContainer):
    """The layout of a legacy file.

    `places` maps keys to storages, in the order of the file. The object's pickle begins at `object_start`, the pickle
    of the keys at `keys_start`.
    """

    places: Mapping[str, Storage]
    object_start: int
    keys_start: int
    format: str = "torch legacy"

    def _in_place(self, edit: Edit) -> Iterator[Piece]:
        at = 0
        for storage in self.places.values():
            yield Copy(at, storage.offset - at)
            yield from patched_copies(storage, edit.patches.get(storage.key, ()))
            at = storage.offset + storage.nbytes
        yield Copy(at, self.source.size - at)

    def _relaid(self, edit: Edit) -> Iterator[Piece]:
        """Write a new object pickle and a new list of keys, and put each new storage after that of its neighbour.

        In that order, a mask is made while its weight, counted at the same time, is still in the processor's cache.
        """
        graph, _ = _pickle_at(self.source, self.object_start)
        keys, _ = _pickle_at(self.source, self.keys_start)
        with raised_in(self.source.label):
            edited = edit_objects(graph, self.objects, edit, self.reading, self.places)
        behind: dict[str, list[str]] = {}
        for key, addition in edited.fresh.items():
            behind.setdefault(self.tensors[addition.after].storage.key, []).append(key)
        order = [each for key in self.places for each in (key, *behind.get(key, ())) if each in edited.storages]
        yield Copy(0, self.object_start)
        yield Literal(edited.pickled + dump(ListNode([*order]), keys.protocol))
        for key in order:
            if key in edited.fresh:
                addition = edited.fresh[key]
                yield Literal(edited.storages[key].elements.to_bytes(_COUNT, "little"))
                yield from addition.pieces
            else:
                storage = self.places[key]
                yield Copy(storage.offset - _COUNT, _COUNT)
                yield from patched_copies(storage, edit.patches.get(key, ()))


@in_source
def read_torch_legacy(source: Source, reading: ReadOptions) -> TorchLegacy:
    """Read the layout of a legacy file.

    Raises:
        DamagedError: pickles and storages contradict each other, or the file ends early.
        UnsafeError: it holds objects that weights-only loading refuses, and `reading` does not admit them.
        UnsupportedError: it has another version, or holds nothing to prune.
    """
    magic, version_start = _checked_pickle_at(source, 0, reading)
    version, facts_start = _checked_pickle_at(source, version_start, reading)
    if magic.root != _MAGIC or version.root != _VERSION:
        raise UnsupportedError(f"{source.label} is in another version of torch's old format than {_VERSION}")
    _, object_start = _checked_pickle_at(source, facts_start, reading)
    graph, keys_start = _pickle_at(source, object_start)
    places: dict[str, Storage] = {}

    def place(storages: Mapping[str, StorageRef]) -> dict[str, Storage]:
        places.update(_places(source, keys_start, storages, reading))
        return places

    objects = read_objects(graph, place, reading)
    return TorchLegacy(source, objects, reading, places, object_start, keys_start)


def _pickle_at(source: Source, start: int) -> tuple[PickleGraph, int]:
    """Return the pickle at an offset, and the offset of the next one; the file does not record its length."""
    length = _WINDOW
    while True:
        data = source.read(start, max(0, min(length, source.size - start)))
        try:
            graph = load_objects(data, 0, f"{source.label}: the pickle at byte {start}")
        except EndsEarlyError:
            if start + length >= source.size:
                raise
            if length >= _LARGEST_PICKLE:
                raise UnsafeError(
                    f"{source.label} has a pickle of more than {_LARGEST_PICKLE >> 20} MiB; no checkpoint needs that"
                ) from None
            length *= 8
        else:
            return graph, start + graph.end


def _checked_pickle_at(source: Source, start: int, reading: ReadOptions) -> tuple[PickleGraph, int]:
    """Read and check one of the pickles around the object's: torch.load runs them just as it runs the object's."""
    graph, end = _pickle_at(source, start)
    check_objects(graph, reading, Tree())
    return graph, end


def _places(
    source: Source, keys_start: int, storages: Mapping[str, StorageRef], reading: ReadOptions
) -> dict[str, Storage]:
    """Return the storages by key, located by the list of their keys."""
    listed, at = _checked_pickle_at(source, keys_start, reading)
    keys = listed.root.items if isinstance(listed.root, ListNode) else None
    if keys is None or not all(isinstance(key, str) for key in keys):
        raise DamagedError(f"{HERE} has no list of storages; the file is damaged")
    source.prefetch(_counts(at, [storages[key].nbytes for key in map(str, keys) if key in storages]))
    places: dict[str, Storage] = {}
    for key in map(str, keys):
        ref = storages.get(key)
        if ref is None or key in places:
            raise DamagedError(f"{HERE}: storage {show(key)} is listed twice, or never used; the file is damaged")
        if at + _COUNT + ref.nbytes > source.size:
            raise DamagedError(f"{HERE} ends in storage {show(key)}; it is truncated, fetch it again")
        count = int.from_bytes(source.read(at, _COUNT), "little")
        if count != ref.elements:
            raise DamagedError(f"{HERE}: storage {show(key)} has {count} elements, the pickle expects {ref.elements}")
        places[key] = Storage(key, at + _COUNT, ref.nbytes)
        at += _COUNT + ref.nbytes
    missing = next((key for key in storages if key not in places), None)
    if missing is not None:
        raise DamagedError(f"{HERE}: storage {show(missing)} is missing; the file is damaged")
    if at != source.size:
        raise DamagedError(f"{HERE} has {source.size - at} bytes behind its last storage; it is damaged")
    return places


def _counts(at: int, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the offsets and lengths at which the element counts of the storages are expected."""
    for size in sizes:
        yield at, _COUNT
        at += _COUNT + size
