"""Files of torch's format from before 1.6, part by part."""

import io
import pickle
import struct
from typing import Any

import torch

__all__ = ["FOUR", "GOOD", "MAGIC_NUMBER", "Rebuilt", "StoredAs", "legacy_file", "pickled"]

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
FACTS = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def legacy_file(
    root: bytes, keys: Any, *storages: tuple[int, bytes], magic: int = MAGIC_NUMBER, version: int = 1001
) -> bytes:
    """Put a whole file together."""
    head = [pickle.dumps(each, 2) for each in (magic, version, FACTS)]
    data = b"".join(struct.pack("<q", count) + raw for count, raw in storages)
    return b"".join([*head, root, pickle.dumps(keys, 2), data])


class StoredAs:
    """A storage, by its key and its number of elements, or a part of one."""

    def __init__(self, key: str, elements: int, part: Any = None) -> None:
        self.id = ("storage", torch.FloatStorage, key, "cpu", elements, part)


def pickled(value: Any) -> bytes:
    """Pickle as torch does: a `StoredAs` is written as its persistent id."""
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream, 2)
    pickler.persistent_id = lambda each: each.id if isinstance(each, StoredAs) else None  # type: ignore[method-assign]
    pickler.dump(value)
    return stream.getvalue()


class Rebuilt:
    """A row-major tensor in such a storage."""

    def __init__(self, storage: StoredAs, offset: int, *shape: int) -> None:
        self.storage, self.offset, self.shape = storage, offset, shape

    def __reduce__(self) -> Any:
        stride = torch.empty(self.shape, device="meta").stride()
        return torch._utils._rebuild_tensor, (self.storage, self.offset, self.shape, stride)


GOOD = pickled({"w": Rebuilt(StoredAs("a", 4), 0, 2, 2)})
FOUR = struct.pack("<4f", 1, 2, 3, 4)
