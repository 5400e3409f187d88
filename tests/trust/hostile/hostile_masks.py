"""Mask files, and what else masks come from: values that are no mask, bits that are too many, metadata that lie."""

import io
import json
import struct
from collections.abc import Callable
from typing import Any

import torch
from hostile_corpus import Kind, Roles, accepted, refused
from hostile_makers import beside_a_weight, tensors, tensors_entry, zipped

__all__ = ["BESIDE", "MASKED", "MASKS", "MODEL"]

Make = Callable[..., object]
_MASKS = Kind(".safetensors", "")
_DICTIONARY = Kind(".pt", "")
_KEPT = b"\1\0\1\1\0\0\1\0"
_WEIGHTS = struct.pack("<8f", *range(1, 9))
MODEL, _GOOD = "in/model.safetensors", "in/good.safetensors"


def _flags(data: bytes = _KEPT, *, name: str = "w", dtype: str = "BOOL", **metadata: str) -> bytes:
    """A mask file of eight elements; `metadata` are entries of its header beside the version."""
    entry = {"dtype": dtype, "shape": [len(data)], "data_offsets": [0, len(data)]}
    own = {f"prunecli.{key}": value for key, value in {"masks": "1", **metadata}.items()}
    return tensors({"__metadata__": own, name: entry}, data)


def _bits(data: bytes, shapes: str) -> bytes:
    return _flags(data, dtype="U8", encoding="bits", shapes=shapes)


BESIDE = {
    "model.safetensors": tensors({"w": tensors_entry(shape=[8], data_offsets=[0, 32])}, _WEIGHTS),
    "good.safetensors": _flags(),
}
_APPLY = ("apply", MODEL, "-p", "*", "--remove", "-o", "out")
MASKS = Roles(
    {
        "mask extract": ("mask", "extract", "{}", "-o", "out"),
        "mask invert": ("mask", "invert", "{}", "-o", "out"),
        "mask combine": ("mask", "combine", "--minus", _GOOD, "{}", "-o", "out", "--bits"),
        "mask overlap": ("mask", "overlap", "{}", _GOOD),
        "apply --masks": (*_APPLY, "--masks", "{}"),
        "apply --like": (*_APPLY, "--seed", "1", "--like", "{}"),
    },
    BESIDE,
)
"""Every command that reads masks."""

MASKED = Roles(
    {
        "restore": ("restore", "{}", "-o", "out"),
        "diff": ("diff", "{}", MODEL),
        "mask extract": ("mask", "extract", "{}", "--from-zeros", "-p", "*", "-o", "out"),
        "apply --like": (*_APPLY, "--seed", "1", "--like", "{}"),
    },
    BESIDE,
)
"""Commands that read checkpoints, whose masks and zeros they take."""


def _damaged(says: str) -> Callable[[Make], Make]:
    return refused(4, says, family="masks", kind=_MASKS, roles=MASKS)


@accepted(family="masks", kind=_MASKS, roles=MASKS)
def a_mask_file() -> bytes:
    return _flags()


@accepted(family="masks", kind=_MASKS, roles=MASKS)
def a_mask_file_of_bits() -> bytes:
    return _bits(b"\x4d", '{"w": [8]}')


@_damaged(r"the mask of w has a value other than 0 and 1, at \[6\]")
def a_byte_that_is_no_boolean() -> bytes:
    """Most readers take every byte other than 0 for true, and write it on as it is."""
    return _flags(b"\1\0\1\1\0\0\xff\0")


@_damaged(r"the mask of w has a value other than 0 and 1, at \[7\]")
def a_number_that_is_not_one() -> bytes:
    data = struct.pack("<8f", 1, 0, 1, 1, 0, 0, 1, float("nan"))
    header = {"__metadata__": {"prunecli.masks": "1"}, "w": tensors_entry(shape=[8], data_offsets=[0, 32])}
    return tensors(header, data)


@refused(
    4,
    "w has bits set behind its last element|shape",
    family="masks",
    but=dict.fromkeys(("mask combine", "mask overlap", "apply --masks"), 2),
    kind=_MASKS,
    roles=MASKS,
)
def bits_behind_the_last_element() -> bytes:
    return _bits(b"\xff", '{"w": [7]}')


@_damaged("the bits of w are uint8")
def fewer_bits_than_elements() -> bytes:
    """A reader that trusts the shape would read its neighbours."""
    return _bits(b"\x4d", '{"w": [9]}')


@_damaged("the bits of w are uint8")
def bits_of_a_shape_that_overflows() -> bytes:
    return _bits(b"\x4d", json.dumps({"w": [1 << 62, 1 << 62]}))


@_damaged("has no shape of w")
def bits_of_a_negative_shape() -> bytes:
    return _bits(b"\x4d", '{"w": [-2, -4]}')


@_damaged("has no shape of w")
def bits_of_a_shape_of_fractions() -> bytes:
    return _bits(b"\x4d", '{"w": [8.0]}')


@_damaged("has no shape of w")
def bits_of_very_many_dimensions() -> bytes:
    return _bits(b"\x4d", json.dumps({"w": [8] + [1] * 100_000}))


@_damaged("prunecli.shapes is not JSON")
def shapes_that_are_nested_without_end() -> bytes:
    return _bits(b"\x4d", '{"w": ' + "[" * 100_000)


@_damaged("prunecli.shapes is not JSON")
def a_shape_of_5000_digits() -> bytes:
    return _bits(b"\x4d", '{"w": [' + "8" * 5000 + "]}")


