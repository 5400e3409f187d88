"""`config.json` without the entry that says that tensors are stored sparsely; all other bytes stay."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from prunecli.formats.json_text import parse_object

__all__ = ["CONFIG", "LARGEST", "without_sparsity"]

CONFIG = "config.json"
LARGEST = 1 << 20
"""The largest configuration in bytes; a usual one has a few thousand."""

_ENTRY = "sparsity_config"
_AROUND = ("quantization_config", "compression_config")
_FORMATS = ("sparse-bitmask", "sparse-24-bitmask")
_EMPTY = frozenset({"quant_method", "version", "transform_config"})
"""What is written beside the entry even if nothing is quantised; a transform is then an empty object."""

_SPACE = re.compile(r"[ \t\n\r]*")


class _TextItem(NamedTuple):
    """An item of an object: its name, and where it starts, its value starts, and its value stops in the text."""

    name: str
    start: int
    value: int
    stop: int


def without_sparsity(raw: bytes, what: str) -> bytes:
    """Return a configuration without the sparsity; if nothing else is in the object around it, without that object.

    `what` names the text in messages.

    Raises:
        PrunecliError: as `parse_object`.
    """
    content = parse_object(raw, what)
    text = raw.decode("utf-8")
    for name in _AROUND:
        own = content.get(name)
        if isinstance(own, dict) and _is_sparse(own.get(_ENTRY)):
            start = _skip(text, 0)
            if _is_empty(own):
                return _without(text, start, name).encode()
            return _without(
                text, next(each.value for each in _items(text, start) if each.name == name), _ENTRY
            ).encode()
    return _without(text, _skip(text, 0), _ENTRY).encode() if _is_sparse(content.get(_ENTRY)) else raw


def _is_sparse(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("format") in _FORMATS


def _is_empty(around: Mapping[str, Any]) -> bool:
    return around.keys() <= {*_EMPTY, _ENTRY} and not around.get("transform_config")


def _without(text: str, start: int, name: str) -> str:
    """Return a text without an item, and one comma, of the object that begins at `start`."""
    items = _items(text, start)
    index = next(place for place, each in enumerate(items) if each.name == name)
    own = items[index]
    if index + 1 < len(items):
        return text[: own.start] + text[items[index + 1].start :]
    return text[: items[index - 1].stop if index else own.start] + text[own.stop :]


def _items(text: str, start: int) -> list[_TextItem]:
    """Return the items of the object that begins at `start` of a valid text."""
    decode, found = json.JSONDecoder().raw_decode, []
    at = _skip(text, start + 1)
    while text[at] != "}":
        name, stop = decode(text, at)
        value = _skip(text, _skip(text, stop) + 1)
        found.append(_TextItem(name, at, value, decode(text, value)[1]))
        at = _skip(text, found[-1].stop)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    """Return the place of the next character that is not white space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
