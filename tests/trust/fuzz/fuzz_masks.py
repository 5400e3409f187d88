"""Mask files for the fuzzer: flags, bits and metadata are bent; what is taken for masks is written and read again."""

import functools
import io
import json
from typing import Any

import safetensors.torch
import torch
from fuzz_mutations import NUMBERS, Rng, bent_file
from fuzz_oracle import BrokenLawError, ModuleMemory, in_memory, refusal, watched
from fuzz_seeds import Seed, TensorsParts, seed_of

from prunecli.errors import PrunecliError
from prunecli.formats.base import AS_FOUND, Checkpoint
from prunecli.formats.detect import read_checkpoint
from prunecli.formats.io.stream import run_pieces
from prunecli.surgery.compare.overlap import count_overlaps
from prunecli.surgery.data.sums import check_sums
from prunecli.surgery.masks.pairs import pair_masks
from prunecli.surgery.masks.source import MaskSource, masks_of
from prunecli.surgery.masks.write import MaskFileCount, mask_file_pieces
from prunecli.surgery.run.options import Run

__all__ = ["bent_masks", "judge_masks", "mask_files"]

_KEPT = {
    "a.weight": torch.tensor([[True, False, True], [False, True, True]]),
    "a.bias": torch.ones(11, dtype=torch.bool),
}
_SHAPES = {name: list(mask.shape) for name, mask in _KEPT.items()}
_FIELDS = ("masks", "kept", "encoding", "shapes")
_WORDS = ("", "1", "2", "true", "false", "bool", "bits", "{}", "[]", "\x1b[2J", '{"a.weight": [6], "a.bias": [11]}')


def _bits() -> bytes:
    packed = {
        "a.weight": torch.tensor([0b110101], dtype=torch.uint8),
        "a.bias": torch.tensor([255, 7], dtype=torch.uint8),
    }
    own = {"masks": "1", "kept": "true", "encoding": "bits", "shapes": json.dumps(_SHAPES)}
    return safetensors.torch.save(packed, {f"prunecli.{key}": value for key, value in own.items()})


def _dictionary(*, old: bool) -> bytes:
    out = io.BytesIO()
    torch.save({name: mask.float() for name, mask in _KEPT.items()}, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


@functools.cache
def mask_files() -> tuple[Seed, ...]:
    """A mask file of each encoding, and dictionaries of masks in torch's formats."""
    own = {"prunecli.masks": "1", "prunecli.kept": "true", "prunecli.encoding": "bool"}
    whole = (safetensors.torch.save(_KEPT, own), _bits(), _dictionary(old=False), _dictionary(old=True))
    return tuple(map(seed_of, whole))


def bent_masks(rng: Rng) -> bytes:
    """A mask file with a few changes: to what its metadata say, to its data, or as to any file."""
    seed = rng.choice(mask_files())
    if not isinstance(seed.parts, TensorsParts) or rng.random() < 0.3:
        return bent_file(rng, seed)
    header, data = json.loads(seed.parts.header), bytearray(seed.parts.data)
    for _ in range(rng.choice((0, 1, 1, 2))):
        _bend(rng, header["__metadata__"])
    for _ in range(rng.choice((0, 0, 1, 2))):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 2, 128, 255))
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


def _bend(rng: Rng, metadata: dict[str, str]) -> None:
    field = f"prunecli.{rng.choice(_FIELDS)}"
    if field != "prunecli.shapes" or rng.random() < 0.3:
        metadata[field] = rng.choice(_WORDS)
        return
    shapes: dict[str, Any] = {name: list(shape) for name, shape in _SHAPES.items()}
    name = rng.choice([*shapes, "b"])
    size = rng.choice((0, 1, 2, 3, 5, 6, 11, 16, *NUMBERS))
    shapes[name] = rng.choice(([size], [size, 3], [2, size], size, None, [None], ["1"], [[1]], [1.0], [True], [1] * 65))
    metadata[field] = json.dumps(shapes)


def judge_masks(data: bytes) -> str:
    """Take what is there for masks, write it in both encodings, and read it again: the same is kept."""
    with watched(), in_memory(data) as source:
        try:
            checkpoint = read_checkpoint(source, AS_FOUND)
            found = masks_of(checkpoint, from_zeros=bool(data[-1] & 1))
            outputs = [_written(found, bits=bits) for bits in (False, True)]
            check_sums(checkpoint, (tensor for each in found.masks.values() for tensor in each.tensors), 1)
        except PrunecliError as error:
            return refusal(type(error).__name__, str(error))
        for output in outputs:
            _compare(found, output)
    return "accepted"


def _written(found: MaskSource, *, bits: bool) -> bytes:
    pieces = mask_file_pieces(list(found.masks.values()), bits=bits)
    sink = ModuleMemory(sum(piece.length for piece in pieces))
    run_pieces(pieces, found.checkpoint.source, sink, jobs=1, found=MaskFileCount().add)
    return bytes(sink.data)


def _compare(found: MaskSource, output: bytes) -> None:
    with in_memory(output) as source:
        again: Checkpoint = read_checkpoint(source, AS_FOUND)
        rows = count_overlaps(pair_masks(found, masks_of(again)), source, Run(1))
    if len(rows) != len(found.masks) or any(row.counts.only_a or row.counts.only_b for row in rows):
        raise BrokenLawError("what was written keeps other elements")
