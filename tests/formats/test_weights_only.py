"""What torch's weights-only reader refuses to do in a pickle is refused here, too; torch itself is asked each time."""

import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from format_tools import opened, refused

from prunecli.errors import DamagedError, PrunecliError, UnsafeError, UnsupportedError
from prunecli.formats.base import ReadOptions
from prunecli.formats.detect import open_checkpoint

HOOKS = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def storage(key: str = "0", location: str = "cpu") -> bytes:
    return b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text(location) + b"K\x04tQ"


def tensor(key: str = "0", location: str = "cpu") -> bytes:
    arguments = b"(" + storage(key, location) + b"K\x00K\x04\x85K\x01\x85\x89" + HOOKS + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def checkpoint(path: Path, *values: bytes) -> Path:
    """A torch zip of a dict: the tensor `w`, and each of the values under a name of its own."""
    entries = b"".join(text(f"v{index}") + value for index, value in enumerate(values))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}(" + text("w") + tensor() + entries + b"u.")
        archive.writestr("m/version", b"3\n")
        archive.writestr("m/data/0", np.arange(1, 5, dtype=np.float32).tobytes())
        archive.writestr("m/data/1", np.arange(5, 9, dtype=np.float32).tobytes())
    return path


STATE = b"(" + storage("1") + b"K\x00K\x04\x85K\x01\x85t"
ATTRIBUTES = b"}" + text("data") + tensor("1") + b"s"
PARAMETER = b"ctorch._utils\n_rebuild_parameter_with_state\n("
REBUILT = b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88" + HOOKS + b"tR"
PLAIN = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n("

UNSAFE = {
    "a key of a set": b"\x8fK\x01K\x02s",
    "a key of a size": b"ctorch\nSize\nK\x01\x85\x85RK\x00K\x02s",
    "keys of a size": b"ctorch\nSize\nK\x01\x85\x85R(K\x00K\x02u",
    "an item of an ordered dict": b"ccollections\nOrderedDict\n)RK\x01a",
    "items of a bytearray": b"c__builtin__\nbytearray\n)R(K\x01e",
    "a call of what a call made": b"ctorch\nSize\n)R)R",
    "an object by its stack": b"(ccollections\nOrderedDict\no",
    "an object by its name": b"(icollections\nOrderedDict\n",
    "an object with keywords": b"ccollections\nOrderedDict\n)}\x92",
    "a key of a tensor": tensor() + b"K\x00K\x00s",
    "a class by a persistent id": b"(" + text("module") + b"ccollections\nOrderedDict\n" + text("") + text("") + b"tQ",
}
DAMAGED = {
    "a key of a set": b"\x8fK\x01K\x02s",
}


@pytest.mark.parametrize("case", UNSAFE)
def test_operations_that_weights_only_loading_refuses(tmp_path: Path, case: str) -> None:
    path = checkpoint(tmp_path / "m.pt", UNSAFE[case])
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        torch.load(path, weights_only=True)
    with pytest.raises(PrunecliError) as caught, open_checkpoint(path):
        pass
    kind, says = (DamagedError, "is not a dict") if case in DAMAGED else (UnsafeError, "weights-only loading refuses")
    assert type(caught.value) is kind
    assert says in str(caught.value)


REPLACED = {
    "a state for a tensor": tensor() + STATE + b"b",
    "a state for a parameter": REBUILT + STATE + b"b",
    "an attribute that is the values": PARAMETER + tensor() + b"\x88" + HOOKS + ATTRIBUTES + b"tR",
    "a slot that is the values": PARAMETER + tensor() + b"\x88" + HOOKS + b"N" + ATTRIBUTES + b"\x86tR",
    "values of a plain tensor": PLAIN + storage() + b"K\x00K\x04\x85K\x01\x85\x89" + HOOKS + b"t" + ATTRIBUTES + b"tR",
}


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("case", REPLACED)
def test_values_that_loading_would_replace_are_damage(tmp_path: Path, case: str, *, foreign: bool) -> None:
    path = checkpoint(tmp_path / "m.pt", REPLACED[case])
    pattern = "a tensor gets other values after it was rebuilt"
    with pytest.raises(DamagedError, match=pattern), open_checkpoint(path, ReadOptions(foreign=foreign)):
        pass


def _saved(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def test_what_weights_only_loading_does_is_read(tmp_path: Path) -> None:
    value: dict[str, Any] = {
        "o": OrderedDict(a=1),
        "c": Counter("aab"),
        "s": torch.Size([2]),
        "w": torch.ones(3),
        "n": {1, 2},
    }
    value["o"].extra = [1]
    value["p"] = torch.nn.Parameter(torch.ones(2))
    value["p"].note = "x"
    path = _saved(value, tmp_path / "m.pt")
    assert torch.load(path, weights_only=True)["o"] == value["o"]
    with opened(path) as checkpoint:
        assert list(checkpoint.tensors) == ["w", "p"]


@pytest.mark.parametrize("how", [b"R", b"\x81"], ids=["called", "made"])
def test_a_parameter_by_its_class_is_its_tensor(tmp_path: Path, how: bytes) -> None:
    path = checkpoint(tmp_path / "m.pt", b"ctorch.nn.parameter\nParameter\n" + tensor("1") + b"\x85" + how)
    with opened(path) as opened_checkpoint:
        info = opened_checkpoint.tensors["v0"]
        assert (info.storage.key, info.shape) == ("1", (4,))


def test_numpy_arrays_are_named_as_such(tmp_path: Path) -> None:
    both = _saved({"w": torch.ones(2), "stats": np.ones(3)}, tmp_path / "both.pt")
    refused(both, UnsafeError, r"holds numpy arrays that weights-only loading refuses \(numpy\..*_reconstruct, numpy")
    mixed = _saved({"w": np.ones(3), "l": torch.nn.Linear(1, 1)}, tmp_path / "mixed.pt")
    refused(mixed, UnsafeError, r"holds numpy arrays and objects that weights-only loading refuses")
    number = _saved({"w": torch.ones(2), "best": np.float64(1)}, tmp_path / "number.pt")
    refused(number, UnsafeError, r"holds objects that weights-only loading refuses \(numpy")
    arrays = _saved({"w": np.ones(3)}, tmp_path / "arrays.pt")
    with (
        pytest.raises(UnsupportedError, match="holds no tensors; its weights are numpy arrays; save them as tensors"),
        open_checkpoint(arrays, ReadOptions(foreign=True)),
    ):
        pass


def test_a_storage_on_the_meta_device_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.pt", tensor("1", "meta"))
    refused(path, UnsupportedError, "storage 1 is on the meta device, which has no memory, so that its tensors have no")


@pytest.mark.parametrize(
    ("record", "content", "torch_reads"),
    [
        ("version", b"11\n", False),
        ("version", b"0\n", False),
        ("version", b"", False),
        ("version", b"x", False),
        ("version", b"-3\n", False),
        ("version", b"3.0\n", True),
        (".data/version", b"11\n", False),
        ("byteorder", b"middle", False),
        ("byteorder", b"", False),
        ("byteorder", b"Little", False),
        (".storage_alignment", b"", False),
        (".storage_alignment", b"x", False),
        (".storage_alignment", b"0", True),
        (".storage_alignment", b"-64", True),
        (".storage_alignment", b"99999", True),
        (".storage_alignment", b"6" * 100, True),
        ("byteorder", b"little" * 20, False),
    ],
)
def test_a_record_that_states_what_torch_does_not_write(
    tmp_path: Path, record: str, content: bytes, *, torch_reads: bool
) -> None:
    whole = io.BytesIO()
    torch.save({"w": torch.ones(2)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "m.pt", "w") as new:
        for name in old.namelist():
            if not name.endswith(("/version", f"/{record}")) or (name.endswith("/version") and record != "version"):
                new.writestr(name, old.read(name))
        new.writestr(f"archive/{record}", content)
    refused(tmp_path / "m.pt", UnsupportedError, f"its record {record} says '.*', where torch writes ")
    if not torch_reads:
        with pytest.raises((RuntimeError, ValueError)):
            torch.load(tmp_path / "m.pt", weights_only=True)


@pytest.mark.parametrize("content", [b"1\n", b"10\n", b"3"])
def test_versions_that_torch_reads(tmp_path: Path, content: bytes) -> None:
    whole = io.BytesIO()
    torch.save({"w": torch.ones(2)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "m.pt", "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name == "archive/version" else old.read(name))
    assert torch.load(tmp_path / "m.pt", weights_only=True)["w"].tolist() == [1, 1]
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
