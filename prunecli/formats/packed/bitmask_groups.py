"""The sparse tensors of a checkpoint: which tensors describe them, and whether these agree with each other.

A sparse tensor is stored as `STEM.compressed`, `.bitmask`, `.shape` and `.row_offsets`. In compressed-tensors up to 0.8
and SparseML, the stem is the name of the dense tensor, and all tensors are stored like this, biases too. Later versions
only do that with weights, and leave `.weight` out of the stem. Their format for 2:4 has no `row_offsets`.
"""

import math
from collections.abc import Iterable, Mapping

from prunecli.errors import show
from prunecli.formats.io.threads import PerThread
from prunecli.formats.packed.bitmask import BitmaskBuffers, BitmaskTensor, Member, damaged
from prunecli.lean import dataclass

__all__ = ["Groups", "find_groups"]

_VALUES, _BITMASK, _SHAPE, _OFFSETS = "compressed", "bitmask", "shape", "row_offsets"
_MEMBERS = (_VALUES, _BITMASK, _SHAPE, _OFFSETS)
_ENDINGS = tuple(f".{each}" for each in (_VALUES, _BITMASK))

_DIMENSIONS = 64
"""The most dimensions of a tensor; as many as safetensors reads."""

_LARGEST = 1 << 56
"""More bytes than any file has."""


@dataclass(frozen=True)
class Groups:
    """The names of sparse tensors: those of the dense tensors by stem, and the stems by member."""

    dense: Mapping[str, str]
    stem_of: Mapping[str, str]

    def dense_map(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return the files of tensors by name without the members: a dense tensor is in the file of its values."""
        found: dict[str, str] = {}
        for name, file in files.items():
            stem = self.stem_of.get(name)
            if stem is None:
                found[name] = file
            elif name.endswith(_ENDINGS[0]):
                found[self.dense[stem]] = file
        return found

    def owner(self, stem: str, owners: Mapping[str, str]) -> str | None:
        """Return the file of a dense tensor: that of its values, or of another member if they are missing."""
        return next((owners[f"{stem}.{each}"] for each in _MEMBERS if f"{stem}.{each}" in owners), None)

    def is_shape(self, name: str) -> bool:
        """Whether a tensor is the shape of a sparse one."""
        return name in self.stem_of and name.endswith(f".{_SHAPE}")

    def tensor(self, stem: str, members: Mapping[str, Member], rooms: PerThread[BitmaskBuffers]) -> BitmaskTensor:
        """Return a sparse tensor from its members by name.

        Raises:
            DamagedError: one is missing, or they contradict each other.
            UnreadableError: they cannot be read.
        """
        name = self.dense[stem]
        found = {each: members.get(f"{stem}.{each}") for each in _MEMBERS}
        values, bitmask, shape, offsets = found.values()
        if values is not None and offsets is None and len(values.info.shape) == 2:
            del found[_OFFSETS]
        missing = next((each for each, member in found.items() if member is None), None)
        if values is None or bitmask is None or shape is None or missing:
            raise damaged(name, f"is stored sparsely, but {show(f'{stem}.{missing}')} is missing")
        sizes = _sizes(name, shape)
        _check(name, sizes, values, bitmask, offsets)
        return BitmaskTensor(name, sizes, (values, bitmask, offsets), rooms)


def find_groups(names: Iterable[str]) -> Groups | None:
    """Return the sparse tensors among the names in a checkpoint; None if there are none."""
    marked = [name for name in names if name.endswith(_ENDINGS)]
    if not marked:
        return None
    known = set(names)
    stems = {name.rpartition(".")[0]: None for name in marked}
    of_stem = {stem: [each for each in _MEMBERS if f"{stem}.{each}" in known] for stem in stems}
    found = {stem: own for stem, own in of_stem.items() if len({*own} - {_SHAPE}) > 1}
    if not found:
        return None
    whole = any(stem.rpartition(".")[2] == "weight" for stem in found)
    dense = {stem: stem if whole else f"{stem}.weight" for stem in found}
    return Groups(dense, {f"{stem}.{each}": stem for stem, own in found.items() for each in own})


def _sizes(name: str, shape: Member) -> tuple[int, ...]:
    if shape.info.dtype.name != "int64" or not 0 < shape.info.elements <= _DIMENSIONS:
        raise damaged(name, "has a shape that is not a list of whole numbers")
    raw = shape.source.read(shape.info.storage.offset, shape.info.storage.nbytes)
    sizes = tuple(int.from_bytes(raw[at : at + 8], "little", signed=True) for at in range(0, len(raw), 8))
    if min(sizes) < 0 or math.prod(max(size, 1) for size in sizes) >= _LARGEST:
        raise damaged(name, "has a shape that no tensor has")
    return sizes


def _check(name: str, sizes: tuple[int, ...], values: Member, bitmask: Member, offsets: Member | None) -> None:
    """Check the types and shapes of the members; what they contain is checked when it is read.

    Raises:
        DamagedError: they are not those of a tensor with these sizes.
    """
    *rows, columns = sizes
    if bitmask.info.dtype.name != "uint8" or bitmask.info.shape != (*rows, -(-columns // 8)):
        raise damaged(name, "has a bitmask that does not have a bit for each element")
    if offsets is not None and (offsets.info.dtype.name != "int64" or offsets.info.shape != tuple(rows)):
        raise damaged(name, "has row_offsets that are not one number for each row")
    expected = (values.info.elements,) if offsets is not None else (math.prod(rows), columns // 2)
    if values.info.dtype.kind == "opaque" or values.info.shape != expected:
        raise damaged(name, "has values that are not those of a bitmask")
