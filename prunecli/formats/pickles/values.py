"""The values of a pickle opcode's argument bytes (`ArgumentDescriptor` in `pickletools.py`).

Each function raises `ValueError` if the bytes do not represent a value.
"""

import re

from prunecli.formats.pickles.nodes import ByteArrayNode, ByteStringNode, Letter, Node

__all__ = ["byte_array", "int_line", "long", "long_line", "python2_text", "string_line", "text"]


def text(raw: bytes | memoryview) -> str:
    """Return UTF-8 text, with lone surrogates as pickle writes them."""
    found = str(raw, "utf-8", "surrogatepass")
    return Letter(found) if len(found) == 1 else found


def python2_text(raw: bytes | memoryview) -> Node:
    """Return a `str` of Python 2: text if it is ASCII, else its bytes, because their meaning depends on the reader."""
    data = bytes(raw)
    return data.decode("ascii") if data.isascii() else ByteStringNode(data)


def byte_array(raw: bytes | memoryview) -> Node:
    """Return the node of a bytearray."""
    return ByteArrayNode(bytes(raw))


def long(raw: bytes | memoryview) -> int:
    """Return the integer of LONG1 or LONG4: two's complement, little-endian; an empty argument is 0."""
    return int.from_bytes(raw, "little", signed=True)


def int_line(text: bytes) -> int:
    """Return the value of INT: a decimal number, or a bool in the spelling of protocols 0 and 1."""
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text, 0)


def long_line(text: bytes) -> int:
    """Return the integer of LONG: decimal digits and Python 2's `L`; more digits than Python's limit are refused."""
    return int(text.removesuffix(b"L"), 0)


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\\'\"nrt]))|\\")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def string_line(text: bytes) -> Node:
    """Return the value of STRING: a `str` as Python 2's `repr` wrote it."""
    # Not codecs.escape_decode, which only warns about a bad escape instead of raising an error.
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise ValueError
    return python2_text(_ESCAPE.sub(_unescape, text[1:-1]))


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode("ascii"))
    if match[2]:
        return _ESCAPED.get(match[2], match[2])
    raise ValueError
