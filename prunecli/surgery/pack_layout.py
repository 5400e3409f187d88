"""Where the tensors of a file lie that is packed: their values, and the masks that may be drawn again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from prunecli.formats.base import Layout, Storage
from prunecli.formats.dtypes import DType
from prunecli.formats.packed.codec import ElementType
from prunecli.formats.packed.write import PackedTensor
from prunecli.surgery.masks.drawn import DrawnRun

__all__ = ["layout_of", "storages_of"]

_SMALL = 1024
"""Tensors with fewer bytes are compressed together with the bytes around them: a block of their own costs more."""


def storages_of(checkpoint: Layout) -> Iterator[tuple[Storage, DType]]:
    """Yield each storage with the type of its first tensor; of tensors in parts, the storages of the parts."""
    seen: set[str] = set()
    for tensor in chain(checkpoint.tensors.values(), checkpoint.carried):
        for storage in tensor.storages:
            if storage.key not in seen:
                seen.add(storage.key)
                yield storage, tensor.dtype


def _kind(dtype: DType, storage: Storage) -> ElementType:
    if dtype.itemsize not in (1, 2, 4, 8, 16) or dtype.kind == "opaque":
        return ElementType(1)
    number = dtype.itemsize // 2 if dtype.paired else dtype.itemsize
    rotate = dtype.kind in ("float", "complex") and number > 1
    return ElementType(dtype.itemsize, number, rotate, storage.big_endian and number > 1)


def layout_of(
    places: Iterable[tuple[int, Storage, DType]], size: int, runs: Mapping[str, Sequence[DrawnRun]]
) -> list[PackedTensor]:
    """Return the tensors of a file to pack, in order; those that are tiny or overlap earlier ones are literal bytes."""
    found: list[PackedTensor] = []
    at = 0
    for offset, storage, dtype in sorted(places, key=lambda each: each[0]):
        kind = _kind(dtype, storage)
        if storage.nbytes >= _SMALL and offset >= at and offset + storage.nbytes <= size:
            own = _cut(storage.nbytes // kind.width, kind.width, runs.get(storage.key, ()))
            found += [
                PackedTensor(offset + each.start * kind.width, each.elements, kind, each.rounds)
                for each in own
                if each.elements * kind.width >= _SMALL
            ]
            at = offset + storage.nbytes
    return found


def _cut(elements: int, width: int, runs: Sequence[DrawnRun]) -> Iterator[DrawnRun]:
    """Yield runs that are all `elements` of a storage; several tensors can lie in it, and several can be the same."""
    at = 0
    for run in sorted(runs, key=lambda each: each.start):
        if run.width == width and at <= run.start and run.start + run.elements <= elements:
            if run.start > at:
                yield DrawnRun(at, run.start - at, width, ())
            yield run
            at = run.start + run.elements
    if elements > at:
        yield DrawnRun(at, elements - at, width, ())
