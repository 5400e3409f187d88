"""The `.metadata` of a torch.distributed.checkpoint folder: which tensors there are, and where their chunks lie.

Format: a pickle of `torch.distributed.checkpoint.metadata.Metadata` (torch 2.13, `metadata.py`, `filesystem.py`). torch
unpickles it without any guard; here it is read as a graph, in which only the classes that torch writes may be named.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError, show
from prunecli.formats.dtypes import DTYPES, DType
from prunecli.formats.folders.dcp.boxes import tile
from prunecli.formats.io.source import Source, in_source
from prunecli.formats.pickles.graph import load
from prunecli.formats.pickles.nodes import Call, DictNode, Global, ListNode, Node, PickleGraph, TupleNode
from prunecli.formats.torch.tensors import read_sizes
from prunecli.lean import dataclass
from prunecli.terms import ALLOW_FOREIGN, HERE

__all__ = ["Chunk", "Item", "KeyPath", "Metadata", "StoredBytes", "StoredTensor", "read_metadata"]

_LARGEST = 256 << 20
"""The largest `.metadata`, in bytes; a chunk takes about 300, so this is enough for a million chunks."""

_DEEP = 256
_FIELDS = 64
"""The most fields of an object; torch's classes there have only a few, but very many objects can share one state."""

_SHOWN = 3
_CHECKPOINT = "torch.distributed.checkpoint"
_OLDER = "torch.distributed._shard.sharded_tensor.metadata"
"""The module of TensorProperties before torch 2.3; its state was the same."""

# Megatron-Core writes the planner's classes, too: for the next save it keeps all ranks' plans (`all_local_plans`).
# Like the others they are dataclasses and enumerations of torch, and creating an instance runs no other code.
_CLASSES = frozenset(
    {
        *(
            (f"{_CHECKPOINT}.metadata", name)
            for name in (
                "BytesStorageMetadata",
                "ChunkStorageMetadata",
                "Metadata",
                "MetadataIndex",
                "StorageMeta",
                "TensorProperties",
                "TensorStorageMetadata",
                "_MEM_FORMAT_ENCODING",
            )
        ),
        *(
            (f"{_CHECKPOINT}.planner", name)
            for name in ("BytesIOWriteData", "SavePlan", "TensorWriteData", "WriteItem", "WriteItemType")
        ),
        (f"{_CHECKPOINT}.filesystem", "_StorageInfo"),
        *((_OLDER, name) for name in ("MEM_FORMAT_ENCODING", "TensorProperties")),
        ("torch", "Size"),
        ("torch.serialization", "_get_layout"),
        ("collections", "OrderedDict"),
        *(
            (module, name)
            for module in ("pathlib", "pathlib._local")
            for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
        ),
    }
)
KeyPath = tuple[str | int, ...]
"""The path of an object in the state dict: the keys of dicts, and indices in lists."""

_Where = tuple[str, tuple[int, ...] | None]
"""A name and, for tensors, the offsets of a chunk."""

_QUANTISED = frozenset({"qint8", "quint8", "qint32", "quint4x2", "quint2x4"})


