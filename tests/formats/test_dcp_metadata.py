"""`.metadata` as torch writes it, contradicted in every way, and made hostile: read, or refused in a line."""

import contextlib
import dataclasses
import functools
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties as Older
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter, SerializationFormat
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorProperties
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli.errors import DamagedError, PrunecliError, UnsafeError, UnsupportedError
from prunecli.formats.base import ReadOptions
from prunecli.formats.folders.dcp.folder import DcpFolder
from prunecli.formats.folders.dcp.metadata import Metadata, StoredBytes, StoredTensor, read_metadata
from prunecli.formats.io.source import open_source
from prunecli.formats.opening import open_any

STATE: dict[str, Any] = {
    "model": {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)},
    "layers": [torch.zeros(2), {"w": torch.ones(())}],
    "epoch": 3,
    "names": ["x"],
}


def save(path: Path, state: dict[str, Any] = STATE, planner: Any = None, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_distributed(state, storage_writer=FileSystemWriter(path, **options), planner=planner, no_dist=True)
    return path


def metadata_of(folder: Path, *, foreign: bool = False) -> Metadata:
    with open_source(folder / ".metadata") as source:
        return read_metadata(source, foreign=foreign)


def assert_agrees(folder: Path) -> None:
    """What is read is what torch unpickles."""
    theirs = pickle.loads((folder / ".metadata").read_bytes())
    mine = {entry.name: entry for entry in metadata_of(folder).entries}
    assert set(mine) == set(theirs.state_dict_metadata)
    for name, entry in mine.items():
        stored = theirs.state_dict_metadata[name]
        assert entry.path == (theirs.planner_data or {}).get(name, (name,))
        if isinstance(entry, StoredBytes):
            assert type(stored).__name__ == "BytesStorageMetadata"
            info = theirs.storage_data[MetadataIndex(name)]
            assert dataclasses.astuple(entry.item) == (info.relative_path, info.offset, info.length)
            continue
        assert str(stored.properties.dtype) == f"torch.{entry.dtype.name}"
        assert entry.shape == tuple(stored.size)
        assert [(each.offsets, each.sizes) for each in entry.chunks] == [
            (tuple(each.offsets), tuple(each.sizes)) for each in stored.chunks
        ]
        for each in entry.chunks:
            info = theirs.storage_data[MetadataIndex(name, each.offsets)]
            assert dataclasses.astuple(each.item) == (info.relative_path, info.offset, info.length)


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("options", [{}, {"thread_count": 3}, {"single_file_per_rank": False}], ids=str)
def test_metadata_say_what_torch_reads_in_them(tmp_path: Path, flat: bool, options: dict[str, Any]) -> None:
    folder = save(tmp_path / "in", planner=DefaultSavePlanner(flatten_state_dict=flat), **options)
    assert_agrees(folder)
    assert metadata_of(folder).raw == (folder / ".metadata").read_bytes()


def test_entries_come_in_the_order_of_the_state_dict(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", thread_count=2)
    data = pickle.loads((folder / ".metadata").read_bytes())
    data.state_dict_metadata = dict(reversed(data.state_dict_metadata.items()))  # as ranks may list them
    (folder / ".metadata").write_bytes(pickle.dumps(data))
    names = [entry.name for entry in metadata_of(folder).entries]
    assert names == ["model.a.weight", "model.b", "layers.0", "layers.1.w", "epoch", "names"]


def test_properties_may_be_those_of_older_torch(tmp_path: Path) -> None:
    folder = save(tmp_path / "in")
    data = pickle.loads((folder / ".metadata").read_bytes())
    _tensor(data).properties = Older(dtype=torch.float32)
    _tensor(data, "model.b").properties = Older(dtype=torch.bfloat16)
    (folder / ".metadata").write_bytes(pickle.dumps(data))
    assert_agrees(folder)


def test_properties_may_be_those_of_torch_2_15(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    five: Callable[[TensorProperties], tuple[Any, ...]] = TensorProperties.__getstate__
    monkeypatch.setattr(TensorProperties, "__getstate__", lambda each: (*five(each), (4, 1)))
    folder = save(tmp_path / "in")
    monkeypatch.undo()
    read = [entry for entry in metadata_of(folder).entries if isinstance(entry, StoredTensor)]
    assert {entry.name: entry.dtype.name for entry in read} == {
        "model.a.weight": "float32",
        "model.b": "bfloat16",
        "layers.0": "float32",
        "layers.1.w": "float32",
    }
    with open_any(folder) as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight", "b"]


def test_the_plans_that_megatron_core_keeps_are_no_foreign_objects(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_distributed(STATE, storage_writer=PlanKeeper(tmp_path / "in"), no_dist=True)
    plans = pickle.loads((tmp_path / "in" / ".metadata").read_bytes()).all_local_plans
    assert {item.type.name for item in plans[0].items} == {"TENSOR", "BYTE_IO"}
    (tmp_path / "in" / "common.pt").write_bytes(b"iteration, arguments")
    assert_agrees(tmp_path / "in")
    with open_any(tmp_path / "in") as checkpoint:
        assert list(checkpoint.tensors) == ["a.weight", "b"]
        assert isinstance(checkpoint, DcpFolder)
        assert checkpoint.other_weight_files == []


@pytest.mark.parametrize("named", [SavePlanner, functools.reduce], ids=["SavePlanner", "reduce"])
def test_what_else_the_planner_module_holds_is_foreign(tmp_path: Path, named: object) -> None:
    folder = save(tmp_path / "in")
    data = pickle.loads((folder / ".metadata").read_bytes())
    data.all_local_plans = [named]
    (folder / ".metadata").write_bytes(pickle.dumps(data))
    assert_refused(folder, UnsafeError, r"names what torch does not write there \((torch.distributed|_?functools)")


class PlanKeeper(FileSystemWriter):
    """Keeps the plans in the metadata, as Megatron-Core's writer does."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        self.plan = plan
        return super().prepare_local_plan(plan)

    def finish(self, metadata: Any, results: Any) -> None:
        metadata.all_local_plans = [self.plan]
        super().finish(metadata, results)


def test_every_element_type_of_torch_that_is_known_is_read(tmp_path: Path) -> None:
    types = [torch.float64, torch.float8_e4m3fn, torch.int16, torch.bool, torch.complex64, torch.uint32]
    folder = save(tmp_path / "in", {str(each): torch.zeros(3).to(each) for each in types})
    with open_any(folder) as checkpoint:
        assert [f"torch.{each.dtype.name}" for each in checkpoint.tensors.values()] == list(checkpoint.tensors)


Change = Callable[[Any], object]


def _tensor(data: Any, name: str = "model.a.weight") -> Any:
    return data.state_dict_metadata[name]


def _info(data: Any, name: str = "model.a.weight") -> Any:
    return data.storage_data[MetadataIndex(name, _tensor(data, name).chunks[0].offsets)]


def assert_refused(folder: Path, kind: type[PrunecliError], pattern: str, reading: ReadOptions = ReadOptions()) -> None:  # noqa: B008
    with pytest.raises(PrunecliError, match=pattern) as caught, open_any(folder, reading):
        pass
    assert caught.value.exit_code == kind.exit_code, caught.value
    assert isinstance(caught.value, kind)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("layout", [b"", b"K\x05", b"\x8b\x00\x10\x00\x00" + b"\x01" * 4096])
def test_a_layout_is_named_by_a_text(tmp_path: Path, layout: bytes) -> None:
    folder = save(tmp_path / "in", {"a": torch.ones(3)})
    data = pickle.loads((folder / ".metadata").read_bytes())
    raw = pickle.dumps(data, protocol=2)
    reported = b"X\x0d\x00\x00\x00torch.strided"
    start = raw.index(reported)
    stop = raw.index(b"\x85", start)  # the tuple of one
    raw = raw[:start] + (layout + b"\x85" if layout else b")") + raw[stop + 1 :]
    (folder / ".metadata").write_bytes(raw)
    assert_refused(folder, UnsupportedError, "a is laid out as no text; only dense")


def test_a_path_that_many_names_share_is_read_once(tmp_path: Path) -> None:
    folder = save(tmp_path / "in")
    data = pickle.loads((folder / ".metadata").read_bytes())
    data.planner_data = dict.fromkeys(data.planner_data, ("a",) * 200)
    (folder / ".metadata").write_bytes(pickle.dumps(data))
    assert len({id(entry.path) for entry in metadata_of(folder).entries}) == 1


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._trace),)


def test_code_in_an_object_of_the_state_dict_is_named_and_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    folder = save(tmp_path / "in", {"w": torch.ones(4, 4), "extra": Runs(trace)})
    assert_refused(folder, UnsafeError, "posix.mkdir.*--allow-foreign-objects")
    with open_any(folder, ReadOptions(foreign=True)) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
    assert not trace.exists()


def test_what_is_serialised_as_safetensors_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", {"w": torch.ones(4)}, serialization_format=SerializationFormat.SAFETENSORS)
    assert_refused(folder, UnsupportedError, "not a zip of torch.save")


@pytest.mark.parametrize("data", [b"", b"x", b"\x80\x04N.", b"\x80\x04}.", pickle.dumps(MetadataIndex("x"))])
def test_what_is_no_metadata_is_refused(tmp_path: Path, data: bytes) -> None:
    folder = save(tmp_path / "in")
    (folder / ".metadata").write_bytes(data)
    assert_refused(folder, DamagedError, ".")


def test_any_cut_of_metadata_is_refused_or_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "in")
    raw = (folder / ".metadata").read_bytes()
    for stop in range(0, len(raw), 37):
        (folder / ".metadata").write_bytes(raw[:stop])
        assert_refused(folder, DamagedError, ".")


def test_any_changed_byte_of_metadata_is_refused_or_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", {"a": torch.ones(3, 4), "b": [1]})
    raw = bytearray((folder / ".metadata").read_bytes())
    for place in range(0, len(raw), 3):
        old, raw[place] = raw[place], raw[place] ^ 0x11
        (folder / ".metadata").write_bytes(raw)
        with contextlib.suppress(PrunecliError), open_any(folder) as checkpoint:
            assert sum(each.elements for each in checkpoint.tensors.values()) == 12
        raw[place] = old


def test_stored_tensors_are_seen_where_torch_put_them(tmp_path: Path) -> None:
    folder = save(tmp_path / "in", thread_count=2)
    with open_any(folder) as checkpoint:
        for name, tensor in checkpoint.tensors.items():
            expected = STATE["model"][name]
            data = bytearray(tensor.storage.nbytes)
            checkpoint.source.read_into(tensor.storage.offset, memoryview(data))
            assert bytes(data) == expected.view(torch.uint8).numpy().tobytes()
    assert all(isinstance(entry, StoredTensor | StoredBytes) for entry in metadata_of(folder).entries)
