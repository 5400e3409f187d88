"""Packed files for the fuzzer: their directories, frames and originals are bent; what is unpacked is packed again."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from backports import zstd
from fuzz_mutations import NUMBERS, Rng, bent_file, flipped
from fuzz_oracle import BrokenLawError, ModuleMemory, in_memory, refusal, watched
from fuzz_seeds import files
from packed_tools import pack_bytes, read_packed, rewritten, small_checkpoint

from prunecli.errors import PrunecliError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.packed.codec import CONSTANT, RAW, ZSTD, ElementType
from prunecli.formats.packed.source import PackedSource, unpacked_source
from prunecli.formats.packed.write import PackedTensor
from prunecli.formats.safetensors.read import read_safetensors
from prunecli.surgery.report.codec import render_json
from prunecli.surgery.report.measure import measure
from prunecli.surgery.run.options import Run
from prunecli.surgery.unpack import unpacking_pieces

__all__ = ["bent_packed", "judge_packed", "packed_files"]

_LARGE = 8 << 20
"""Originals of more bytes are read in part: a block of equal bytes takes a few bytes, whatever its size."""


@functools.cache
def packed_files() -> tuple[bytes, ...]:
    """A packed checkpoint with each form of blocks by each codec, and a torch file in one tensor and literal bytes."""
    other = files()["zip"].whole
    parts = [PackedTensor(8, len(other) // 4, ElementType(1))]
    return (*(pack_bytes(*small_checkpoint(), codec) for codec in ("zstd", "raw")), pack_bytes(other, parts))


def bent_packed(rng: Rng) -> bytes:
    """A packed file with a few changes: to its directory, its parts, or its bits; or one whose original is bent."""
    way = rng.random()
    if way < 0.2:
        return flipped(rng, rng.choice(packed_files()))
    if way < 0.45:
        original = bent_file(rng, rng.choice(list(files().values())))
        many = rng.randrange(len(original) + 1)
        tensors = [PackedTensor(len(original) - many, many, ElementType(1))] if many else []
        return pack_bytes(original, tensors, rng.choice(("zstd", "raw")))
    return _bent_inside(rng, rng.choice(packed_files()))


def _bent_inside(rng: Rng, packed: bytes) -> bytes:
    """Return a file with another directory, and its checksum right."""

    def change(columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            rng.choice(_BENDS)(rng, columns, parts, fields)

    version = rng.choice(NUMBERS) % (1 << 32) if rng.random() < 0.1 else 1
    return rewritten(packed, change, version, 1 if rng.random() < 0.95 else 2)


_Bend = Callable[[Rng, dict[str, Any], list[bytes], dict[str, int]], None]


def _number(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    """Put another number into a column."""
    column = columns[rng.choice([name for name, each in columns.items() if each.size and name != "seed"])]
    at = rng.randrange(column.size)
    old = int(column[at])
    new = rng.choice((old + 1, old - 1, old ^ 1, int(column[rng.randrange(column.size)]), rng.choice(NUMBERS)))
    column[at] = new % (1 << 8 * column.itemsize)


def _pair(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    """Move some of a number to another one in its column, which leaves sums as they are."""
    column = columns[rng.choice(("elements", "gap", "candidates", "counts", "kept", "stored"))]
    if column.size > 1:
        one, other = rng.sample(range(column.size), 2)
        some = min(int(column[one]), rng.choice(NUMBERS))
        if int(column[other]) + some < 1 << 8 * column.itemsize:
            column[one] -= some
            column[other] += some


def _length(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    """Make a column longer or shorter."""
    name = rng.choice(list(columns))
    column = columns[name]
    columns[name] = column[:-1] if rng.random() < 0.5 else np.concatenate([column, column[-1:]])


def _field(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    fields[rng.choice(("size", "literals"))] = rng.choice(NUMBERS)
    if rng.random() < 0.3:
        fields["crc"] = rng.getrandbits(32)


def _part(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    """Put another part in its place: a frame of more or fewer bytes, a byte, or other bytes; its length is right."""
    at = rng.randrange(len(parts))
    zeros = rng.choice((0, 1, 400, 401, 1 << 16, 1 << 20))
    coding, parts[at] = rng.choice(
        (
            (ZSTD, zstd.compress(bytes(zeros))),
            (ZSTD, zstd.compress(rng.randbytes(40)) + b"more"),
            (ZSTD, flipped(rng, parts[at])),
            (CONSTANT, rng.randbytes(1)),
            (RAW, parts[at]),
            (RAW, rng.randbytes(len(parts[at]))),
        )
    )
    columns["coding"][at], columns["stored"][at] = coding, len(parts[at])


def _round(rng: Rng, columns: dict[str, Any], parts: list[bytes], fields: dict[str, int]) -> None:
    """Let masks be drawn otherwise."""
    seeds = columns["seed"]
    if seeds.size:
        seeds[rng.randrange(seeds.size)] = np.frombuffer(rng.randbytes(16), dtype="V16")[0]


_BENDS: tuple[_Bend, ...] = (*[_number] * 5, *[_pair] * 2, *[_part] * 4, _length, _field, _round)


def judge_packed(data: bytes) -> str:
    """Unpack a file, read it as it is, and pack what it was packed from again: the bytes are the same."""
    with watched(), in_memory(data) as source:
        try:
            unpacked = unpacked_source(source, read_safetensors(source).tensors)
            first = unpacked.read(0, min(unpacked.size, _LARGE))
            whole = _unpacked(unpacked) if unpacked.size <= _LARGE else None
            checkpoint = read_checkpoint(source, ReadOptions())
            render_json(measure(checkpoint, None, Run(1)))
        except PrunecliError as error:
            return refusal(type(error).__name__, str(error))
        if whole is None:
            return "accepted"
        directory = unpacked.directory
        tensors = [
            PackedTensor(int(start), int(directory.elements[at]), directory.kind(at), tuple(directory.rounds(at)))
            for at, start in enumerate(directory.starts)
        ]
    again = read_packed(pack_bytes(whole, tensors))
    if not first == whole == again.read(0, again.size):
        raise BrokenLawError("what was packed again is something else")
    return "accepted"


def _unpacked(source: PackedSource) -> bytes:
    sink = ModuleMemory(source.size)
    run_pieces(unpacking_pieces(source), source, sink, jobs=1)
    return bytes(sink.data)
