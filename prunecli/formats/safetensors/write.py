"""Write a safetensors file: the header from names, element types and shapes; the bytes from pieces of known length."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any

from prunecli.errors import UnsupportedError, UsageError, show
from prunecli.formats.dtypes import DType
from prunecli.formats.io.pieces import Literal, Piece
from prunecli.lean import dataclass

__all__ = ["CODES", "HEADER_LIMIT", "METADATA", "PACKED_BITS", "NewTensor", "pieces_in_order", "safetensors_pieces"]

CODES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
"""Our names of element types by their codes in the header, in the library's order; it writes the last ones first."""

PACKED_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Bits per element of the types with less than a byte per element: carried along, never pruned."""

HEADER_LIMIT = 100_000_000
"""The longest header that the library reads, in bytes."""

METADATA = "__metadata__"
"""The one name in the header that is not the name of a tensor."""

_CODE_OF = {name: code for code, name in CODES.items()}
_RANK = {name: rank for rank, name in enumerate(CODES.values())}


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A row-major tensor to write; `pieces` make its bytes, in order.

    `fields` are further entries of its description in the header, which readers ignore.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    pieces: Sequence[Piece]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the tensor in bytes."""
        return sum(piece.length for piece in self.pieces)


def safetensors_pieces(tensors: Sequence[NewTensor], metadata: Mapping[str, str] | None = None) -> Iterator[Piece]:
    """Return the pieces of a new file with the bytes that the library writes: wide element types first, then by name.

    Raises:
        UnsupportedError: safetensors does not have an element type, or the header is longer than the library reads.
        UsageError: two tensors have the same name, or the pieces of a tensor do not have the length of its elements.
    """
    order = sorted(tensors, key=lambda tensor: (-_RANK.get(tensor.dtype.name, -1), tensor.name))
    return pieces_in_order(order, {} if metadata is None else {METADATA: dict(metadata)})


def pieces_in_order(tensors: Sequence[NewTensor], header: Mapping[str, Any]) -> Iterator[Piece]:
    """Return the pieces of a file with the tensors in this order; their descriptions follow the entries of `header`.

    Raises:
        PrunecliError: as `safetensors_pieces`.
    """
    described = dict(header)
    at = 0
    for tensor in tensors:
        if tensor.name in described or tensor.name == METADATA:
            raise UsageError(f"a safetensors file cannot contain two tensors named {show(tensor.name)}; rename one")
        code, stop = _code(tensor), at + tensor.nbytes
        known = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [at, stop]}
        described[tensor.name] = {**tensor.fields, **known}
        at = stop
    yield Literal(_rendered(described))
    for tensor in tensors:
        yield from tensor.pieces


def _code(tensor: NewTensor) -> str:
    name = tensor.dtype.name
    code = _CODE_OF.get(name, name)
    bits = PACKED_BITS.get(code, tensor.dtype.itemsize * 8)
    if code not in CODES and code not in PACKED_BITS:
        raise UnsupportedError(f"{show(tensor.name)} is {name}, an element type that safetensors does not have")
    if tensor.nbytes * 8 != tensor.elements * bits:
        raise UsageError(f"{show(tensor.name)} has {tensor.nbytes} bytes for {tensor.elements} elements of {name}")
    return code


def _rendered(header: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        name = next((name for name in header if _is_not_text(name)), METADATA)
        raise UnsupportedError(f"the name {show(name)} is not text, and safetensors has no other names") from error
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT:
        raise UnsupportedError(f"the header would have {len(text)} bytes, and safetensors reads up to {HEADER_LIMIT}")
    return len(text).to_bytes(8, "little") + text


def _is_not_text(name: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in name)
