"""Pack a source: read it block by block in threads, code the blocks, and write them in order."""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prunecli.core.block import BLOCK
from prunecli.core.drawn_mask import DrawnRound, Draws, draw_kept, draws_of
from prunecli.errors import PrunecliError, UnreadableError
from prunecli.formats.crc import crc32
from prunecli.formats.io.pieces import Checksum, CrcRun, join_run
from prunecli.formats.io.sinks import Sink
from prunecli.formats.io.source import Source
from prunecli.formats.io.threads import PerThread, in_order
from prunecli.formats.packed.codec import DRAWN, PLAIN, CodecWorkspace, Drawn, ElementType, decode, encode
from prunecli.formats.packed.container import HEADER, closing_bytes
from prunecli.formats.packed.directory import BIG_ENDIAN, COLUMNS, ROTATED, PackedDirectory
from prunecli.lean import dataclass

__all__ = ["CODECS", "Packed", "PackedTensor", "pack_into"]

CODECS = ("zstd", "raw")

_TASK = 2 << 20
"""The bytes of small blocks that a thread takes at a time."""

_Bytes = NDArray[np.uint8]

_NONE = np.zeros((0, 0), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class PackedTensor:
    """The values of a tensor in the original: its offset, its elements, and the rounds in which its mask was drawn."""

    offset: int
    elements: int
    kind: ElementType
    rounds: tuple[DrawnRound, ...] = ()


class Packed(NamedTuple):
    """What was written: the size of the packed file, its directory, and its header."""

    size: int
    directory: PackedDirectory
    header: bytes


class _Block(NamedTuple):
    """A block to code: its runs of the original, and what its mask is drawn from."""

    runs: Sequence[tuple[int, int]]
    kind: ElementType
    draws: Draws = ()
    ranks: Sequence[int] = ()

    @property
    def size(self) -> int:
        return sum(length for _, length in self.runs)


@dataclass
class _Columns:
    """The columns about blocks, as they come."""

    crc: "array[int]" = field(default_factory=partial(array, "I"))
    form: bytearray = field(default_factory=bytearray)
    kept: "array[int]" = field(default_factory=partial(array, "I"))
    coding: bytearray = field(default_factory=bytearray)
    stored: "array[int]" = field(default_factory=partial(array, "I"))

    def add(self, block: "_Done") -> None:
        """Add a block."""
        self.crc.append(block.crc)
        self.form.append(block.form)
        self.kept.append(block.kept)
        self.coding += bytes(coding for coding, _ in block.parts)
        self.stored.extend(size for _, size in block.parts)


class _Done(NamedTuple):
    """What the directory says about a block (`parts` are codings and sizes), and the CRC-32s of its runs."""

    form: int
    kept: int
    parts: Sequence[tuple[int, int]]
    crc: int
    sums: Sequence[CrcRun]


def pack_into(
    source: Source,
    tensors: Sequence[PackedTensor],
    sink: Sink,
    codec: str = "zstd",
    jobs: int = 1,
    *,
    verify: bool = False,
    progress: Callable[[int], None] | None = None,
    header: bytes = b"",
) -> Packed:
    """Write the packed form of a source. `tensors` are in order and disjoint; all other bytes are literal.

    With `verify`, each block is unpacked again and compared. The header is known, and written, last; for a sink that
    takes bytes in order only, it is given: that of an earlier call.

    Raises:
        UnreadableError: the given header is not the right one, since the source was changed meanwhile.
        DamagedError, UnreadableError: the source cannot be read.
        OSError: the sink cannot be written.
    """
    columns, at = _Columns(), HEADER
    if header:
        sink.write(memoryview(header), 0)
    counts = [_counts(each) for each in tensors]
    coder = _Coder(source, codec == "zstd", verify, PerThread(CodecWorkspace))
    runs: list[CrcRun] = []
    for size, data, blocks in in_order(coder.run, _tasks(tensors, counts, source.size), jobs):
        sink.write(memoryview(data), at)
        at += len(data)
        for block in blocks:
            columns.add(block)
            for run in block.sums:
                join_run(runs, run)
        if progress is not None:
            progress(size)
    whole = Checksum(source.size)
    whole.merge(runs)
    directory = _directory(source, tensors, counts, columns, whole.value)
    head, closing = closing_bytes(directory, at - HEADER, codec)
    sink.write(memoryview(closing), at)
    if not header:
        sink.write(memoryview(head), 0)
    elif head != header:
        raise UnreadableError(f"{source.label} was changed while it was read; run again")
    return Packed(at + len(closing), directory, head)


_Result = tuple[int, bytes, list[_Done]]


@dataclass(frozen=True, slots=True)
class _Coder:
    source: Source
    compress: bool
    verify: bool
    rooms: PerThread[CodecWorkspace]

    def run(self, task: Sequence[_Block]) -> _Result:
        """Return the size of a task's blocks, all their parts as they are stored, and what the directory says."""
        parts: list[bytes] = []
        done = [self._code(block, parts) for block in task]
        return sum(block.size for block in task), b"".join(parts), done

    def _code(self, block: _Block, into: list[bytes]) -> _Done:
        room = self.rooms.get()
        raw = room.block.bytes(block.size)
        at, sums = 0, []
        for offset, length in block.runs:
            part = raw[at : at + length].data
            self.source.read_into(offset, part)
            sums.append((offset, crc32(part), length))
            at += length
        drawn = None
        if block.draws:
            flags = room.drawn.flags(raw.size // block.kind.width)
            drawn = Drawn(flags, draw_kept(block.draws, block.ranks, flags)[-1])
        coded = encode(raw, block.kind, drawn, room, compress=self.compress)
        into.append(b"".join(data for _, data in coded.parts))
        if self.verify:
            again = np.empty(raw.size, dtype=np.uint8)
            parts = ((coding, memoryview(data)) for coding, data in coded.owned().parts)
            decode(coded.form, coded.kept, block.kind, parts, drawn if coded.form == DRAWN else None, again, room)
            if not np.array_equal(raw, again):
                raise PrunecliError("a block was not packed as it was; please report this")
        crc = sums[0][1] if len(sums) == 1 else crc32(raw.data)
        return _Done(coded.form, coded.kept, [(coding, len(data)) for coding, data in coded.parts], crc, sums)


def _tasks(tensors: Sequence[PackedTensor], counts: Sequence[NDArray[np.uint32]], size: int) -> Iterator[list[_Block]]:
    """Yield the blocks of all tensors, then those of the literal bytes, several small ones at a time."""
    task: list[_Block] = []
    room = _TASK
    for block in chain(_tensor_blocks(tensors, counts), _literal_blocks(_gaps(tensors, size))):
        task.append(block)
        room -= block.size
        if room <= 0:
            yield task
            task, room = [], _TASK
    if task:
        yield task


def _tensor_blocks(tensors: Sequence[PackedTensor], counts: Sequence[NDArray[np.uint32]]) -> Iterator[_Block]:
    for tensor, left in zip(tensors, counts, strict=True):
        draws = draws_of(tensor.rounds)
        later = (np.cumsum(left, axis=1, dtype=np.int64) - left).T.tolist() if left.size else ()
        for index, start in enumerate(range(0, tensor.elements, BLOCK)):
            many = min(BLOCK, tensor.elements - start)
            run = (tensor.offset + start * tensor.kind.width, many * tensor.kind.width)
            yield _Block([run], tensor.kind, draws, [start, *(later[index] if later else ())])


def _gaps(tensors: Sequence[PackedTensor], size: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and length of the literal bytes before each tensor, and behind the last."""
    at = 0
    for tensor in tensors:
        yield at, tensor.offset - at
        at = tensor.offset + tensor.elements * tensor.kind.width
    yield at, size - at


def _literal_blocks(gaps: Iterable[tuple[int, int]]) -> Iterator[_Block]:
    runs: list[tuple[int, int]] = []
    room = BLOCK
    for offset, length in gaps:
        while length:
            some = min(length, room)
            runs.append((offset, some))
            offset, length, room = offset + some, length - some, room - some
            if not room:
                yield _Block(runs, PLAIN)
                runs, room = [], BLOCK
    if runs:
        yield _Block(runs, PLAIN)


def _counts(tensor: PackedTensor) -> NDArray[np.uint32]:
    """Return how many elements of each block are left after each round but the last."""
    if len(tensor.rounds) < 2:
        return _NONE
    blocks = -(-tensor.elements // BLOCK)
    found = np.zeros((len(tensor.rounds) - 1, blocks), dtype=np.uint32)
    draws, ranks = draws_of(tensor.rounds[:-1]), [0] * found.shape[0]
    for index in range(blocks):
        flags = np.empty(min(BLOCK, tensor.elements - index * BLOCK), dtype=np.bool_)
        found[:, index] = draw_kept(draws, [index * BLOCK, *ranks[1:]], flags)
        ranks[1:] = [rank + int(left) for rank, left in zip(ranks[1:], found[:-1, index], strict=True)]
    return found


def _directory(
    source: Source,
    tensors: Sequence[PackedTensor],
    counts: Sequence[NDArray[np.uint32]],
    columns: _Columns,
    crc: int,
) -> PackedDirectory:
    rounds = [each for tensor in tensors for each in tensor.rounds]
    keys = [each.key.encode("utf-8", "surrogatepass") for each in rounds]
    values: dict[str, Iterable[int] | bytes | bytearray] = {
        "gap": (length for _, length in islice(_gaps(tensors, source.size), len(tensors))),
        "elements": (each.elements for each in tensors),
        "width": (each.kind.width for each in tensors),
        "number": (each.kind.number for each in tensors),
        "flags": (ROTATED * each.kind.rotate + BIG_ENDIAN * each.kind.swap for each in tensors),
        "rounds": (len(each.rounds) for each in tensors),
        "candidates": (each.candidates for each in rounds),
        "amount": (each.amount for each in rounds),
        "seed": b"".join(each.seed.to_bytes(16, "little") for each in rounds),
        "key_bytes": (len(each) for each in keys),
        "keys": b"".join(keys),
        "counts": b"".join(each.astype("<u4").tobytes() for each in counts),
        "crc": columns.crc,
        "form": columns.form,
        "kept": columns.kept,
        "coding": columns.coding,
        "stored": columns.stored,
    }
    arrays = {name: _column(values.pop(name), kind) for name, kind, _ in COLUMNS}
    literals = source.size - sum(each.elements * each.kind.width for each in tensors)
    return PackedDirectory(source.size, crc, literals, arrays)


def _column(values: Iterable[int] | bytes | bytearray, kind: str) -> NDArray[Any]:
    if isinstance(values, bytes | bytearray):
        return np.frombuffer(values, dtype=kind)
    return np.fromiter(values, dtype=kind)
