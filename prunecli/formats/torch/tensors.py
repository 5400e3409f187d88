"""Tensors in a pickle graph: the calls with which torch rebuilds them, read and written as nodes."""

import contextlib
from collections.abc import Iterable, Sequence

from prunecli.errors import DamagedError, UnsupportedError, show
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.pickles.nodes import Call, DictNode, Global, ListNode, Node, Persistent, TupleNode
from prunecli.formats.torch.globals import STORAGE_OF, storage_dtype
from prunecli.formats.views import View
from prunecli.lean import dataclass
from prunecli.terms import HERE

__all__ = [
    "OpaqueTensor",
    "StorageRef",
    "TensorRef",
    "mask_node",
    "read_sizes",
    "storage_ref",
    "stranger",
    "tensor_ref",
]

_WRAPPERS = {
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch.nn.parameter", "Parameter"),
}
_DIMENSIONS = 64
_WRAPPERS_DEEP = 4
"""The most levels of wrappers around a tensor. torch writes fewer; a cycle of wrappers does not contain a tensor."""

_STRANGERS: dict[str, tuple[str, list[tuple[int, ...]]]] = {
    "_rebuild_qtensor": ("quantised", [(2,)]),
    "_rebuild_sparse_tensor": ("sparse", [(1, 2), (1, 3)]),  # by coordinates, by rows or columns
    "_rebuild_sparse_csr_tensor": ("sparse", [(1, 3)]),
    "_rebuild_nested_tensor": ("nested", []),
    "_rebuild_meta_tensor_no_storage": ("meta", [(1,)]),
    "_rebuild_wrapper_subclass": ("a tensor subclass", [(2,)]),
    "_rebuild_device_tensor_from_numpy": ("on a device of its own", []),
    "_rebuild_device_tensor_from_cpu_tensor": ("on a device of its own", []),
}
"""The other functions with which torch rebuilds tensors: what to call the result, and where its sizes may be.

The sizes are given as paths of indices into the arguments.
"""

_OF_SUBCLASSES = ((2, 2),)
"""Where the sizes are among the arguments that rebuild a subclass; for a DTensor, those of the whole tensor."""

_VALUES = ("data", "real", "imag")
"""Attributes that are a tensor's values: a pickle that sets one of them replaces the values."""

_PLAIN_TYPES = {("torch", "Tensor"), ("torch.nn.parameter", "Parameter"), ("torch.nn.parameter", "Buffer")}


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage as a persistent id describes it: its key, element type, number of elements, and device tag.

    `partible` means that the id has a sixth item, for a part of the storage, as all ids in legacy files do.
    """

    key: str
    dtype: DType
    elements: int
    location: str
    partible: bool = False

    @property
    def nbytes(self) -> int:
        """Size of the storage's record."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as its rebuilding call describes it."""

    storage: StorageRef
    dtype: DType
    view: View


def tensor_ref(node: Node) -> TensorRef | None:
    """Return the dense tensor that a node describes; None for anything else (sparse, quantised, a subclass).

    Raises:
        DamagedError: the node is a rebuilding call whose arguments do not make a tensor.
    """
    call = _unwrap(node)
    if call is None or not isinstance(call.function, Global) or not isinstance(call.args, TupleNode):
        return None
    name, args = call.function.name, call.args.items
    if call.function.module != "torch._utils" or name not in (
        "_rebuild_tensor",
        "_rebuild_tensor_v2",
        "_rebuild_tensor_v3",
    ):
        return None
    _check_unchanged(call)
    if len(args) < 4 or not isinstance(args[0], Persistent):
        raise DamagedError(f"{HERE}: a tensor is rebuilt from no storage; the pickle is damaged")
    storage = storage_ref(args[0])
    dtype = storage.dtype
    if name == "_rebuild_tensor_v3":
        named = args[6] if len(args) > 6 else None
        if not isinstance(named, Global) or named.module != "torch":
            raise DamagedError(f"{HERE}: a tensor has no element type; the pickle is damaged")
        dtype = DTYPES.get(named.name) or DType(named.name, 1, "opaque")
    first, last = _window(args[0], storage)
    if first and dtype.itemsize != storage.dtype.itemsize:
        raise DamagedError(f"{HERE}: a tensor of one width lies in a part of a storage of another")
    view = View(first + _whole(args[1]), read_sizes(args[2]), read_sizes(args[3]))
    if len(view.shape) != len(view.stride):
        raise DamagedError(f"{HERE}: a tensor has {len(view.shape)} sizes and {len(view.stride)} strides")
    if view.elements >= 1 << 63:
        raise DamagedError(f"{HERE}: a tensor has more elements than can be counted; the pickle is damaged")
    if view.elements and view.stop * dtype.itemsize > last * storage.dtype.itemsize:
        raise DamagedError(f"{HERE}: a tensor reaches behind the end of its storage {show(storage.key)}")
    return TensorRef(storage, dtype, view)


