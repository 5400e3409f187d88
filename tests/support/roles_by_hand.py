"""Tensors of a checkpoint as roles see them, from a short spelling of types and shapes."""

from collections.abc import Mapping

from prunecli.formats.base import Storage, TensorInfo
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.views import View
from prunecli.surgery.roles.table import roles_of

__all__ = ["described", "roles"]

_SHORT = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "f8": "float8_e4m3fn",
    "u8": "uint8",
    "i8": "int8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "u32": "uint32",
    "i64": "int64",
    "b": "bool",
    "e8m0": "float8_e8m0fnu",
    "f4": "float4_e2m1fn_x2",
    "c64": "complex64",
}


def described(spelled: Mapping[str, str], within: str = "") -> dict[str, TensorInfo]:
    """Return tensors by name from spellings such as "f32 3x4" ("f32" alone is a scalar)."""
    found = {}
    for name, text in spelled.items():
        short, _, sizes = text.partition(" ")
        shape = tuple(map(int, sizes.split("x"))) if sizes else ()
        dtype = DTYPES[_SHORT[short]] if short in _SHORT else DType(short, 1, "opaque")
        found[name] = TensorInfo(name, dtype, View.of(shape), Storage(name, 0, 1 << 40), within=within)
    return found


def roles(spelled: Mapping[str, str], prefix: str = "") -> dict[str, str]:
    """Return the roles of tensors whose names have `prefix`, by the names without it."""
    found = roles_of(described({prefix + name: text for name, text in spelled.items()}))
    return {name.removeprefix(prefix): str(role) for name, role in found.items()}
