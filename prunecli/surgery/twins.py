"""Embeddings that a model ties, and a folder of shards stores twice: one matrix in two files, to be pruned as one.

Libraries tie the output embedding to the input embedding (`tie_word_embeddings` in `config.json`) only if both are
equal: two masks would part them. Other equal tensors are left apart: experts may be copies of each other on purpose.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from prunecli.errors import PrunecliError
from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.detect import open_location
from prunecli.formats.folders.folder import Folder
from prunecli.formats.pieces import CHUNK
from prunecli.formats.source import Bytes
from prunecli.surgery.parameters import Parameter

__all__ = ["Twins", "find_twins"]

Twins = Mapping[str, tuple[str, ...]]
"""For each parameter that is stored more than once, the names of its equals."""

_EMBEDDINGS = frozenset({
    "embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings", "shared", "embeddings", "embedding",
    "lm_head", "embed_out", "output", "output_layer", "decoder",
})  # fmt: skip
"""Modules that hold an input or an output embedding in the libraries' models."""

_CONFIG_LIMIT = 1 << 20
_HEAD = 4096
_MOST = 8
"""T5 and its like store one matrix four times; more equals are matrices that hold nothing yet."""


def find_twins(checkpoint: Layout, parameters: Mapping[str, Parameter]) -> Twins:
    """Return, for each embedding of a folder that is stored more than once, the names of its equals.

    Equal are a few of one shape and type, under names of embeddings, with the same bytes, unless the model's
    configuration says that they are not tied. Only such candidates are read, and no further than they begin alike.
    """
    if not isinstance(checkpoint, Folder):
        return {}
    alike: dict[object, list[Parameter]] = {}
    for each in filter(_is_embedding, parameters.values()):
        alike.setdefault((each.weight.component, each.weight.shape, each.weight.dtype), []).append(each)
    likely = [group for group in alike.values() if len({each.weight.storage.key for each in group}) > 1]
    tying = {prefix for prefix in {group[0].weight.component for group in likely} if _may_tie(checkpoint, prefix)}
    likely = [group for group in likely if group[0].weight.component in tying]
    found: dict[str, tuple[str, ...]] = {}
    for equals in (equals for group in likely for equals in _sorted_out(checkpoint.source, group)):
        for one in equals if len(equals) <= _MOST else ():
            others = [each.name for each in equals if each.weight.storage.key != one.weight.storage.key]
            if others:
                found[one.name] = tuple(others)
    return found


def _sorted_out(source: Bytes, group: Sequence[Parameter]) -> Iterator[list[Parameter]]:
    """Part parameters of one shape and type by their bytes: those that begin alike are compared, and no others."""
    by_head: dict[bytes, list[list[Parameter]]] = {}
    for each in group:
        start, stop = each.weight.span
        head = bytearray(min(_HEAD, stop - start))
        source.read_into(each.weight.storage.offset + start, memoryview(head))
        classes = by_head.setdefault(bytes(head), [])
        own = next((equals for equals in classes if _equal(source, equals[0].weight, each.weight)), None)
        if own is None:
            classes.append([each])
        else:
            own.append(each)
    for classes in by_head.values():
        yield from classes


def _is_embedding(parameter: Parameter) -> bool:
    modules = parameter.module.split(".")
    weight = parameter.weight
    return modules[-1] in _EMBEDDINGS and parameter.ordinary and len(weight.shape) == 2 and weight.view.row_major


def _may_tie(folder: Folder, component: str) -> bool:
    """Whether there is a configuration, of a component if that is not "", and it does not say that they are apart."""
    config = next((each for each in folder.others if each.name == f"{component}config.json"), None)
    if config is None or config.size > _CONFIG_LIMIT:
        return False
    try:
        with open_location(config.path) as source:
            content = json.loads(source.read(0, source.size))
    except (PrunecliError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and not _says_apart(content)


def _says_apart(config: Mapping[str, Any]) -> bool:
    below = [each for key, each in config.items() if key.endswith("_config") and isinstance(each, dict)]
    return any(each.get("tie_word_embeddings") is False for each in (config, *below))


def _equal(source: Bytes, one: TensorInfo, other: TensorInfo) -> bool:
    length = one.span[1] - one.span[0]
    blocks = np.empty((2, CHUNK), dtype=np.uint8)
    for at in range(0, length, CHUNK):
        count = min(CHUNK, length - at)
        for block, tensor in zip(blocks, (one, other), strict=True):
            source.read_into(tensor.storage.offset + tensor.span[0] + at, block[:count].data)
        if not np.array_equal(blocks[0, :count], blocks[1, :count]):
            return False
    return True
