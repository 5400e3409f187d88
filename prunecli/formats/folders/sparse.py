"""Shards with sparse tensors, as the dense shards and the index that they make."""

from collections.abc import Mapping
from dataclasses import replace

from prunecli.formats.folders.index_file import Index, render_index
from prunecli.formats.io.source import Source
from prunecli.formats.json_text import parse_object
from prunecli.formats.packed.bitmask_groups import find_groups
from prunecli.formats.packed.bitmask_source import DenseSource, dense_sources
from prunecli.formats.safetensors.read import SafetensorsFile, looks_like_safetensors, read_safetensors

__all__ = ["dense_shards"]


def dense_shards(index: Index, sources: Mapping[str, Source]) -> tuple[Index, dict[str, Source]]:
    """Return the index and the files of the dense tensors; members of a sparse one may be in different shards.

    Raises:
        PrunecliError: as `read_safetensors` and `dense_sources`.
    """
    groups = find_groups(index.weight_map)
    if groups is None or not all(looks_like_safetensors(each.read(0, min(each.size, 9))) for each in sources.values()):
        return index, dict(sources)
    files = {name: read_safetensors(each) for name, each in sources.items()}
    dense = dense_sources(files, groups, index.weight_map)
    size = sum(_size(each, files[name]) for name, each in dense.items())
    raw = render_index(index, groups.dense_map(index.weight_map), size)
    return replace(index, raw=raw, content=parse_object(raw, index.name)), dict(dense)


def _size(source: Source, found: SafetensorsFile) -> int:
    """Return the bytes of all tensors of a file."""
    if isinstance(source, DenseSource):
        return sum(run.size for run in source.runs)
    return sum(tensor.storage.nbytes for tensor in found.tensors.values())
