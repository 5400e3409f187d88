"""Records: dataclasses that are written as JSON objects, and read back strictly.

A field without a default, or marked `REQUIRED`, is always written, and required when read. A field with a default is
written if it has another value, or always if it is marked `ALWAYS` (earlier versions did not write it). A field with
`init=False` is computed: it is written, but not read. A field marked `HIDDEN` is not part of the record. Unknown keys
in the JSON are ignored. The name of a field may end in an underscore that its key does not have (`global_`).
"""

import enum
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from operator import attrgetter
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from prunecli.lean import dataclass

__all__ = [
    "ALWAYS",
    "HIDDEN",
    "REQUIRED",
    "Count",
    "RecordError",
    "RecordField",
    "ValueRule",
    "as_json",
    "as_text",
    "read_record",
    "record_fields",
]

T = TypeVar("T")
Reader = Callable[[Any], Any]


class RecordError(ValueError):
    """JSON that is not the expected record; the message follows the name of the file."""


@dataclass(frozen=True, eq=False)
class ValueRule:
    """A condition on a value besides its type: the reader checks it if there is a `kind`, and the schema states it."""

    kind: str = ""
    is_right: Callable[[Any], object] = bool
    schema: Mapping[str, Any] | None = None

    def __get_pydantic_json_schema__(self, core: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Return the schema of the type with the additions of the rule."""
        return {**handler(core), **(self.schema or {})}


class _Hidden:
    def __get_pydantic_json_schema__(self, core: Any, handler: object) -> dict[str, Any]:
        from pydantic_core import PydanticOmit  # imported here: few runs make a schema

        raise PydanticOmit


ALWAYS, REQUIRED, HIDDEN = object(), object(), _Hidden()
Count = Annotated[
    int, ValueRule("a whole number", lambda value: type(value) is int and 0 <= value < 1 << 128, {"minimum": 0})
]
_KINDS = {str: "text", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class RecordField:
    """A field of a record. A `required` field is always present. `read` is None for a computed field.

    `label` is the key as JSON, with its colon.
    """

    name: str
    key: str
    label: str
    default: Any
    always: bool
    required: bool
    read: Reader | None


def record_fields(record: type) -> tuple[RecordField, ...]:
    """Return the fields of a record, in their order in the JSON."""
    return _record_fields(record)


@cache
def _record_fields(record: Any) -> tuple[RecordField, ...]:
    hints = get_type_hints(record, include_extras=True)
    found = []
    for each in fields(record):
        marks = get_args(hints[each.name])
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        required = default is MISSING or not each.init or REQUIRED in marks
        if HIDDEN not in marks:
            always, read = required or ALWAYS in marks, _reader(hints[each.name]) if each.init else None
            key = each.name.rstrip("_")
            found.append(RecordField(each.name, key, f"{_quoted(key)}: ", default, always, required, read))
    return tuple(found)


def as_json(record: Any) -> dict[str, Any]:
    """Return a record as plain dicts and lists."""
    found = {}
    for each in record_fields(type(record)):
        value = getattr(record, each.name)
        if each.always or value != each.default:
            found[each.key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return dict(value.items())
    return as_json(value) if is_dataclass(value) else value


@cache
def _written(record: type) -> tuple[list[tuple[str, bool, Any]], Callable[[Any], tuple[Any, ...]]]:
    """Return label, whether it is always written, and default of a record's fields, and what gets a record's values.

    The first value comes twice, or that of a single field would not be a tuple.
    """
    written = record_fields(record)
    get = attrgetter(written[0].name, *(each.name for each in written))
    return [(each.label, each.always, each.default) for each in written], get


def as_text(record: Any, indent: str) -> str:
    """Return a record as the JSON text that `json.dumps` makes of `as_json` with an indent of two spaces.

    `indent` is the whitespace of the line on which it begins. The encoder itself is several times slower, and takes
    several kB of memory a row.
    """
    inner = f"{indent}  "
    lines = []
    kind: type = type(record)
    written, get = _written(kind)
    _, *values = get(record)
    for (label, always, default), value in zip(written, values, strict=True):
        if always or (value is not default and value != default):
            plain = _PLAIN.get(type(value))
            lines.append(label + (_as_text(value, inner) if plain is None else plain(value)))
    return _enclosed("{}", lines, indent)


_PLAIN: dict[type, Callable[[Any], str]] = {str: _quoted, int: repr, bool: json.dumps, type(None): lambda _: "null"}
_PLAIN[float] = lambda value: repr(value) if isfinite(value) else json.dumps(value)
"""How the commonest values are written."""


def _as_text(value: Any, indent: str) -> str:
    plain = _PLAIN.get(type(value))
    if plain is not None:
        return plain(value)
    if isinstance(value, list | tuple):
        if not value:
            return "[]"
        inner = f"{indent}  "
        return _enclosed("[]", [_as_text(each, inner) for each in value], indent)
    if isinstance(value, str):  # an enum
        return _quoted(value)
    if is_dataclass(value):
        return as_text(value, indent)
    if isinstance(value, Mapping):
        inner = f"{indent}  "
        return _enclosed("{}", [f"{_quoted(key)}: {_as_text(each, inner)}" for key, each in value.items()], indent)
    return json.dumps(value)


def _enclosed(brackets: str, items: list[str], indent: str) -> str:
    if not items:
        return brackets
    between = f",\n{indent}  "
    return f"{brackets[0]}\n{indent}  {between.join(items)}\n{indent}{brackets[1]}"


def read_record(record: type[T], content: Any) -> T:
    """Read a record from parsed JSON.

    Raises:
        RecordError: a field is missing, or its value is not valid.
    """
    if not isinstance(content, dict):
        raise RecordError(" is not an object")
    values = {}
    for each in record_fields(record):
        if each.read is not None and each.key in content:
            try:
                values[each.name] = each.read(content[each.key])
            except RecordError as error:
                raise RecordError(f": {each.key}{error}") from None
        elif each.read is not None and each.required:
            raise RecordError(f": {each.key} is missing")
    return record(**values)


def _reader(hint: Any) -> Reader:
    """Return the function that reads a value of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rule = next((each for each in args[1:] if isinstance(each, ValueRule) and each.kind), None)
        return _reader(args[0]) if rule is None else partial(_checked, rule)
    if origin is Literal:
        return partial(_checked, ValueRule(" or ".join(map(str, args)), args.__contains__))
    if origin is tuple:
        return partial(_read_list, _reader(args[0]))
    if type(hint) is UnionType or str(origin) == "typing.Union":  # T | None
        return partial(_read_optional, _reader(args[0]))
    if isinstance(hint, type) and is_dataclass(hint):
        return partial(read_record, hint)
    if origin is not None:
        return partial(_checked, ValueRule("an object", lambda value: isinstance(value, dict)))
    if issubclass(hint, enum.Enum):
        read = partial(_checked, ValueRule(" or ".join(hint), lambda value: value in list(hint)))
        return lambda value: hint(read(value))
    return partial(_checked, ValueRule(_KINDS[hint], lambda value: isinstance(value, hint)))


def _checked(rule: ValueRule, value: Any) -> Any:
    if not rule.is_right(value):
        raise RecordError(f" is not {rule.kind}")
    return value


def _read_optional(read: Reader, value: Any) -> Any:
    return None if value is None else read(value)


def _read_list(read: Reader, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise RecordError(" is not a list")
    found = []
    for number, each in enumerate(value):
        try:
            found.append(read(each))
        except RecordError as error:
            raise RecordError(f"[{number}]{error}") from None
    return tuple(found)
