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
from format_tools import Filled, Looked, assert_same, opened, refused, refused_bytes, rewrite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunecli.errors import DamagedError, UnsupportedError, UsageError
from prunecli.formats.base import Addition, Edit, Patch
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.views import View

_TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64,
    torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.complex64,
]  # fmt: skip


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
        assert (checkpoint.big_endian, checkpoint.wrapper, list(checkpoint.carried)) == (False, "", [])
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
    mask = Addition(name, f"{name}_mask", DTYPES["bool"], (2, 12), Filled(1))
    wide = Addition("scalar", "scalar_wide", DTYPES["float64"], (), Filled(0))
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
    additions = [Addition(n, f"{n}_mask", DTYPES["bool"], tuple(t.shape), Filled(1)) for n, t in state.items()]
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
    mask = Addition("w", "w_mask", DTYPES["bool"], (1, 2), Filled(1))
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


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


_ONE = {"w": _entry()}
_DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "data cut": (_bytes(_ONE, bytes(7)), "truncated"),
    "data missing": (_bytes(_ONE), "truncated"),
    "header cut": (_bytes(_ONE, bytes(8))[:20], "ends in its header"),
    "trailing byte": (_bytes(_ONE, bytes(9)), "1 bytes behind its last tensor"),
    "bytes without tensors": (_bytes({}, bytes(4)), "4 bytes behind its last tensor"),
    "gap": (_bytes({"a": _entry(), "b": _entry(data_offsets=[12, 20])}, bytes(20)), "gap or an overlap"),
    "gap at the start": (_bytes({"a": _entry(data_offsets=[4, 12])}, bytes(12)), "gap or an overlap"),
    "overlap": (_bytes({"a": _entry(), "b": _entry(data_offsets=[4, 12])}, bytes(12)), "gap or an overlap"),
    "two at one place": (_bytes({"a": _entry(), "b": _entry()}, bytes(8)), "gap or an overlap"),
    "repeated name": (
        _bytes(json.dumps(_ONE)[:-1].encode() + b"," + json.dumps(_ONE)[1:].encode(), bytes(8)),
        "has w twice",
    ),
    "repeated name by an escape": (
        _bytes(b'{"w":%b,"\\u0077":%b}' % ((json.dumps(_entry()).encode(),) * 2), bytes(8)),
        "has w twice",
    ),
    "repeated field": (
        _bytes(b'{"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8)),
        "has shape twice",
    ),
    "no JSON": (_bytes(b"{w}"), "no JSON"),
    "JSON and more": (_bytes(json.dumps(_ONE).encode() + b"x", bytes(8)), "no JSON"),
    "not UTF-8": (_bytes(b'{"\xff":1}'), "no JSON"),
    "deep nesting": (_bytes(b'{"w":' + b"[" * 200_000), "no JSON"),
    "deep nesting that closes": (_bytes(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}"), "no JSON|dtype, shape"),
    "a number of 5000 digits": (_bytes(b'{"w":' + b"9" * 5000 + b"}"), "no JSON"),
    "entry is a list": (_bytes({"w": [1]}), "not described by"),
    "field missing": (_bytes({"w": {"dtype": "F32", "shape": [2]}}, bytes(8)), "not described by"),
    "field too many": (_bytes({"w": _entry(strides=[1])}, bytes(8)), "not described by"),
    "shape NaN": (_bytes(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8)), "no whole numbers"),
    "shape negative": (_bytes({"w": _entry(shape=[-2])}, bytes(8)), "no whole numbers"),
    "shape twice negative": (_bytes({"w": _entry(shape=[-2, -1])}, bytes(8)), "no whole numbers"),
    "shape float": (_bytes({"w": _entry(shape=[2.0])}, bytes(8)), "no whole numbers"),
    "shape bool": (_bytes({"w": _entry(shape=[True, 2])}, bytes(8)), "no whole numbers"),
    "shape text": (_bytes({"w": _entry(shape="2")}, bytes(8)), "no whole numbers"),
    "shape huge": (_bytes({"w": _entry(shape=[1 << 63])}, bytes(8)), "no whole numbers"),
    "shape huge product": (_bytes({"w": _entry(shape=[1 << 62, 1 << 62])}, bytes(8)), "8 bytes for"),
    "shape huge and empty": (
        _bytes({"w": _entry(shape=[1 << 62, 1 << 62, 0], data_offsets=[0, 0])}),
        "refused by the safetensors library",
    ),
    "too many dimensions": (_bytes({"w": _entry(shape=[1] * 64 + [2])}, bytes(8)), "no whole numbers"),
    "offsets NaN": (_bytes(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[NaN,8]}}', bytes(8)), "no whole numbers"),
    "offsets infinite": (
        _bytes(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,1e999]}}', bytes(8)),
        "no whole numbers",
    ),
    "offsets negative": (_bytes({"w": _entry(data_offsets=[-8, 0])}, bytes(8)), "no whole numbers"),
    "offsets float": (_bytes({"w": _entry(data_offsets=[0, 8.0])}, bytes(8)), "no whole numbers"),
    "offsets bool": (_bytes({"w": _entry(data_offsets=[False, 8])}, bytes(8)), "no whole numbers"),
    "offsets three": (_bytes({"w": _entry(data_offsets=[0, 8, 16])}, bytes(8)), "no whole numbers"),
    "offsets huge": (_bytes({"w": _entry(data_offsets=[1 << 62, (1 << 62) + 8])}, bytes(8)), "behind the end"),
    "offsets backwards": (_bytes({"w": _entry(data_offsets=[8, 0])}, bytes(8)), "-8 bytes for 2 elements"),
    "wrong size": (_bytes({"w": _entry(shape=[3])}, bytes(8)), "8 bytes for 3 elements of float32"),
    "half a byte": (_bytes({"w": _entry(dtype="F4", shape=[3], data_offsets=[0, 1])}, bytes(1)), "1 bytes for 3"),
    "metadata of numbers": (_bytes({"__metadata__": {"a": 1}}), "refused by the safetensors library"),
    "metadata is a list": (_bytes({"__metadata__": []}), "refused by the safetensors library"),
    "lone surrogate": (_bytes({"\ud800": _entry()}, bytes(8)), "refused by the safetensors library"),
    "a name that moves the cursor": (_bytes({"\x1b[2J\nw": _entry(shape=[3])}, bytes(8)), r"\\x1b\[2J\\nw has 8"),
}
_UNSUPPORTED: dict[str, tuple[bytes, str]] = {
    "unknown dtype": (_bytes({"w": _entry(dtype="F12")}, bytes(8)), "element type F12"),
    "dtype in small letters": (_bytes({"w": _entry(dtype="f32")}, bytes(8)), "element type f32"),
    "dtype is a number": (_bytes({"w": _entry(dtype=3)}, bytes(8)), "element type 3"),
    "dtype is too deep to spell": (_bytes({"w": _entry(dtype=_deep(400))}, bytes(8)), "has the element type a list"),
    "dtype is a list": (_bytes({"w": _entry(dtype=["F32"])}, bytes(8)), "element type"),
    "length cut": (_bytes(_ONE, bytes(8))[:7], "no checkpoint that prunecli knows"),
    "length alone": (_bytes(_ONE, bytes(8))[:8], "no checkpoint that prunecli knows"),
    "more than 100 MB of header": ((100_000_001).to_bytes(8, "little") + b"{}", "no checkpoint that prunecli knows"),
    "header is a list": (_bytes([]), "no checkpoint that prunecli knows"),
    "header begins with a space": (_bytes(b" {}"), "no checkpoint that prunecli knows"),
}


@pytest.mark.parametrize("case", _DAMAGED)
def test_damage_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    refused_bytes(tmp_path / "m", _DAMAGED[case][0], DamagedError, _DAMAGED[case][1])


@pytest.mark.parametrize("case", _UNSUPPORTED)
def test_what_is_not_supported_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    refused_bytes(tmp_path / "m", _UNSUPPORTED[case][0], UnsupportedError, _UNSUPPORTED[case][1])


def test_a_header_of_100_million_bytes_that_is_not_there(tmp_path: Path) -> None:
    refused_bytes(tmp_path / "m", (100_000_000).to_bytes(8, "little") + b"{}", DamagedError, "ends in its header")


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


def test_a_header_of_many_repeated_names_is_refused_quickly(tmp_path: Path) -> None:
    names = ",".join(f'"{i}":0' for i in range(50_000))
    path = tmp_path / "m"
    path.write_bytes(_bytes(f'{{{names},"49999":0}}'.encode()))
    refused(path, DamagedError, "has 49999 twice")


def test_there_is_no_key_in_a_flat_file(zoo_file: Path) -> None:
    with pytest.raises(UsageError, match="--key state_dict"), opened(zoo_file, "state_dict"):
        pass
