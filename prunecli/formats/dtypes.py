"""Element types: one name each (torch's), whatever the container calls them."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["DTYPES", "DType", "Kind"]

Kind = Literal["float", "int", "bool", "complex", "opaque"]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type.

    `kind` says what a mask may do to it: "opaque" types (packed sub-byte, exponent-only, quantised) have no zero of
    their own, or several elements to a byte, and are only carried along. `signed_zero` tells that the pattern with
    the sign bit alone is a zero too.
    """

    name: str
    itemsize: int
    kind: Kind
    signed_zero: bool = False

    @property
    def prunable(self) -> bool:
        """Whether single elements can be set to zero."""
        return self.kind in ("float", "int", "bool")


def _table() -> dict[str, DType]:
    floats = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1}
    whole = {"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1}
    table = [DType(name, size, "float", signed_zero=True) for name, size in floats.items()]
    # In the fnuz types the lone sign bit is the NaN (OCP: "finite, NaN, unsigned zero").
    table += [DType(name, 1, "float") for name in ("float8_e4m3fnuz", "float8_e5m2fnuz")]
    table += [DType(name, size, "int") for name, size in whole.items()]
    table += [DType("bool", 1, "bool")]
    table += [DType(name, size, "complex") for name, size in {"complex32": 4, "complex64": 8, "complex128": 16}.items()]
    # An exponent alone cannot be zero; the two-in-a-byte float has no element of its own.
    table += [DType(name, 1, "opaque") for name in ("float8_e8m0fnu", "float4_e2m1fn_x2")]
    return {dtype.name: dtype for dtype in table}


DTYPES = _table()
"""Every known element type by torch's name for it."""