@_damaged("prunecli.shapes has w twice")
def shapes_with_a_name_twice() -> bytes:
    return _bits(b"\x4d", '{"w": [8], "w": [7]}')


@_damaged(r"has \S*x1b\S*, of which there are no bits")
def shapes_of_a_name_that_moves_the_cursor() -> bytes:
    return _bits(b"\x4d", json.dumps({"w": [8], "\x1b]0;x\x07": [8]}))


@_damaged("prunecli.kept .* a mask file has true")
def a_mask_file_that_means_the_opposite() -> bytes:
    """Read as usual, it would prune what it keeps."""
    return _flags(kept="false")


@_damaged("prunecli.encoding .* a mask file has true, and bool or bits")
def an_encoding_that_nobody_knows() -> bytes:
    return _flags(encoding="\x1b[2Jzip")


@_damaged("is a mask file of version 2; this prunecli reads 1")
def a_mask_file_of_a_later_version() -> bytes:
    return _flags(masks="2")


@_damaged("hostile.safetensors")
def a_mask_file_that_is_cut_short() -> bytes:
    return _flags()[:-1]


_OTHERS = {"mask extract": 0, "mask invert": 0}


@refused(2, "does not contain|has no|only in/.* has masks of", family="masks", but=_OTHERS, kind=_MASKS, roles=MASKS)
def a_mask_of_a_name_that_moves_the_cursor() -> bytes:
    return _flags(name="\x1b]0;x\x07w\u202e")


@refused(2, "shapes differ|have shapes", family="masks", but={**_OTHERS, "apply --like": 0}, kind=_MASKS, roles=MASKS)
def a_mask_of_another_shape() -> bytes:
    return _flags(_KEPT[:7])


@refused(2, "has no masks", family="masks", but={"apply --like": 0}, kind=_DICTIONARY, roles=MASKS)
def a_dictionary_of_halves() -> bytes:
    return _torch({"w": torch.full((8,), 0.5)})


@refused(5, r"weights-only loading refuses", family="masks", kind=_DICTIONARY, roles=MASKS)
def a_dictionary_that_runs() -> bytes:
    return zipped(beside_a_weight(b"cposix\nsystem\n(X\x0c\0\0\0touch canarytR"))


def _flipped(state: dict[str, torch.Tensor], name: str) -> bytes:
    """A file of torch's in which a tensor has other bytes than its checksum says."""
    whole = _torch(state)
    raw = state[name].numpy().tobytes()
    assert whole.count(raw) == 1
    return whole.replace(raw, bytes(len(raw)))


def _torch(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


@refused(4, "w is damaged: its CRC-32 is", family="masks", kind=_DICTIONARY, roles=MASKS)
def a_dictionary_with_flipped_bits() -> bytes:
    return _flipped({"w": torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 0])}, "w")


def _masked(kept: list[float]) -> dict[str, torch.Tensor]:
    return {"w_orig": torch.arange(1.0, 9.0), "w_mask": torch.tensor(kept)}


@accepted(family="masked", kind=_DICTIONARY, roles=MASKED)
def a_masked_checkpoint() -> bytes:
    return _torch(_masked([1, 0, 0, 1, 1, 1, 0, 0]))


@refused(4, "w_mask is damaged: its CRC-32 is", family="masked", but={"restore": 0}, kind=_DICTIONARY, roles=MASKED)
def a_mask_with_flipped_bits() -> bytes:
    return _flipped(_masked([1, 0, 0, 1, 1, 1, 0, 0]), "w_mask")


@refused(
    4,
    "w_orig is damaged: its CRC-32 is|record .* is damaged",
    family="masked",
    but={"apply --like": 0},
    kind=_DICTIONARY,
    roles=MASKED,
)
def a_weight_with_flipped_bits() -> bytes:
    """A mask counts, whatever lies below it."""
    return _flipped(_masked([1, 0, 0, 1, 1, 1, 0, 0]), "w_orig")


def _read_by_some(code: int, says: str, **but: int) -> Callable[[Make], Make]:
    codes = {"restore": 0, "diff": 0} | {name.replace("___", " --").replace("_", " "): own for name, own in but.items()}
    return refused(code, says, family="masked", but=codes, kind=_DICTIONARY, roles=MASKED)


@_read_by_some(4, "the mask of w has a value other than 0 and 1, at", mask_extract=0)
def a_mask_of_other_values() -> bytes:
    """Its product with the weight is defined; what it keeps is not."""
    return _torch(_masked([1, 0, 0.5, 1, 1, float("inf"), 0, 0]))


@_read_by_some(2, "holds no masks to drop", restore=2, mask_extract=0, apply___like=0)
def a_masked_weight_whose_name_is_taken() -> bytes:
    return _torch({**_masked([1, 0, 0, 1, 1, 1, 0, 0]), "w": torch.zeros(8)})


@_read_by_some(2, "holds no masks to drop|does not contain w", restore=2, mask_extract=0)
def a_mask_shorter_than_its_weight() -> bytes:
    return _torch({"w_orig": torch.ones(8), "w_mask": torch.tensor([1.0, 0, 1, 1])})


@_read_by_some(2, "elements share memory|does not contain w")
def a_mask_that_is_one_element_repeated() -> bytes:
    """A bit in it drops all elements."""
    return _torch({"w_orig": torch.arange(1.0, 9.0), "w_mask": torch.zeros(1).expand(8)})
