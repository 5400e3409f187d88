"""The list of `params` as JSON, `prunecli.params/1`: written tensor by tensor."""

import json
from collections.abc import Iterator, Sequence
from typing import Literal

from prunecli import __version__
from prunecli.core.records import Count, as_json
from prunecli.formats.opening import AnyCheckpoint
from prunecli.lean import dataclass
from prunecli.surgery.names.inventory import InventoryEntry
from prunecli.surgery.report.model import CheckpointRef
from prunecli.surgery.roles.table import Role

__all__ = ["InventoryDocument", "TensorRecord", "Writer", "inventory_json"]


@dataclass(frozen=True, slots=True)
class Writer:
    """The program that wrote the list."""

    name: Literal["prunecli"]
    version: str


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One tensor, by its headers; its values were not read."""

    name: str
    """As in the file, without the path of the state dict."""
    parameter: str
    """The name for -p of the parameter that it is, or is a part of; its own name if it is neither."""
    shape: tuple[Count, ...]
    dtype: str
    elements: Count
    bytes: Count
    """Bytes of its values, stored densely."""
    role: Role
    state: str
    """`dense`, `masked` or `not prunable` for a parameter; the role of any other tensor."""
    stored: str = ""
    """How a packed file stores it: `dense`, or its kept values and a `drawn mask` or `stored mask`."""


@dataclass(frozen=True, slots=True)
class InventoryDocument:
    """The parameters of a checkpoint, or with --all its tensors."""

    schema: Literal["prunecli.params/1"]
    tool: Writer
    checkpoint: CheckpointRef
    state_dict: str
    """The path of the state dict in the file; empty if it lies at the top."""
    tensors: tuple[TensorRecord, ...]


def inventory_json(checkpoint: AnyCheckpoint, entries: Sequence[InventoryEntry]) -> Iterator[str]:
    """Yield the text of the JSON in parts. It is ASCII only, so no name in it can affect a terminal."""
    source = checkpoint.source
    place = CheckpointRef(source.name, checkpoint.format, source.size)
    document = InventoryDocument("prunecli.params/1", Writer("prunecli", __version__), place, checkpoint.wrapper, ())
    head, _, tail = json.dumps(as_json(document), indent=2).rpartition("]")
    yield head
    for number, each in enumerate(entries):
        yield f"{',' if number else ''}\n    {json.dumps(as_json(_record(each)))}"
    yield ("\n  " if entries else "") + f"]{tail}\n"


def _record(each: InventoryEntry) -> TensorRecord:
    tensor = each.tensor
    size = tensor.elements * tensor.dtype.itemsize
    shape, dtype = tensor.shape, tensor.dtype.name
    what = (each.role, each.state, each.stored)
    return TensorRecord(each.name, each.parameter, shape, dtype, tensor.elements, size, *what)
