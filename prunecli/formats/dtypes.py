"""Element types, each under torch's name for it, whatever the container calls it."""

from typing import Literal

from prunecli.lean import dataclass

__all__ = ["DTYPES", "DType", "Kind"]

Kind = Literal["float", "int", "bool", "complex", "opaque"]


@dataclass(frozen=True, slots=True)
class DType:
    """An element type.

    `kind` decides what a mask may do to it: "opaque" types (packed sub-byte, exponent-only, quantised) have no zero of
    their own, or several elements per byte, and are only copied. With `signed_zero`, the pattern of the sign bit alone
    is a zero, too. `one` is the bit pattern of the number one. A complex number is two numbers of the type `half`, the
    real part first; `signed_zero` and `one` then refer to the half.
    """

    name: str
    itemsize: int
    kind: Kind
    signed_zero: bool = False
    one: int = 1
    half: str = ""

    @property
    def prunable(self) -> bool:
        """Whether single elements can be set to zero."""
        return self.kind != "opaque"

    @property
    def paired(self) -> bool:
        """Whether an element consists of two numbers."""
        return self.kind == "complex"


_FLOATS = (
    DType("float64", 8, "float", signed_zero=True, one=0x3FF0000000000000),
    DType("float32", 4, "float", signed_zero=True, one=0x3F800000),
    DType("float16", 2, "float", signed_zero=True, one=0x3C00),
    DType("bfloat16", 2, "float", signed_zero=True, one=0x3F80),
    DType("float8_e4m3fn", 1, "float", signed_zero=True, one=0x38),
    DType("float8_e5m2", 1, "float", signed_zero=True, one=0x3C),
    # In the fnuz types the lone sign bit is the NaN (OCP: "finite, NaN, unsigned zero").
    DType("float8_e4m3fnuz", 1, "float", one=0x40),
    DType("float8_e5m2fnuz", 1, "float", one=0x40),
)

_COMPLEX = (
    DType("complex32", 4, "complex", signed_zero=True, one=0x3C00, half="float16"),
    DType("bcomplex32", 4, "complex", signed_zero=True, one=0x3F80, half="bfloat16"),  # torch 2.15; two bfloat16
    DType("complex64", 8, "complex", signed_zero=True, one=0x3F800000, half="float32"),
    DType("complex128", 16, "complex", signed_zero=True, one=0x3FF0000000000000, half="float64"),
)

_WHOLE = {"int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1}

_OPAQUE = ("float8_e8m0fnu", "float4_e2m1fn_x2")
"""A type with only an exponent cannot be zero; a type with two floats per byte has no single elements."""


def _table() -> dict[str, DType]:
    table = [*_FLOATS, *(DType(name, size, "int") for name, size in _WHOLE.items()), DType("bool", 1, "bool")]
    table += [*_COMPLEX, *(DType(name, 1, "opaque") for name in _OPAQUE)]
    return {dtype.name: dtype for dtype in table}


DTYPES = _table()
"""Every known element type by torch's name for it."""