@dataclass(frozen=True, slots=True)
class OpaqueTensor:
    """A tensor without plain elements in one storage; `kind` is the phrase for it in messages."""

    kind: str
    shape: tuple[int, ...]


def stranger(node: Node) -> OpaqueTensor | None:
    """Return the tensor that a node describes if torch has another form for it (sparse, quantised, ...), else None."""
    call = _unwrap(node)
    if call is None or not isinstance(call.function, Global) or not isinstance(call.args, TupleNode):
        return None
    module, name = call.function.module, call.function.name
    if (module, name) == ("torch._tensor", "_rebuild_from_type_v2"):
        kind = call.args.items[1] if len(call.args.items) > 1 else None
        what = f"the tensor subclass {kind.name}" if isinstance(kind, Global) else "a tensor subclass"
        return _with_shape(what, call.args, _OF_SUBCLASSES)
    if module != "torch._utils" or name not in _STRANGERS:
        return None
    return _with_shape(_STRANGERS[name][0], call.args, _STRANGERS[name][1])


def _with_shape(what: str, args: TupleNode, paths: Iterable[Sequence[int]]) -> OpaqueTensor:
    """Return an opaque tensor with the first shape found at one of the paths into the arguments of its call."""
    for path in paths:
        sizes: Node = args
        for index in path:
            sizes = sizes.items[index] if isinstance(sizes, TupleNode | ListNode) and len(sizes.items) > index else None
        with contextlib.suppress(DamagedError):  # the shape is only shown
            return OpaqueTensor(what, read_sizes(sizes))
    return OpaqueTensor(what, ())


def _wrapped(call: Call) -> Node | None:
    """Return the node of the data tensor in the call that makes a Parameter, None for any other call."""
    function = call.function
    if isinstance(function, Global) and (function.module, function.name) in _WRAPPERS:
        return call.args.items[0] if isinstance(call.args, TupleNode) and call.args.items else None
    return None


def _check_unchanged(call: Call, state: Node = None) -> None:
    """Check that a tensor keeps the values with which it is rebuilt; `state` holds the attributes that it gets.

    On loading, BUILD could give it another storage (`Tensor.__setstate__`, `set_`), and so could a single attribute.
    """
    parts = state.items if isinstance(state, TupleNode) else [state]
    keys = [entry.key for part in parts if isinstance(part, DictNode) for entry in part.entries]
    replaced = any(isinstance(key, str) and key in _VALUES for key in keys)
    if call.states or call.items or call.entries or replaced:
        raise DamagedError(f"{HERE}: a tensor gets other values after it was rebuilt, which no writer does")


def _unwrap(node: Node) -> Call | None:
    """Return the call that rebuilds the data of a Parameter, of a plain tensor with attributes, or of a tensor."""
    for _ in range(_WRAPPERS_DEEP):
        if not isinstance(node, Call):
            return None
        inner = _wrapped(node)
        if inner is None:
            return _from_type(node)
        _check_unchanged(node, _state_of(node, 3))
        node = inner
    return None


def _state_of(call: Call, index: int) -> Node:
    items = call.args.items if isinstance(call.args, TupleNode) else []
    return items[index] if len(items) > index else None


def _from_type(call: Call) -> Call:
    """Return the call that `_rebuild_from_type_v2(function, type, args, state)` makes for a plain tensor.

    Any other call is returned as it is.
    """
    function, args = call.function, call.args
    if not isinstance(function, Global) or (function.module, function.name) != (
        "torch._tensor",
        "_rebuild_from_type_v2",
    ):
        return call
    if isinstance(args, TupleNode) and len(args.items) == 4 and _is_plain(args.items[1]):
        _check_unchanged(call, args.items[3])
        return Call("reduce", args.items[0], args.items[2])
    return call


def _is_plain(node: Node) -> bool:
    return isinstance(node, Global) and (node.module, node.name) in _PLAIN_TYPES


