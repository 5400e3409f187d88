"""The payloads of a torch.export archive: weights and constants as its configurations describe them, checked.

A configuration is JSON: `{"config": {name: payload}}`. A payload has the fields `path_name` (the record, within the
folder of the configuration), `is_param`, `use_pickle` and `tensor_meta`. `tensor_meta` has `dtype` as a number,
`sizes` and `strides` as lists of `{"as_int": n}`, `storage_offset` as `{"as_int": n}` in elements, `layout` as a
number, and `requires_grad` and `device`, which do not matter here. It is null for objects that are not tensors
(`torch/_export/serde/schema.py`).

A record holds the bytes of a whole storage. Tensors that share a storage and a type (tied weights, views) name the
same record. A tensor subclass is pickled instead (`use_pickle`; its record is itself a torch zip). A tensor without
memory (FakeTensor) has an empty record, which torch reads as zeros.
"""

from collections.abc import Mapping
from typing import Any

from prunecli.errors import DamagedError, raised_in, show
from prunecli.formats.base import Storage, TensorInfo
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.torch.zip_directory import Directory, Record
from prunecli.formats.torch.zip_patching import is_unsummed
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = ["CONSTANTS", "WEIGHTS", "PayloadFolder", "Payloads", "read_payloads"]

_TYPES = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    9: "complex32",
    10: "complex64",
    11: "complex128",
    12: "bool",
    13: "bfloat16",
    28: "uint16",
    29: "float8_e4m3fn",
    30: "float8_e5m2",
    31: "float8_e4m3fnuz",
    32: "float8_e5m2fnuz",
    33: "float8_e8m0fnu",
    34: "uint32",
    35: "uint64",
}
"""Element types by their numbers in the schema, which differ from those of torch's own enumeration."""

_STRIDED = 7
_DIMENSIONS = 64


@dataclass(frozen=True)
class Payloads:
    """The tensors that a configuration names, and the records that torch unpickles when it loads them."""

    tensors: Mapping[str, TensorInfo]
    pickled: tuple[Record, ...]


@dataclass(frozen=True)
class PayloadFolder:
    """A folder of payloads in an archive, and the prefixes of the record names of its tensors and objects."""

    path: str
    tensors: str
    objects: tuple[str, ...] = ()


WEIGHTS = PayloadFolder("data/weights/", "weight_")
CONSTANTS = PayloadFolder("data/constants/", "tensor_", ("custom_obj_", "opaque_obj_"))


def read_payloads(config: Mapping[str, Any], directory: Directory, root: str, folder: PayloadFolder) -> Payloads:
    """Return the payloads of a parsed configuration; `root` is the archive's top folder.

    Raises:
        DamagedError: an entry is incomplete, or contradicts its record or another entry.
    """
    entries = config.get("config")
    if not isinstance(entries, dict):
        raise DamagedError(f"{HERE}: the configuration in {folder.path} has no entries; fetch the archive again")
    tensors: dict[str, TensorInfo] = {}
    pickled: dict[str, Record] = {}
    types: dict[str, str] = {}
    for name, entry in entries.items():
        with raised_in(f"{HERE}: payload {show(name)}"):
            _check_entry(entry)
            path, meta = entry["path_name"], entry["tensor_meta"]
            record = directory.by_name.get(f"{root}{folder.path}{path}")
            if record is None:
                raise DamagedError(f"{HERE} is missing: the archive has no record {show(path)} in {folder.path}")
            if path.startswith(folder.objects):
                pickled[path] = record
            elif not path.startswith(folder.tensors):
                raise DamagedError(f"{HERE} lies in {show(path)}, where torch puts no payload; fetch the archive again")
            elif entry["use_pickle"]:
                pickled[path] = record
                tensors[name] = _opaque(name, "a pickled tensor subclass", meta)
            else:
                tensors[name] = _tensor(name, entry, record, path)
                kind = tensors[name].dtype.name
                if types.setdefault(path, kind) != kind:
                    raise DamagedError(f"{HERE} gives {show(path)} another element type than another payload does")
    return Payloads(tensors, tuple(pickled.values()))


def _check_entry(entry: object) -> None:
    flags = ("is_param", "use_pickle")
    if not (
        isinstance(entry, dict)
        and {"path_name", "tensor_meta", *flags} <= set(entry)
        and isinstance(entry["path_name"], str)
        and all(type(entry[flag]) is bool for flag in flags)
        and isinstance(entry["tensor_meta"], dict | None)
    ):
        raise DamagedError(f"{HERE} is not described as torch describes payloads; fetch the archive again")


def _tensor(name: str, entry: Mapping[str, Any], record: Record, path: str) -> TensorInfo:
    meta = entry["tensor_meta"]
    if meta is None:
        raise DamagedError(f"{HERE} has no sizes; fetch the archive again")
    kind, layout = meta.get("dtype"), meta.get("layout")
    dtype = DTYPES.get(_TYPES.get(kind, "")) if type(kind) is int else None
    if dtype is None:
        return _opaque(name, f"of element type {show(kind, 20)}", meta)
    if layout != _STRIDED:
        return _opaque(name, "sparse", meta)
    view = View(_whole(meta.get("storage_offset")), _sizes(meta, "sizes"), _sizes(meta, "strides"))
    if len(view.shape) != len(view.stride) or view.elements >= 1 << 63:
        raise DamagedError(f"{HERE} has sizes and strides that make no tensor; fetch the archive again")
    if view.elements and not record.size:
        return _opaque(name, "without memory (FakeTensor)", meta)
    if record.size % dtype.itemsize or (view.elements and view.stop * dtype.itemsize > record.size):
        raise DamagedError(f"{HERE} reaches behind the end of its record {show(path)}; fetch the archive again")
    storage = Storage(path, record.offset, record.size, None if is_unsummed(record) else record.crc)
    return TensorInfo(name, dtype, view, storage, buffer=not entry["is_param"])


def _opaque(name: str, kind: str, meta: Mapping[str, Any] | None) -> TensorInfo:
    """Return the description of a tensor that has no plain elements in the archive."""
    shape = _sizes(meta, "sizes") if meta is not None else ()
    return TensorInfo(name, DType(kind, 1, "opaque"), View.of(shape), Storage(f"({name})", 0, 0))


def _sizes(meta: Mapping[str, Any], field: str) -> tuple[int, ...]:
    sizes = meta.get(field)
    if not isinstance(sizes, list) or len(sizes) > _DIMENSIONS:
        raise DamagedError(f"{HERE} has no {field} that torch could use; fetch the archive again")
    return tuple(_whole(size) for size in sizes)


def _whole(value: object) -> int:
    number = value.get("as_int") if isinstance(value, dict) else None
    if type(number) is not int or not 0 <= number < 1 << 62:
        raise DamagedError(f"{HERE} has a size, stride or offset that is not a whole number in range")
    return number
