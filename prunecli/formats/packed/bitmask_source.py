"""A file with sparse tensors as the dense safetensors file that the library would write: readers need nothing else."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from prunecli.errors import DamagedError, raised_in, show
from prunecli.formats.base import TensorInfo
from prunecli.formats.io.cache import BlockCache
from prunecli.formats.io.pieces import Copy, Literal
from prunecli.formats.io.source import Source
from prunecli.formats.io.threads import PerThread
from prunecli.formats.packed.bitmask import BitmaskBuffers, BitmaskTensor, Member
from prunecli.formats.packed.bitmask_groups import Groups, find_groups
from prunecli.formats.packed.decoded import DecodedSource
from prunecli.formats.packed.names import FORMS
from prunecli.formats.safetensors.read import SafetensorsFile, read_safetensors
from prunecli.formats.safetensors.write import NewTensor, safetensors_pieces
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["DenseRun", "DenseSource", "dense_file", "dense_sources"]


@dataclass(frozen=True, slots=True)
class DenseRun:
    """A run of the dense file: a sparse tensor, or (None) bytes of the base from `offset` on."""

    start: int
    size: int
    tensor: BitmaskTensor | None
    offset: int = 0


class DenseSource(DecodedSource):
    """The bytes of a dense file: its `head`, then runs of tensors. Sparse ones are decoded as they are read."""

    def __init__(self, base: Source, others: Iterable[Source], head: bytes, runs: list[DenseRun]) -> None:
        super().__init__(base, runs[-1].start + runs[-1].size if runs else len(head), *others)
        self.runs, self._head = runs, head
        self._starts = [each.start for each in runs]
        self._cache = BlockCache()

    @property
    def sparse(self) -> list[BitmaskTensor]:
        """The tensors that are stored sparsely."""
        return [each.tensor for each in self.runs if each.tensor is not None]

    def stored_as(self, offset: int, size: int) -> str:
        """Return "dense" or "stored mask"."""
        run = self._run_at(offset) if size else None
        return FORMS[0] if run is None or run.tensor is None else FORMS[2]

    def check_sparse(self) -> None:
        """Check all bitmasks now, before anything is written.

        Raises:
            DamagedError: one contradicts the other members.
        """
        with raised_in(self.label):
            for each in self.sparse:
                each.starts()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset` on.

        Raises:
            DamagedError: the file ends too early, or a bitmask contradicts the other members.
            UnreadableError: it cannot be read.
        """
        if offset + len(buffer) > self.size:
            raise DamagedError(f"{self.label} ends at byte {self.size}, in the middle of its data")
        done = max(min(len(self._head) - offset, len(buffer)), 0)
        buffer[:done] = self._head[offset : offset + done]
        while done < len(buffer):
            done += self._read_some(offset + done, buffer[done:])

    def _run_at(self, offset: int) -> DenseRun | None:
        """Return the run with a byte; of runs that begin there, the last, which is not empty."""
        index = bisect_right(self._starts, offset) - 1
        return self.runs[index] if index >= 0 else None

    def _read_some(self, offset: int, out: memoryview) -> int:
        """Fill the start of `out`, up to the end of a run or a block, and return the number of bytes."""
        run = self._run_at(offset)
        if run is None:
            raise IndexError(offset)
        inside = offset - run.start
        if run.tensor is None:
            length = min(run.size - inside, len(out))
            self.base.read_into(run.offset + inside, out[:length])
            return length
        tensor = run.tensor
        index, first, size = tensor.place(inside)
        length = min(first + size - inside, len(out))
        with raised_in(self.label):
            if length == size:
                tensor.decode(first, np.frombuffer(out[:length], dtype=np.uint8))
            else:
                found = self._cache.get((run.start, index), size, lambda each: tensor.decode(first, each))
                out[:length] = found[inside - first : inside - first + length].data
        return length


def dense_sources(
    files: Mapping[str, SafetensorsFile], groups: Groups, places: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Source]:
    """Return the dense files of a checkpoint by name; the members of a tensor may be in different files.

    A file without sparse tensors and members stays as it is.
    `places` are the files in which an index places tensors.

    Raises:
        DamagedError: members are missing or contradict each other, or a dense tensor has the name of another tensor.
        UnreadableError: they cannot be read.
    """
    members, owners, plain = dict[str, Member](), dict[str, str](), set[str]()
    for file, found in files.items():
        for name, info in found.tensors.items():
            if name not in groups.stem_of:
                plain.add(name)
            elif name not in members or places.get(name) == file:
                members[name], owners[name] = Member(found.source, info), file
    _prefetch(files.values(), groups)
    rooms, sparse = PerThread(BitmaskBuffers), dict[str, list[BitmaskTensor]]()
    for stem, name in groups.dense.items():
        file = groups.owner(stem, owners) or next(iter(files))
        with raised_in(files[file].source.label):
            if name in plain:
                raise DamagedError(f"{HERE} contains {show(name)} twice, dense and sparse; remove one of them")
            sparse.setdefault(file, []).append(groups.tensor(stem, members, rooms))
    return {
        file: _dense(found, groups, sparse.get(file, []), files)
        if groups.stem_of.keys() & found.tensors.keys()
        else found.source
        for file, found in files.items()
    }


def _prefetch(files: Iterable[SafetensorsFile], groups: Groups) -> None:
    for found in files:
        shapes = (info.storage for name, info in found.tensors.items() if groups.is_shape(name))
        found.source.prefetch((each.offset, each.nbytes) for each in shapes)


def _dense(
    found: SafetensorsFile, groups: Groups, sparse: Sequence[BitmaskTensor], files: Mapping[str, SafetensorsFile]
) -> DenseSource:
    infos = [info for name, info in found.tensors.items() if name not in groups.stem_of]
    tensors: list[BitmaskTensor | TensorInfo] = [*infos, *sparse]
    new = [
        NewTensor(each.name, each.dtype, each.shape, [Copy(number, _nbytes(each))])
        for number, each in enumerate(tensors)
    ]
    metadata = found.metadata if found.recorded else None
    with raised_in(found.source.label):
        head, *order = safetensors_pieces(new, metadata)
    runs, at = [], head.length
    for piece in order:
        each = tensors[piece.offset if isinstance(piece, Copy) else 0]
        runs.append(
            DenseRun(at, piece.length, None, each.storage.offset)
            if isinstance(each, TensorInfo)
            else DenseRun(at, piece.length, each)
        )
        at += piece.length
    others = [each.source for each in files.values() if sparse and each is not found]
    return DenseSource(found.source, others, head.data if isinstance(head, Literal) else b"", runs)


def _nbytes(tensor: BitmaskTensor | TensorInfo) -> int:
    return tensor.storage.nbytes if isinstance(tensor, TensorInfo) else tensor.nbytes


def dense_file(found: SafetensorsFile) -> SafetensorsFile:
    """Return the dense file that a file with sparse tensors makes; the file itself if it has none.

    Raises:
        PrunecliError: as `dense_sources`.
    """
    groups = find_groups(found.tensors)
    if groups is None:
        return found
    return read_safetensors(dense_sources({"": found}, groups)[""])
