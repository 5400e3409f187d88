"""Helpers of the formats tests: open, rewrite, compare."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from prunecli.errors import DamagedError, PrunecliError
from prunecli.formats.base import Addition, Checkpoint, Edit, ReadOptions, TensorInfo
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.dtypes import DType
from prunecli.formats.io.pieces import CHUNK, Content, Generated, Outcome
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.io.stream import run_pieces


class Filled:
    """A content that sets every byte of its piece to one value."""

    workspace = list[int]

    def __init__(self, value: int = 0, block: int = CHUNK) -> None:
        self.value, self.block = value, block

    def fill(self, data: NDArray[np.uint8], start: int, workspace: object) -> Outcome:
        data[:] = self.value
        return Outcome(True)


class Looked:
    """A content that changes nothing, and says so."""

    block = CHUNK
    workspace = list[int]

    def fill(self, data: NDArray[np.uint8], start: int, workspace: object) -> Outcome:
        return Outcome(False)


def added(after: str, name: str, dtype: DType, shape: tuple[int, ...], content: Content) -> Addition:
    """A new tensor of one piece."""
    return Addition(after, name, dtype, shape, [Generated(math.prod(shape) * dtype.itemsize, content)])


@contextmanager
def opened(path: Path, key: str | None = None) -> Iterator[Checkpoint]:
    with open_checkpoint(path, ReadOptions(key)) as checkpoint:
        yield checkpoint


def rewrite(
    source: Path,
    target: Path,
    edit: Edit | Callable[[Checkpoint], Edit],
    key: str | None = None,
    *,
    foreign: bool = False,
) -> bytes:
    """Write `source`, edited, to `target`; return its bytes."""
    with open_checkpoint(source, ReadOptions(key, foreign)) as checkpoint:
        pieces = list(checkpoint.pieces(edit if isinstance(edit, Edit) else edit(checkpoint)))
        descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            run_pieces(pieces, checkpoint.source, FileSink(descriptor), jobs=1)
        finally:
            os.close(descriptor)
    raw = target.read_bytes()
    assert len(raw) == sum(piece.length for piece in pieces)
    return raw


def raw_storage(tensor: torch.Tensor) -> bytes:
    storage = tensor.untyped_storage()
    return bytes(torch.empty(0, dtype=torch.uint8).set_(storage).tolist())


def geometry(tensor: torch.Tensor) -> tuple[object, ...]:
    name = str(tensor.dtype).removeprefix("torch.")
    return name, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())


def geometry_of(info: TensorInfo) -> tuple[object, ...]:
    return info.dtype.name, info.view.start, info.view.shape, info.view.stride


def flattened(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors below a loaded object, by dotted name."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    dot = f"{name}." if name else ""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    found: dict[str, torch.Tensor] = {}
    for key, below in items:
        found |= flattened(below, f"{dot}{key}")
    return found


def assert_same(mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    """Names in order, dtypes, geometry and the bytes of the storages are equal."""
    assert list(mine) == list(theirs)
    for name in mine:
        assert geometry(mine[name]) == geometry(theirs[name]), name
        assert raw_storage(mine[name]) == raw_storage(theirs[name]), name


def refused(path: Path, kind: type[PrunecliError], pattern: str, key: str | None = None) -> None:
    """Opening and copying `path` fails with one line that matches."""
    with pytest.raises(PrunecliError, match=pattern) as caught:
        rewrite(path, path.with_name("refused.out"), Edit(), key)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def refused_bytes(path: Path, data: bytes, kind: type[DamagedError], pattern: str) -> None:
    path.write_bytes(data)
    refused(path, kind, pattern)
