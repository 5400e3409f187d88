"""The index of a sharded checkpoint: which file of the folder contains which tensor.

Format: `*.index.json` as transformers writes it (`save_pretrained`, `max_shard_size`): `weight_map` from tensor names
to file names, and `metadata.total_size`, the bytes of all tensors.
"""

import json
from collections.abc import Mapping
from typing import Any

from prunecli.errors import DamagedError, UnsafeError, show
from prunecli.formats.io.source import Source
from prunecli.formats.json_text import parse_object
from prunecli.lean import dataclass

__all__ = ["Index", "read_index", "render_index"]

_LARGEST = 64 << 20
"""The largest index, in bytes; that of a model of a trillion parameters has about 10 MB."""


@dataclass(frozen=True)
class Index:
    """An index: `name` is the name of its file, `raw` its bytes, `content` the whole JSON object."""

    name: str
    raw: bytes
    content: Mapping[str, Any]

    @property
    def weight_map(self) -> Mapping[str, str]:
        """The file name of the shard of each tensor, by tensor name."""
        found: Mapping[str, str] = self.content["weight_map"]
        return found


def read_index(source: Source, name: str) -> Index:
    """Read an index.

    Raises:
        DamagedError: it is not a JSON object with a `weight_map` from names to file names.
        UnsafeError: a shard's name leads out of the folder, or the index is larger than any model's.
    """
    if source.size > _LARGEST:
        raise UnsafeError(f"{source.label} has {source.size} bytes; no index is larger than {_LARGEST >> 20} MiB")
    raw = source.read(0, source.size)
    content = parse_object(raw, source.label)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise DamagedError(f"{source.label} has no weight_map from names to files; fetch it again")
    if not weight_map:
        raise DamagedError(f"{source.label} lists no tensor")
    for shard in dict.fromkeys(weight_map.values()):
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard or "\0" in shard:
            raise UnsafeError(f"{source.label} names the shard {show(shard)}, which is not a plain file name")
    return Index(name, raw, content)


def render_index(index: Index, weight_map: Mapping[str, str], total_size: int) -> bytes:
    """Return the bytes of an index with another map and size, all other entries kept, in the layout of transformers."""
    names = list(index.weight_map)
    if names == sorted(names):
        weight_map = dict(sorted(weight_map.items()))
    metadata = index.content.get("metadata")
    described = {**(metadata if isinstance(metadata, dict) else {}), "total_size": total_size}
    content = {**index.content, "metadata": described, "weight_map": weight_map}
    return json.dumps(content, indent=2).encode("ascii") + b"\n"