def storage_ref(node: Persistent) -> StorageRef:
    """Return the storage that a persistent id names: ('storage', class, key, location, number of elements[, view]).

    Raises:
        DamagedError: the id does not name a storage.
        UnsupportedError: the storage has no memory.
    """
    parts = node.id.items if isinstance(node.id, TupleNode) else []
    if len(parts) < 5 or parts[0] != "storage" or not isinstance(parts[1], Global):
        raise DamagedError(f"{HERE}: a persistent id names no storage; the pickle is damaged")
    dtype = storage_dtype(parts[1].module, parts[1].name)
    key, location = parts[2], parts[3]
    if dtype is None or not isinstance(key, str) or not isinstance(location, str):
        raise DamagedError(f"{HERE}: a persistent id names no storage; the pickle is damaged")
    if location == "meta":
        raise UnsupportedError(
            f"{HERE}: storage {show(key)} is on the meta device, which has no memory, so that its tensors have no "
            "values; save the model after its weights were loaded"
        )
    return StorageRef(str(key), dtype, _whole(parts[4]), location, partible=len(parts) > 5)


def _window(node: Persistent, storage: StorageRef) -> tuple[int, int]:
    """Return the first and one past the last element that a persistent id names.

    Before torch 0.4, an id could name a part of a storage.
    """
    parts = node.id.items if isinstance(node.id, TupleNode) else []
    part = parts[5] if len(parts) > 5 else None
    if part is None:
        return 0, storage.elements
    if not isinstance(part, TupleNode) or len(part.items) != 3:
        raise DamagedError(f"{HERE}: a persistent id names no part of its storage; the pickle is damaged")
    first, length = _whole(part.items[1]), _whole(part.items[2])
    if first + length > storage.elements:
        raise DamagedError(f"{HERE}: a part reaches behind the end of its storage {show(storage.key)}")
    return first, first + length


def _whole(node: Node) -> int:
    if type(node) is not int or not 0 <= node < 1 << 62:
        raise DamagedError(f"{HERE}: a size, stride or offset is not a whole number in range; the pickle is damaged")
    return node


def read_sizes(node: Node) -> tuple[int, ...]:
    """Return the integers in a tuple, a list or a `torch.Size`.

    Raises:
        DamagedError: it is something else, or longer than torch admits.
    """
    if isinstance(node, Call) and isinstance(node.function, Global) and node.function.name == "Size":
        node = node.args.items[0] if isinstance(node.args, TupleNode) and node.args.items else node
    if not isinstance(node, TupleNode | ListNode):
        raise DamagedError(f"{HERE}: a tensor has no sizes; the pickle is damaged")
    if len(node.items) > _DIMENSIONS:  # before they are read: many tensors can share them
        raise DamagedError(f"{HERE}: a tensor has {len(node.items)} sizes or strides; torch has at most {_DIMENSIONS}")
    return tuple(_whole(item) for item in node.items)


def mask_node(key: str, beside: StorageRef, dtype: DType, shape: Sequence[int]) -> Call:
    """Return the call that rebuilds a new row-major tensor from storage `key`, as torch.save would write it.

    The device tag and the form of the persistent id are those of its neighbour's storage, `beside`.
    """
    view = View.of(shape)
    elements = view.elements
    hooks = Call("reduce", Global("collections", "OrderedDict"), TupleNode([]))
    geometry: list[Node] = [0, TupleNode(list(shape)), TupleNode(list(view.stride)), False, hooks]
    if dtype.name in STORAGE_OF:
        storage = _persistent(Global("torch", STORAGE_OF[dtype.name]), key, beside, elements)
        return Call("reduce", Global("torch._utils", "_rebuild_tensor_v2"), TupleNode([storage, *geometry]))
    # Newer types without a typed storage (uint16, the fp8 family) have an untyped one, and name their type separately.
    storage = _persistent(Global("torch.storage", "UntypedStorage"), key, beside, elements * dtype.itemsize)
    args = TupleNode([storage, *geometry, Global("torch", dtype.name)])
    return Call("reduce", Global("torch._utils", "_rebuild_tensor_v3"), args)


def _persistent(kind: Global, key: str, beside: StorageRef, elements: int) -> Persistent:
    parts: list[Node] = ["storage", kind, key, beside.location, elements]
    return Persistent(TupleNode([*parts, None] if beside.partible else parts))
