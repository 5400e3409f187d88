"""The classes and functions that `torch.load(weights_only=True)` admits, by name. This module does not import torch.

The list is that of torch 2.15; a test compares it with torch's own (`_weights_only_unpickler`,
`_get_allowed_globals`). Older lists differ in two names: those before 2.14 lack `torch.bcomplex32`, and those up to
2.14 contain `torch._utils._rebuild_nested_tensor`.
"""

from prunecli.formats.dtypes import DTYPES, DType

__all__ = ["STORAGE_OF", "admitted", "makes_memory", "storage_dtype"]

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
STORAGE_OF = {dtype: storage for storage, dtype in _STORAGES.items()}

_QUANTISED = {"QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1}

_TENSORS = [name.replace("Storage", "Tensor") for name in _STORAGES if "Complex" not in name]
_TORCH_NAMES = {
    *(f"int{bits}" for bits in range(1, 8)),
    *(f"uint{bits}" for bits in range(1, 8)),
    "bits16",
    "bits1x8",
    "bits2x4",
    "bits4x2",
    "bits8",
    "qint32",
    "qint8",
    "quint2x4",
    "quint4x2",
    "quint8",
    "per_channel_affine",
    "per_channel_affine_float_qparams",
    "per_channel_symmetric",
    "per_tensor_affine",
    "per_tensor_symmetric",
    "Size",
    "Tensor",
    "device",
    *DTYPES,
    *_STORAGES,
    *_QUANTISED,
    *_TENSORS,
}
_REBUILD = (
    "device_tensor_from_cpu_tensor",
    "device_tensor_from_numpy",
    "meta_tensor_no_storage",
    "parameter",
    "parameter_with_state",
    "qtensor",
    "sparse_tensor",
    "tensor",
    "tensor_v2",
    "tensor_v3",
    "wrapper_subclass",
)


def _names() -> frozenset[tuple[str, str]]:
    names = {("torch", name) for name in _TORCH_NAMES}
    names |= {("torch.cuda", name) for name in (*_STORAGES, *_TENSORS)}
    names |= {(module, name) for module in ("torch.sparse", "torch.cuda.sparse") for name in _TENSORS}
    names -= {(module, "BoolTensor") for module in ("torch.sparse", "torch.cuda.sparse")}
    names |= {("torch._utils", f"_rebuild_{name}") for name in _REBUILD}
    names |= {("torch.storage", "TypedStorage"), ("torch.storage", "UntypedStorage")}
    names |= {("torch._tensor", "_rebuild_from_type_v2"), ("torch.nn.parameter", "Parameter")}
    names |= {("torch.serialization", "_get_layout"), ("_codecs", "encode")}
    names |= {("collections", "OrderedDict"), ("collections", "Counter")}
    for module in ("builtins", "__builtin__"):
        names |= {(module, name) for name in ("bytearray", "complex", "set")}
    return frozenset(names)


_ADMITTED = _names()
_MEMORY = frozenset({*_STORAGES, *_QUANTISED, *_TENSORS, "Tensor", "TypedStorage", "UntypedStorage"})


def admitted(module: str, name: str) -> bool:
    """Whether weights-only loading admits this global."""
    return (module, name) in _ADMITTED


def makes_memory(module: str, name: str) -> bool:
    """Whether calling this global makes a tensor or a storage from uninitialised memory."""
    return name in _MEMORY and (module, name) in _ADMITTED


def storage_dtype(module: str, name: str) -> DType | None:
    """Return the element type of a storage class: uint8 for an untyped one, None if it is not a storage class."""
    if module == "torch.storage" and name in ("UntypedStorage", "TypedStorage"):
        return DTYPES["uint8"]
    if module not in ("torch", "torch.cuda"):
        return None
    if name in _QUANTISED:
        return DType(name.removesuffix("Storage").lower(), _QUANTISED[name], "opaque")
    return DTYPES[_STORAGES[name]] if name in _STORAGES else None
