"""Files made byte by byte: pickles of opcodes in torch's containers, safetensors headers, folders."""

import functools
import io
import json
import pickle
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.nodes import Call, DictNode, Entry, Global, Node, Persistent, TupleNode

__all__ = [
    "CONTAINERS",
    "FACTS",
    "KEYS",
    "MAGIC",
    "PLAIN_PICKLE",
    "STORAGE",
    "VERSION",
    "beside_a_weight",
    "call",
    "checkpoint",
    "distributed",
    "folder_of",
    "legacy",
    "mapping",
    "nested_zip",
    "remembered",
    "saved",
    "sizes",
    "storage",
    "tensor",
    "tensors",
    "tensors_entry",
    "text",
    "view",
    "zipped",
]

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
VERSION = b"\x80\x02M\xe9\x03."
FACTS = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
KEYS = pickle.dumps(["0"], 2)
STORAGE = struct.pack("<4f", 1.25, 2.5, 3.75, 4.125)
"""The four elements of the one weight that most of the files have."""


def text(value: str) -> bytes:
    """Opcodes of a text."""
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def remembered(index: int, value: bytes) -> bytes:
    """Opcodes that put a value into the memo and nowhere else."""
    return value + b"q" + bytes([index]) + b"0"


def call(name: str, arguments: bytes = b"") -> bytes:
    """Opcodes of a call by REDUCE; `name` has the module before the last dot."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + arguments + b"tR"


def tensor(part: bytes = b"") -> bytes:
    """Opcodes that rebuild the one tensor of four elements; `part` is N in legacy files, whose ids have six parts."""
    inner = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04" + part + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + inner + b"K\x00K\x04\x85K\x01\x85\x89" + hooks + b"tR"


def beside_a_weight(body: bytes, part: bytes = b"") -> bytes:
    """The pickle of {"w": tensor, "x": what the opcodes of `body` leave on the stack}."""
    return b"\x80\x02}(" + text("w") + tensor(part) + text("x") + body + b"u."


PLAIN_PICKLE = b"\x80\x02}" + text("w") + tensor() + b"s."


def nested_zip(records: Mapping[str, bytes], deflated: Collection[str] = ()) -> bytes:
    """A zip by Python, all its records in the folder m."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in records.items():
            method = zipfile.ZIP_DEFLATED if name in deflated else zipfile.ZIP_STORED
            archive.writestr(zipfile.ZipInfo(f"m/{name}"), data, method)
    return out.getvalue()


def zipped(
    pickled: bytes, more: Mapping[str, bytes] | None = None, deflated: Collection[str] = (), weight: bytes = STORAGE
) -> bytes:
    """A torch zip, of any pickle."""
    records = {"data.pkl": pickled, "byteorder": b"little", "data/0": weight, "version": b"3\n", **(more or {})}
    return nested_zip(records, deflated)


def legacy(
    pickled: bytes,
    *,
    version: bytes = VERSION,
    facts: bytes = FACTS,
    keys: bytes = KEYS,
    storages: bytes = struct.pack("<Q", 4) + STORAGE,
) -> bytes:
    """A file of torch's old format, of any pickles."""
    return MAGIC + version + facts + pickled + keys + storages


_CODE = b'class M(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n'


def _scripted(body: bytes) -> bytes:
    module = b"c__torch__\nM\n)\x81}(" + text("w") + tensor() + text("x") + body + b"ub."
    return zipped(b"\x80\x02" + module, {"code/__torch__.py": _CODE, "constants.pkl": b"\x80\x02)."})


CONTAINERS: dict[str, Callable[[bytes], bytes]] = {
    "zip": lambda body: zipped(beside_a_weight(body)),
    "legacy": lambda body: legacy(beside_a_weight(body, b"N")),
    "script": _scripted,
}
"""A file of each kind with the opcodes of one value beside its weight."""


@functools.cache
def saved() -> bytes:
    """What torch saves of one weight."""
    out = io.BytesIO()
    torch.save({"w": torch.frombuffer(bytearray(STORAGE), dtype=torch.float32)}, out)
    return out.getvalue()


def storage(key: Node = "0", elements: Node = 4, kind: Node = None) -> Persistent:
    """The node of a storage."""
    return Persistent(TupleNode(["storage", kind or Global("torch", "FloatStorage"), key, "cpu", elements]))


def sizes(*values: int) -> TupleNode:
    """The node of sizes or strides."""
    return TupleNode(list(values))


def view(of: Node, offset: Node = 0, shape: Node = None, stride: Node = None, name: str = "_rebuild_tensor_v2") -> Call:
    """The node of a tensor: 2 x 2 if nothing else is said."""
    shape, stride = sizes(2, 2) if shape is None else shape, sizes(2, 1) if stride is None else stride
    hooks = Call("reduce", Global("collections", "OrderedDict"), TupleNode([]))
    return Call("reduce", Global("torch._utils", name), TupleNode([of, offset, shape, stride, False, hooks]))


def mapping(**values: Node) -> DictNode:
    """The node of a dict."""
    return DictNode([Entry(key, value) for key, value in values.items()])


def checkpoint(root: Node, **storages: bytes) -> bytes:
    """A torch zip with any object graph; storages are data/0 and so on, named _0 here."""
    records = {f"data/{key[1:]}": data for key, data in (storages or {"_0": STORAGE}).items()}
    return nested_zip({"data.pkl": dump(root, 2), "byteorder": b"little", **records, "version": b"3\n"})


def tensors_entry(**changes: Any) -> dict[str, Any]:
    """What a safetensors header says of a tensor of two elements."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def tensors(header: object, data: bytes = b"", pad: int = 0) -> bytes:
    """A safetensors file."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    raw += b" " * pad
    return len(raw).to_bytes(8, "little") + raw + data


def folder_of(folder: Path, index: object = None, **shards: bytes) -> Path:
    """A folder of safetensors shards: one and two, with a tensor each; `index` replaces the index, `shards` a shard."""
    folder.mkdir()
    entry = tensors_entry()
    parts = {"one": tensors({"a.weight": entry}, STORAGE[:8]), "two": tensors({"b.weight": entry}, STORAGE[8:])}
    for name, data in {**parts, **shards}.items():
        (folder / f"{name}.safetensors").write_bytes(data)
    weight_map = {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}
    content = {"metadata": {"total_size": 16}, "weight_map": weight_map} if index is None else index
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / "model.safetensors.index.json").write_bytes(raw)
    (folder / "config.json").write_bytes(b"{}")
    return folder


STATE: dict[str, Any] = {
    "model": {"a.weight": torch.arange(1.0, 13).reshape(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)},
    "layers": [torch.ones(2), {"w": torch.ones(())}],
    "epoch": 3,
}


@functools.cache
def _distributed() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_distributed(STATE, storage_writer=FileSystemWriter(folder), no_dist=True)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def distributed(folder: Path, change: Callable[[Any], object] | None = None) -> Path:
    """A folder of torch.distributed.checkpoint, whose metadata `change` may change."""
    folder.mkdir()
    for name, data in _distributed().items():
        (folder / name).write_bytes(data)
    if change is not None:
        metadata = pickle.loads((folder / ".metadata").read_bytes())
        change(metadata)
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder
