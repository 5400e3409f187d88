"""Embeddings that a model ties but a checkpoint stores twice: one matrix under two names, to be pruned as one.

Libraries tie the output embedding to the input embedding only if both are equal; different masks would untie them.
Trainers store both, and so do programs that clone shared tensors for a safetensors file. These tensors are recognised
by their bytes and the model's configuration, not by their names. Other equal tensors are pruned separately: experts
may be copies of each other on purpose.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from prunecli.formats.base import Layout, TensorInfo
from prunecli.formats.io.pieces import CHUNK
from prunecli.formats.io.source import ByteSource
from prunecli.surgery.names.model_config import may_tie, read_config, vocabularies
from prunecli.surgery.names.parameters import Parameter

__all__ = ["StoredTwice", "find_stored_twice"]

StoredTwice = Mapping[str, tuple[str, ...]]
"""For each parameter that is stored more than once, the names of its equal copies."""

_HEAD = 4096
_MOST = 8
"""The most equal copies: T5 and similar models store one matrix four times. Larger groups are not filled yet."""


def find_stored_twice(checkpoint: Layout, parameters: Mapping[str, Parameter]) -> StoredTwice:
    """Return, for each embedding that is stored more than once, the names of its equal copies.

    Copies have one shape and type, as many rows as the configuration's vocabulary, and the same bytes; they are few,
    and the configuration does not say that they are untied. BERT also ties the biases of its output. Only tensors
    that meet the conditions on shape and type are read, and read in full only if their beginnings are equal.
    """
    found: dict[str, tuple[str, ...]] = {}
    for component, group in _by_component(parameters.values()).items():
        config = read_config(checkpoint, component)
        if config is None or not may_tie(config):
            continue
        likely = _alike(group, vocabularies(config))
        for equals in (equals for each in likely for equals in _sorted_out(checkpoint.source, each)):
            for one in equals if len(equals) <= _MOST else ():
                others = [each.name for each in equals if each.weight.storage.key != one.weight.storage.key]
                if others:
                    found[one.name] = tuple(others)
    return found


def _by_component(parameters: Iterable[Parameter]) -> dict[str, list[Parameter]]:
    """Return the parameters that may be embeddings or their biases, by component; most checkpoints have only one."""
    found: dict[str, list[Parameter]] = {}
    for each in parameters:
        weight = each.weight
        if each.matches_globs and len(weight.shape) in (1, 2) and weight.view.row_major:
            found.setdefault(weight.component, []).append(each)
    return found


def _alike(group: Sequence[Parameter], rows: frozenset[int]) -> list[list[Parameter]]:
    """Return parameters with as many rows as a vocabulary, grouped by shape and type, if in several storages."""
    alike: dict[object, list[Parameter]] = {}
    for each in group:
        if each.weight.shape[0] in rows:
            alike.setdefault((each.weight.shape, each.weight.dtype), []).append(each)
    return [group for group in alike.values() if len({each.weight.storage.key for each in group}) > 1]


def _sorted_out(source: ByteSource, group: Sequence[Parameter]) -> Iterator[list[Parameter]]:
    """Yield groups of parameters with equal bytes; only those with equal beginnings are compared in full."""
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


def _equal(source: ByteSource, one: TensorInfo, other: TensorInfo) -> bool:
    length = one.span[1] - one.span[0]
    blocks = np.empty((2, CHUNK), dtype=np.uint8)
    for at in range(0, length, CHUNK):
        count = min(CHUNK, length - at)
        for block, tensor in zip(blocks, (one, other), strict=True):
            source.read_into(tensor.storage.offset + tensor.span[0] + at, block[:count].data)
        if not np.array_equal(blocks[0, :count], blocks[1, :count]):
            return False
    return True
