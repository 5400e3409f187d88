"""New safetensors files are the library's, byte for byte, and are made of pieces of any length."""

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from format_tools import Filled, opened
from hypothesis import given
from hypothesis import strategies as st

from prunecli.errors import PrunecliError, UnsupportedError, UsageError
from prunecli.formats.base import Addition, Edit
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.io.pieces import Generated, Literal, Piece
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.io.source import open_source
from prunecli.formats.io.stream import run_pieces
from prunecli.formats.safetensors import write
from prunecli.formats.safetensors.read import read_safetensors
from prunecli.formats.safetensors.write import CODES, NewTensor, safetensors_pieces


def written(tensors: Sequence[NewTensor], path: Path, metadata: Mapping[str, str] | None = None) -> bytes:
    """Write a file of new tensors, over a source without bytes."""
    empty = path.with_name("empty")
    empty.touch()
    with open_source(empty) as source, path.open("wb") as out:
        run_pieces(list(safetensors_pieces(tensors, metadata)), source, FileSink(out.fileno()), jobs=2)
    return path.read_bytes()


def literal(name: str, values: np.ndarray, cut: int | None = None) -> NewTensor:
    """A tensor of literal pieces, cut behind `cut` bytes."""
    raw = values.tobytes()
    pieces = [Literal(raw)] if cut is None else [Literal(raw[:cut]), Literal(b""), Literal(raw[cut:])]
    return NewTensor(name, DTYPES[values.dtype.name], values.shape, pieces)


_NUMPY = ["bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "int64", "float64"]
_VALUES = st.builds(
    lambda shape, dtype: np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([*_NUMPY, "uint64", "complex64"]),
)


@given(
    state=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), _VALUES, max_size=7),
    text=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    cut=st.none() | st.integers(0, 9),
)
def test_a_new_file_is_the_librarys_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, np.ndarray], text: str | None, cut: int | None
) -> None:
    metadata = None if text is None else {"k": text}
    state.pop("__metadata__", None)
    path = tmp_path_factory.getbasetemp() / "m.safetensors"
    raw = written([literal(name, values, cut) for name, values in state.items()], path, metadata)
    assert raw == safetensors.numpy.save(state, metadata)


def test_element_types_are_in_the_librarys_order(tmp_path: Path) -> None:
    known = {name: getattr(torch, name, None) for name in CODES.values()}
    state = {f"{n}{name}": torch.zeros(2).to(each) for n, (name, each) in enumerate(known.items()) if each}
    tensors = [
        NewTensor(name, DTYPES[str(each.dtype)[6:]], (2,), [Literal(bytes(each.nbytes))])
        for name, each in state.items()
    ]
    assert written(tensors, tmp_path / "m") == safetensors.torch.save(state)


def test_a_tensor_of_many_generated_runs_loads_in_the_library(tmp_path: Path) -> None:
    runs = [Generated(length, Filled(value)) for value, length in enumerate((5, 0, 1, 70_000, 3))]
    tensor = NewTensor("w", DTYPES["uint8"], (70_009,), runs)
    written([tensor, literal("empty", np.zeros((0, 3), np.float32))], tmp_path / "m", {"by": "test"})
    loaded = safetensors.numpy.load_file(tmp_path / "m")
    assert loaded["w"].tobytes() == b"\0" * 5 + b"\2" + b"\3" * 70_000 + b"\4" * 3
    assert loaded["empty"].shape == (0, 3)
    with safetensors.safe_open(tmp_path / "m", "numpy") as library:
        assert library.metadata() == {"by": "test"}


def test_an_added_tensor_may_be_of_many_runs_in_every_container(tmp_path: Path) -> None:
    state = {"w": torch.ones(7)}
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    torch.save(state, tmp_path / "m.pt")
    torch.save(state, tmp_path / "m.bin", _use_new_zipfile_serialization=False)
    runs: list[Piece] = [Generated(3, Filled(1)), Literal(b"\0\1"), Generated(2, Filled(0))]
    edit = Edit(additions=[Addition("w", "w_mask", DTYPES["bool"], (7,), runs)])
    for name in ("m.safetensors", "m.pt", "m.bin"):
        with opened(tmp_path / name) as checkpoint, (tmp_path / "out").open("wb") as out:
            run_pieces(list(checkpoint.pieces(edit)), checkpoint.source, FileSink(out.fileno()), jobs=2)
        load = safetensors.torch.load_file if name == "m.safetensors" else torch.load
        assert load(tmp_path / "out")["w_mask"].tolist() == [True] * 3 + [False, True, False, False]


def test_a_big_tensor_is_streamed(tmp_path: Path) -> None:
    size = 100 << 20
    tensor = NewTensor("w", DTYPES["uint8"], (size,), [Generated(size // 2, Filled(n)) for n in (1, 2)])
    tracemalloc.start()
    try:
        empty = tmp_path / "empty"
        empty.touch()
        with open_source(empty) as source, (tmp_path / "m").open("wb") as out:
            run_pieces(list(safetensors_pieces([tensor])), source, FileSink(out.fileno()), jobs=2)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    with open_source(tmp_path / "m") as source:
        found = read_safetensors(source).tensors["w"].storage
        assert source.read(found.offset + size // 2 - 1, 2) == b"\1\2"


def tensor(name: str = "w", dtype: str = "float32", shape: tuple[int, ...] = (2,), length: int = 8) -> NewTensor:
    """A tensor whose length may be wrong."""
    return NewTensor(name, DTYPES[dtype], shape, [Literal(bytes(length))])


@pytest.mark.parametrize(
    ("tensors", "kind", "message"),
    [
        ([tensor(), tensor(dtype="int64", length=16)], UsageError, "cannot contain two tensors named w"),
        ([tensor("__metadata__")], UsageError, "cannot contain two tensors named __metadata__"),
        ([tensor(length=7)], UsageError, "w has 7 bytes for 2 elements of float32"),
        ([tensor(shape=(), length=8)], UsageError, "w has 8 bytes for 1 elements of float32"),
        ([tensor("a\x1b", "complex128", length=32)], UnsupportedError, r"^a\\x1b is complex128, an element type"),
    ],
)
def test_what_cannot_be_written_is_refused(tensors: list[NewTensor], kind: type[PrunecliError], message: str) -> None:
    with pytest.raises(kind, match=message):
        list(safetensors_pieces(tensors))


def test_a_header_that_the_library_would_refuse_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    header = next(safetensors_pieces([tensor()]))
    assert isinstance(header, Literal)
    assert list(json.loads(header.data[8:])) == ["w"]
    monkeypatch.setattr(write, "HEADER_LIMIT", header.length - 8)
    assert list(safetensors_pieces([tensor()]))
    monkeypatch.setattr(write, "HEADER_LIMIT", header.length - 9)
    with pytest.raises(UnsupportedError, match="the header would have 56 bytes, and safetensors reads up to 55"):
        list(safetensors_pieces([tensor()]))