@dataclass(frozen=True, slots=True)
class Item:
    """A run of bytes in one of the folder's files, written by one torch.save."""

    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A box of a tensor, and where it is stored."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    item: Item


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in chunks that cover it exactly; an empty tensor may have no chunks."""

    name: str
    path: KeyPath
    dtype: DType
    shape: tuple[int, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """Any other object of the state dict, in a pickle of its own."""

    name: str
    path: KeyPath
    item: Item


@dataclass(frozen=True)
class Metadata:
    """A `.metadata` file: `raw` are its bytes, `entries` the tensors and objects that it lists, in its order."""

    raw: bytes
    entries: Sequence[StoredTensor | StoredBytes]


@in_source
def read_metadata(source: Source, *, foreign: bool = False) -> Metadata:
    """Read a `.metadata`; with `foreign`, it may name classes that torch does not write there.

    Raises:
        UnsafeError: unpickling it would import anything other than a few classes of torch, a file's name leads out of
            the folder, or it is larger than any checkpoint's.
        DamagedError: it contradicts itself.
        UnsupportedError: tensors are stored in a way that prunecli cannot edit.
    """
    if source.size > _LARGEST:
        raise UnsafeError(f"{source.label} has {source.size} bytes; prunecli reads up to {_LARGEST >> 20} MiB")
    raw = source.read(0, source.size)
    graph = load(raw, where=source.label)
    if not foreign:
        _refuse_foreign(graph)
    if graph.lost is not None:
        raise UnsupportedError(f"{graph.lost}, which no metadata of torch does")
    return Metadata(raw, tuple(_MetadataReader().entries(graph.root)))


def _refuse_foreign(graph: PickleGraph) -> None:
    named = {(each.module, each.name): None for each in graph.globals}
    others = [each for each in named if each not in _CLASSES and not _is_dtype(*each)]
    if others:
        shown = ", ".join(show(".".join(each), 60) for each in others[:_SHOWN])
        shown += ", ..." if len(others) > _SHOWN else ""
        raise UnsafeError(
            f"{HERE} names what torch does not write there ({shown}), and would import it unguarded; "
            f"{ALLOW_FOREIGN} reads on, and runs none of it"
        )


def _is_dtype(module: str, name: str) -> bool:
    return module == "torch" and (name in DTYPES or name in _QUANTISED)


class _MetadataReader:
    """A reader that turns the graph's nodes into values."""

    def __init__(self) -> None:
        self._lists: set[int] = set()

    def entries(self, root: Node) -> Iterator[StoredTensor | StoredBytes]:
        state = self._fields(root, f"{_CHECKPOINT}.metadata", "Metadata")
        stored = self._mapping(state.get("state_dict_metadata"))
        known = self._paths(state.get("planner_data"))
        items = self._items(state.get("storage_data"))
        # Ranks list what each of them wrote; the planner lists everything in the order of the state dict.
        for name in [*(name for name in known if name in stored), *(name for name in stored if name not in known)]:
            node = stored[name]
            kind = node.function.name if isinstance(node, Call) and isinstance(node.function, Global) else ""
            if kind == "TensorStorageMetadata":
                yield self._tensor(name, known.get(name, (name,)), node, items)
            elif kind == "BytesStorageMetadata":
                yield StoredBytes(name, known.get(name, (name,)), self._item(items, (name, None)))
            else:
                raise self._damaged(f"{show(name)} is neither a tensor nor an object")

    def _tensor(self, name: str, path: KeyPath, node: Node, items: Mapping[_Where, Item]) -> StoredTensor:
        state = self._fields(node, f"{_CHECKPOINT}.metadata", "TensorStorageMetadata")
        dtype = self._dtype(name, state.get("properties"))
        shape = read_sizes(state.get("size"))
        listed = state.get("chunks")
        if not isinstance(listed, ListNode) or id(listed) in self._lists:
            raise self._damaged(f"{show(name)} has no list of chunks of its own")
        if len(set(map(id, listed.items))) != len(listed.items):  # before they are read: one may be listed very often
            raise self._damaged(f"{show(name)} lists a chunk twice")
        self._lists.add(id(listed))
        boxes = []
        for each in listed.items:
            chunk = self._fields(each, f"{_CHECKPOINT}.metadata", "ChunkStorageMetadata")
            offsets, sizes = (read_sizes(chunk.get(key)) for key in ("offsets", "sizes"))
            if len(offsets) != len(shape) or len(sizes) != len(shape):
                raise self._damaged(f"a chunk of {show(name)} has not as many dimensions as the tensor")
            if 0 not in sizes or (name, offsets) in items:  # torch stores at most one shard without elements
                boxes.append((offsets, sizes))
        if not tile(shape, [box for box in boxes if 0 not in box[1]]):
            raise self._damaged(f"the chunks of {show(name)} overlap, or leave gaps")
        filled = [box for box in boxes if 0 not in box[1]] or boxes[:1]
        chunks = [Chunk(*box, self._item(items, (name, box[0]))) for box in filled]
        return StoredTensor(name, path, dtype, shape, tuple(chunks))

    def _dtype(self, name: str, node: Node) -> DType:
        """Read TensorProperties: its state is the tuple (dtype, layout, requires_grad, memory format, pinned, ..)."""
        state = self._state(node, (f"{_CHECKPOINT}.metadata", _OLDER), "TensorProperties")
        if not isinstance(state, TupleNode) or len(state.items) < 2 or not isinstance(state.items[0], Global):
            raise self._damaged(f"{show(name)} has no element type")
        dtype, layout = state.items[0], state.items[1]
        given = layout.args.items if isinstance(layout, Call) and isinstance(layout.args, TupleNode) else []
        kind = given[0] if given else None
        if kind != "torch.strided":
            raise UnsupportedError(f"{HERE}: {show(name)} is laid out as {_text(kind)}; only dense is read")
        if dtype.module != "torch" or dtype.name not in DTYPES:
            raise UnsupportedError(f"{HERE}: {show(name)} is {show(dtype.name, 40)}, which is not supported")
        return DTYPES[dtype.name]

    def _items(self, node: Node) -> dict[_Where, Item]:
        """Read storage_data: the place of each stored object, by name and, for tensors, the offsets of the chunk."""
        if not isinstance(node, DictNode):
            raise self._damaged("it says of nothing where it is stored")
        found: dict[_Where, Item] = {}
        for entry in node.entries:
            index = self._fields(entry.key, f"{_CHECKPOINT}.metadata", "MetadataIndex")
            name, offset = index.get("fqn"), index.get("offset")
            if not isinstance(name, str):
                raise self._damaged("something stored has no name")
            where = (name, None if offset is None else read_sizes(offset))
            if where in found:
                raise self._damaged(f"{show(name)} is stored twice")
            found[where] = self._stored(name, entry.value)
        return found

    def _stored(self, name: str, node: Node) -> Item:
        info = self._fields(node, f"{_CHECKPOINT}.filesystem", "_StorageInfo")
        file, offset, length = (info.get(key) for key in ("relative_path", "offset", "length"))
        transforms = info.get("transform_descriptors")
        if isinstance(transforms, ListNode | TupleNode) and transforms.items:
            raise UnsupportedError(
                f"{HERE}: {show(name)} is stored through {_text(transforms.items[0])}; save it without extensions"
            )
        if not (isinstance(file, str) and _is_place(offset) and _is_place(length)):
            raise self._damaged(f"the place of {show(name)} is none")
        if file.startswith("/") or "\0" in file or any(part in ("", ".", "..") for part in file.split("/")):
            raise UnsafeError(f"{HERE} names the file {show(file)}, which is outside the folder")
        return Item(file, offset, length)

    def _item(self, items: Mapping[_Where, Item], where: _Where) -> Item:
        if where not in items:
            raise self._damaged(f"it does not say where {show(where[0])} is stored")
        return items[where]

    def _paths(self, node: Node) -> dict[str, KeyPath]:
        """Read planner_data: the paths of names that the planner flattened. For other names, the name is the path."""
        known = self._mapping(node) if isinstance(node, DictNode) else {}
        read: dict[int, KeyPath] = {}  # very many names can share one
        for name, path in known.items():
            if id(path) not in read:
                read[id(path)] = self._path(name, path)
        return {name: read[id(path)] for name, path in known.items()}

    def _path(self, name: str, node: Node) -> KeyPath:
        items = node.items if isinstance(node, TupleNode | ListNode) else []
        path = tuple(item for item in items[:_DEEP] if isinstance(item, str) or _is_place(item))
        if not path or len(path) != len(items):
            raise self._damaged(f"the path of {show(name)} is none")
        return path

    def _mapping(self, node: Node) -> dict[str, Node]:
        if not isinstance(node, DictNode):
            raise self._damaged("a mapping is missing")
        found: dict[str, Node] = {}
        for entry in node.entries:
            if not isinstance(entry.key, str):
                raise self._damaged("a name is missing or not a string")
            if entry.key in found:
                raise self._damaged(f"{show(entry.key)} is there twice")
            found[entry.key] = entry.value
        return found

    def _fields(self, node: Node, module: str, name: str) -> dict[str, Node]:
        state = self._state(node, (module,), name)
        if isinstance(state, DictNode) and len(state.entries) > _FIELDS:
            raise self._damaged(f"a {name} has {len(state.entries)} fields")
        return self._mapping(state)

    def _state(self, node: Node, modules: Sequence[str], name: str) -> Node:
        """Return the state from which an object of the class `name` is built."""
        function = node.function if isinstance(node, Call) else None
        if not isinstance(node, Call) or not isinstance(function, Global) or len(node.states) > 1:
            raise self._damaged(f"where a {name} should be, there is nothing of the kind")
        if function.module not in modules or function.name != name:
            raise self._damaged(f"where a {name} should be, there is {show(function.name, 60)}")
        return node.states[0] if node.states else DictNode()

    def _damaged(self, what: str) -> DamagedError:
        return DamagedError(f"{HERE} is damaged: {what}; copy the folder again")


def _is_place(node: Node) -> TypeGuard[int]:
    """Whether a node is a possible number of bytes or items in a file; Python refuses to print much larger ones."""
    return type(node) is int and 0 <= node < 1 << 63


def _text(node: Node) -> str:
    return show(node, 40) if isinstance(node, str) else "no text"
