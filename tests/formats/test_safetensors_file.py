"""safetensors files against the library, byte for byte where nothing changes, and every damage refused in one line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from checkpoint_zoo import DTYPES as ALL_DTYPES
from format_tools import Filled, Looked, added, assert_same, opened, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunecli.errors import DamagedError, UsageError
from prunecli.formats.base import Edit, Patch
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.views import View

_TORCH_DTYPES = [each for each in ALL_DTYPES if each not in (torch.float4_e2m1fn_x2, torch.complex128)]
"""The types that both the library and this format have a name for."""


def _bytes(header: object, data: bytes = b"", pad: int = 0) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * pad
    return len(text).to_bytes(8, "little") + text + data


def _zoo() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 2, (4096,), dtype=torch.uint8, generator=generator)
    zoo = {f"d.{dtype}": raw[:48].clone().view(dtype).reshape(2, -1) for dtype in _TORCH_DTYPES}
    return zoo | {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "häß\n": torch.ones(3, 1, 2)}


@pytest.fixture
def zoo_file(tmp_path: Path) -> Path:
    path = tmp_path / "zoo.safetensors"
    safetensors.torch.save_file(_zoo(), path, metadata={"format": "pt", "note": 'a "b" \\ ü'})
    return path


def _values(path: Path) -> dict[str, torch.Tensor]:
    return dict(sorted(safetensors.torch.load_file(path).items()))


def _assert_aligned(path: Path) -> None:
    with opened(path) as checkpoint:
        for tensor in checkpoint.tensors.values():
            assert tensor.storage.offset % tensor.dtype.itemsize == 0, tensor


def test_layout_is_the_librarys(zoo_file: Path) -> None:
    zoo = _zoo()
    with opened(zoo_file) as checkpoint, safetensors.safe_open(zoo_file, "pt") as library:
        assert checkpoint.format == "safetensors"
        assert (checkpoint.wrapper, list(checkpoint.carried)) == ("", [])
        assert sorted(checkpoint.tensors) == sorted(library.keys())
        for name, info in checkpoint.tensors.items():
            found = library.get_slice(name)
            assert list(info.shape) == found.get_shape()
            assert f"torch.{info.dtype.name}" == str(zoo[name].dtype)
            assert info.view == View.of(zoo[name].shape)
            raw = checkpoint.source.read(info.storage.offset, info.storage.nbytes)
            assert raw == bytes(zoo[name].contiguous().reshape(-1).view(torch.uint8).tolist())


@pytest.mark.parametrize(
    ("code", "bits", "shape"), [("F4", 4, [2, 4]), ("F6_E2M3", 6, [4]), ("F6_E3M2", 6, [2, 2]), ("F8_E8M0", 8, [3])]
)
def test_types_without_a_byte_of_their_own_are_carried_as_opaque(
    tmp_path: Path, code: str, bits: int, shape: list[int]
) -> None:
    nbytes = int(np.prod(shape)) * bits // 8
    header = {"w": {"dtype": code, "shape": shape, "data_offsets": [0, nbytes]}}
    path, out = tmp_path / "m", tmp_path / "out"
    path.write_bytes(_bytes(header, bytes(range(nbytes))))
    with opened(path) as checkpoint:
        tensor = checkpoint.tensors["w"]
        assert (tensor.dtype.kind, list(tensor.shape), tensor.storage.nbytes) == ("opaque", shape, nbytes)
    rewrite(path, out, Edit(renames={"w": "v"}))
    with safetensors.safe_open(out, "numpy") as library:
        assert library.get_slice("v").get_dtype() == code
        assert library.get_slice("v").get_shape() == shape
    assert out.read_bytes().endswith(bytes(range(nbytes)))


@pytest.mark.parametrize("header", [{}, {"__metadata__": {"a": "b"}}])
def test_a_file_without_tensors_is_a_file(tmp_path: Path, header: object) -> None:
    path = tmp_path / "m"
    path.write_bytes(_bytes(header))
    with opened(path) as checkpoint:
        assert not checkpoint.tensors
    assert rewrite(path, tmp_path / "out", Edit()) == path.read_bytes()


def test_an_identity_rewrite_is_byte_identical(zoo_file: Path, tmp_path: Path) -> None:
    assert rewrite(zoo_file, tmp_path / "out", Edit()) == zoo_file.read_bytes()
    patches = {"scalar": [Patch(0, 4, Looked())], "empty": []}
    assert rewrite(zoo_file, tmp_path / "out", Edit(patches)) == zoo_file.read_bytes()


def test_a_header_in_any_spelling_and_order_is_kept_byte_for_byte(tmp_path: Path) -> None:
    b = '"\\u0062" : {"data_offsets":[8,12],"shape":[1],"dtype":"F32"}'
    a = '"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}'
    path = tmp_path / "m"
    path.write_bytes(_bytes(f'{{"__metadata__":{{"z":"1"}},\n {b},{a}}}'.encode(), b"abcdefghwxyz", pad=5))
    raw = rewrite(path, tmp_path / "out", Edit({"b": [Patch(1, 2, Filled(0))]}))
    assert raw == path.read_bytes().replace(b"wxyz", b"w\0\0z")
    with opened(path) as checkpoint:
        assert list(checkpoint.tensors) == ["b", "a"]


def test_patches_change_their_bytes_only(zoo_file: Path, tmp_path: Path) -> None:
    name = "d.torch.float32"
    with opened(zoo_file) as checkpoint:
        storage = checkpoint.tensors[name].storage
    patches = {name: [Patch(0, 4, Filled(1)), Patch(8, 4, Filled(2)), Patch(storage.nbytes - 1, 1, Filled(3))]}
    raw, old = rewrite(zoo_file, tmp_path / "out", Edit(patches)), bytearray(zoo_file.read_bytes())
    for start, length, value in ((0, 4, 1), (8, 4, 2), (storage.nbytes - 1, 1, 3)):
        old[storage.offset + start : storage.offset + start + length] = bytes([value]) * length
    assert raw == old


def test_a_structural_edit_is_what_the_library_reads(zoo_file: Path, tmp_path: Path) -> None:
    name, out = "d.torch.bfloat16", tmp_path / "out"
    mask = added(name, f"{name}_mask", DTYPES["bool"], (2, 12), Filled(1))
    wide = added("scalar", "scalar_wide", DTYPES["float64"], (), Filled(0))
    edit = Edit(
        patches={"scalar": [Patch(0, 4, Filled(0))]},
        renames={name: f"{name}_orig"},
        removals=frozenset({"d.torch.int64", "empty"}),
        additions=[mask, wide],
    )
    rewrite(zoo_file, out, edit)
    expected = _zoo()
    del expected["d.torch.int64"], expected["empty"]
    expected[f"{name}_orig"] = expected.pop(name)
    expected |= {mask.name: torch.ones(2, 12, dtype=torch.bool), "scalar_wide": torch.tensor(0.0, dtype=torch.float64)}
    expected["scalar"] = torch.tensor(0.0)
    assert_same(_values(out), dict(sorted(expected.items())))
    with safetensors.safe_open(out, "pt") as library:
        assert library.metadata() == {"format": "pt", "note": 'a "b" \\ ü'}
    _assert_aligned(out)
    assert rewrite(out, tmp_path / "again", Edit()) == out.read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
        st.tuples(st.sampled_from(_TORCH_DTYPES), st.lists(st.integers(0, 3), max_size=3)),
        max_size=6,
    ),
    st.data(),
)
def test_any_edit_of_any_file_keeps_values_metadata_and_alignment(
    tmp_path: Path, tensors: Mapping[str, tuple[torch.dtype, list[int]]], data: st.DataObject
) -> None:
    path, out = tmp_path / "m", tmp_path / "out"
    state = {name: torch.ones(shape).to(dtype) for name, (dtype, shape) in tensors.items() if name != "__metadata__"}
    safetensors.torch.save_file(state, path, metadata={"k": "v"})
    _assert_aligned(path)
    removed = data.draw(st.frozensets(st.sampled_from(sorted(state)), max_size=3)) if state else frozenset()
    renamed = {name: f"{name}_orig" for name in state if name not in removed and f"{name}_orig" not in state}
    additions = [added(n, f"{n}_mask", DTYPES["bool"], tuple(t.shape), Filled(1)) for n, t in state.items()]
    additions = [each for each in additions if each.name not in state]
    rewrite(path, out, Edit(renames=renamed, removals=removed, additions=additions))
    expected = {renamed.get(name, name): tensor for name, tensor in state.items() if name not in removed}
    expected |= {each.name: torch.ones(each.shape, dtype=torch.bool) for each in additions}
    assert_same(_values(out), dict(sorted(expected.items())))
    with safetensors.safe_open(out, "pt") as library:
        assert library.metadata() == {"k": "v"}
    _assert_aligned(out)


def test_the_bytes_of_a_new_header_are_pinned(tmp_path: Path) -> None:
    path, out = tmp_path / "m", tmp_path / "out"
    state = {"w": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([3], dtype=torch.int64)}
    safetensors.torch.save_file(state, path, metadata={"n": "ü"})
    mask = added("w", "w_mask", DTYPES["bool"], (1, 2), Filled(1))
    raw = rewrite(path, out, Edit(renames={"w": "w_orig"}, additions=[mask]))
    header = (
        '{"__metadata__":{"n":"ü"},"b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},'
        '"w_orig":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]},'
        '"w_mask":{"dtype":"BOOL","shape":[1,2],"data_offsets":[16,18]}}    '
    ).encode()
    assert len(header) == 208
    assert raw == b"\xd0" + bytes(7) + header + b"\x03" + bytes(7) + b"\0\0\x80?\0\0\0@" + b"\1\1"


def _entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


_ONE = {"w": _entry()}


def test_the_good_file_of_the_damaged_ones_is_good(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(_bytes(_ONE, bytes(8)))
    with opened(path) as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


def test_truncation_at_every_byte_is_refused(zoo_file: Path) -> None:
    data = zoo_file.read_bytes()
    path = zoo_file.with_name("cut")
    for length in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(DamagedError), opened(path):
            pass


def test_there_is_no_key_in_a_flat_file(zoo_file: Path) -> None:
    with pytest.raises(UsageError, match="--key state_dict"), opened(zoo_file, "state_dict"):
        pass


def test_an_unknown_field_of_an_entry_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "comment": "x"}
    data = np.array([1, 2], np.float32).tobytes()
    (tmp_path / "m.safetensors").write_bytes(_bytes({"w": entry}, data))
    with opened(tmp_path / "m.safetensors") as checkpoint:
        assert [(name, each.shape) for name, each in checkpoint.tensors.items()] == [("w", (2,))]
    assert safetensors.torch.load_file(tmp_path / "m.safetensors")["w"].tolist() == [1, 2]
