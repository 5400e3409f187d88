"""The argument bytes of a pickle opcode -> the value they stand for (`ArgumentDescriptor` in `pickletools.py`).

Each function raises `ValueError` where the bytes stand for nothing.
"""

import re

from prunecli.formats.pickles.nodes import ByteArrayNode, ByteStringNode, Node

__all__ = ["byte_array", "int_line", "long", "long_line", "python2_text", "string_line", "text"]


def text(raw: bytes | memoryview) -> str:
    """UTF-8, lone surrogates as pickle writes them."""
    return str(raw, "utf-8", "surrogatepass")


def python2_text(raw: bytes | memoryview) -> Node:
    """A `str` of Python 2: text where it is ASCII, else its bytes, since only the reader can say what they mean."""
    data = bytes(raw)
    return data.decode("ascii") if data.isascii() else ByteStringNode(data)


def byte_array(raw: bytes | memoryview) -> Node:
    """A bytearray."""
    return ByteArrayNode(bytes(raw))


def long(raw: bytes | memoryview) -> int:
    """LONG1, LONG4: two's complement, little-endian; no bytes are 0."""
    return int.from_bytes(raw, "little", signed=True)


def int_line(text: bytes) -> int:
    """INT: a decimal number, or a bool in the spelling of protocols 0 and 1."""
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text, 0)


def long_line(text: bytes) -> int:
    """LONG: a decimal number with Python 2's `L` behind it; more digits than Python reads by default are refused."""
    return int(text.removesuffix(b"L"), 0)


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\\'\"nrt]))|\\")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def string_line(text: bytes) -> Node:
    """STRING: what Python 2's `repr` wrote for a `str`."""
    # Not codecs.escape_decode: it answers a bad escape with a warning instead of an error.
    if len(text) < 2 or text[:1] not in (b"'", b'"') or text[-1:] != text[:1]:
        raise ValueError
    return python2_text(_ESCAPE.sub(_unescape, text[1:-1]))


def _unescape(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes.fromhex(match[1].decode("ascii"))
    if match[2]:
        return _ESCAPED.get(match[2], match[2])
    raise ValueError
