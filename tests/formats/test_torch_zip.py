"""torch's zip files against torch.load(weights_only=True): layout, edits in place, edits of the structure."""

import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from checkpoint_zoo import ZOO
from format_tools import Filled, Looked, added, assert_same, flattened, geometry, geometry_of, opened, rewrite
from torch.utils.serialization import config
from torch_tools import assert_reads, assert_rest_unchanged, first_bytes, load, rezipped, structural
from torch_tools import expected as expected_of

from prunecli.errors import DamagedError
from prunecli.formats.base import Checkpoint, Edit, Patch
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.torch.zip import TorchZip
from prunecli.formats.torch.zip_directory import Record, read_directory

_CARRIED = {"Lightning": 16, "trainer": 18, "shared": 2, "flat": 0, "key strings shared": 3, "forced": 25}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("zoo")

    def path_of(name: str) -> Path:
        path = folder / f"{name.replace(' ', '_')}.pt"
        if not path.exists():
            ZOO[name].save(ZOO[name].make(), path)
        return path

    return path_of


def _records(path: Path) -> dict[str, Record]:
    with opened(path) as checkpoint:
        return {record.name: record for record in read_directory(checkpoint.source).records}


def _assert_sound(path: Path) -> None:
    """Python's zipfile and Info-ZIP find every checksum right."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", path], check=True, capture_output=True)


@pytest.mark.parametrize("name", ZOO)
def test_layout_is_what_torch_loads(zoo: Callable[[str], Path], name: str) -> None:
    sample = ZOO[name]
    assert_reads(zoo(name), sample, flattened(sample.state_of(load(zoo(name)))))


@pytest.mark.parametrize("name", _CARRIED)
def test_what_else_there_is_is_carried(zoo: Callable[[str], Path], name: str) -> None:
    with opened(zoo(name), ZOO[name].key) as checkpoint:
        assert len(checkpoint.carried) == _CARRIED[name]
        places = {info.storage.key for info in [*checkpoint.tensors.values(), *checkpoint.carried]}
        assert isinstance(checkpoint, TorchZip)
        assert places == set(checkpoint.objects.storages)


@pytest.mark.parametrize("name", [name for name in ZOO if name != "no checksums"])
def test_an_identity_rewrite_is_byte_identical(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    def looked(checkpoint: Checkpoint) -> Edit:
        nonempty = [info for info in checkpoint.tensors.values() if info.storage.nbytes]
        return Edit({info.storage.key: [Patch(0, info.storage.nbytes, Looked())] for info in nonempty})

    original = zoo(name).read_bytes()
    assert rewrite(zoo(name), tmp_path / "out", Edit(), ZOO[name].key) == original
    assert rewrite(zoo(name), tmp_path / "out", looked, ZOO[name].key) == original


def _patched(path: Path, patched: Mapping[str, int]) -> bytes:
    """The bytes of `path` with the first byte of some storages set, and the CRCs of all records computed by zlib."""
    data = bytearray(path.read_bytes())
    for record in _records(path).values():
        key = record.name.rpartition("/")[2]
        if "/data/" in record.name and key in patched:
            data[record.offset] = patched[key]
        if not record.deflated and record.size:
            crc = zlib.crc32(data[record.offset : record.offset + record.size])
            for place in record.crc_places:
                data[place : place + 4] = crc.to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize("name", ZOO)
def test_an_edit_in_place_changes_its_bytes_and_their_checksums_only(
    zoo: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path, out = zoo(name), tmp_path / "out"
    with opened(path, ZOO[name].key) as checkpoint:
        patched = dict.fromkeys(first_bytes(checkpoint).patches, 9)
    assert patched
    assert rewrite(path, out, first_bytes, ZOO[name].key) == _patched(path, patched)
    _assert_sound(out)


def test_a_file_saved_without_checksums_gets_right_ones(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    path, out = zoo("no checksums"), tmp_path / "out"
    assert all(record.crc == 0 for record in _records(path).values())
    assert rewrite(path, out, Edit()) == _patched(path, {})
    _assert_sound(out)


_NAMED = [name for name in ZOO if name != "forced optimizer"]


@pytest.fixture(scope="module")
def edited(zoo: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Edit]]:
    """Every sample, its structure edited."""
    folder = tmp_path_factory.mktemp("edited")
    files: dict[str, tuple[Path, Edit]] = {}
    for name in _NAMED:
        with opened(zoo(name), ZOO[name].key) as checkpoint:
            edit = structural(checkpoint)
        out = folder / f"{name.replace(' ', '_')}.out"
        rewrite(zoo(name), out, edit, ZOO[name].key)
        files[name] = out, edit
    return files


@pytest.mark.parametrize("name", _NAMED)
def test_a_structural_edit_is_what_torch_loads(
    zoo: Callable[[str], Path], edited: dict[str, tuple[Path, Edit]], name: str
) -> None:
    (out, edit), sample = edited[name], ZOO[name]
    expected = expected_of(zoo(name), sample, edit)
    for mmap in (False, True):
        loaded = load(out, mmap=mmap)
        assert_same(flattened(sample.state_of(loaded)), expected)
    assert_reads(out, sample, expected)
    _assert_sound(out)


@pytest.mark.parametrize("name", _NAMED)
def test_a_structural_edit_leaves_the_rest_of_the_object_alone(
    zoo: Callable[[str], Path], edited: dict[str, tuple[Path, Edit]], name: str
) -> None:
    assert_rest_unchanged(zoo(name), edited[name][0], ZOO[name], shared="shared" in name)


def test_torch_computes_the_offsets_that_are_there(
    edited: dict[str, tuple[Path, Edit]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")  # then it compares them with those in the file
    for name, (path, _) in edited.items():
        if name[-1] in "345":  # protocols that it warns of
            continue
        plain = flattened(load(path))
        try:
            config.load.calculate_storage_offsets = True
            assert_same(flattened(load(path, mmap=True)), plain)
            assert_same(flattened(load(path)), plain)
        finally:
            config.load.calculate_storage_offsets = False


def test_new_storages_take_the_next_numbers_and_the_tag_of_their_neighbour(
    edited: dict[str, tuple[Path, Edit]],
) -> None:
    names = [record.name.split("/", 1)[1] for record in _records(edited["flat"][0]).values()]
    heads, tails = (
        ["data.pkl", ".format_version", ".storage_alignment", "byteorder"],
        ["version", ".data/serialization_id"],
    )
    assert names == [*heads, "data/0", "data/3", "data/1", "data/4", *tails]


def test_a_flipped_byte_in_any_record_is_damage_that_names_it(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    path, hurt = zoo("Lightning"), tmp_path / "hurt.pt"
    data = path.read_bytes()
    for record in _records(path).values():
        if not record.size:
            continue
        at = record.offset + record.size // 2
        hurt.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        short = "data.pkl" if record.name.endswith("data.pkl") else record.name
        with pytest.raises(DamagedError, match=rf"record {short} is damaged"):
            rewrite(hurt, tmp_path / "out", Edit())
        with pytest.raises(DamagedError, match=rf"record {short} is damaged"):
            rewrite(hurt, tmp_path / "out", Edit(renames={"net.0.weight": "net.0.weight_orig"}))


@pytest.mark.parametrize("name", ["flat", "Lightning", "views", "dtypes", "shared"])
def test_rezipped_by_python_it_reads_and_edits_the_same(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path, sample, out = rezipped(zoo(name), tmp_path / "re.pt", lambda _, data: data), ZOO[name], tmp_path / "out"
    assert_reads(path, sample, flattened(sample.state_of(load(zoo(name)))))
    assert rewrite(path, out, Edit()) == path.read_bytes()
    assert rewrite(path, out, first_bytes) != path.read_bytes()
    _assert_sound(out)
    with opened(path) as checkpoint:
        edit = structural(checkpoint)
    rewrite(path, out, edit)
    assert_same(flattened(sample.state_of(load(out, mmap=True))), expected_of(zoo(name), sample, edit))
    _assert_sound(out)


def _big_endian(path: Path, out: Path) -> Path:
    """As torch on a big-endian machine would have saved it."""
    with opened(path) as checkpoint:
        assert isinstance(checkpoint, TorchZip)
        sizes = {f"data/{key}": ref.dtype.itemsize for key, ref in checkpoint.objects.storages.items()}

    def swapped(name: str, data: bytes) -> bytes:
        if name == "byteorder":
            return b"big"
        size = sizes.get(name, 1)
        return b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))

    return rezipped(path, out, swapped)


def test_big_endian_files(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    path, out = _big_endian(zoo("views"), tmp_path / "big.pt"), tmp_path / "out"
    expected = flattened(load(zoo("views")))
    assert_same(flattened(load(path)), expected)
    with opened(path) as checkpoint:
        assert all(info.storage.big_endian for info in checkpoint.tensors.values())
        assert {name: geometry_of(info) for name, info in checkpoint.tensors.items()} == {
            name: geometry(tensor) for name, tensor in expected.items()
        }
    with opened(zoo("views")) as checkpoint:
        assert not any(info.storage.big_endian for info in checkpoint.tensors.values())
    rewrite(path, out, Edit(renames={"bias": "bias_orig"}))
    renamed = {{"bias": "bias_orig"}.get(name, name): tensor for name, tensor in expected.items()}
    assert_same(flattened(load(out)), renamed)


def test_cuda_tags_stay(tmp_path: Path) -> None:
    plain, out = tmp_path / "plain.pt", tmp_path / "out"
    torch.save({"a": torch.ones(2), "b": torch.zeros(3)}, plain)

    def on_cuda(name: str, data: bytes) -> bytes:
        return data.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0") if name == "data.pkl" else data

    path = rezipped(plain, tmp_path / "cuda.pt", on_cuda)
    mask = added("a", "a_mask", DTYPES["bool"], (2,), Filled(1))
    rewrite(path, out, Edit(renames={"a": "a_orig"}, additions=[mask]))
    with opened(out) as checkpoint:
        assert isinstance(checkpoint, TorchZip)
        assert {ref.location for ref in checkpoint.objects.storages.values()} == {"cuda:0"}
        assert list(checkpoint.tensors) == ["a_orig", "a_mask", "b"]
    assert list(load(out, map_location="cpu")) == ["a_orig", "a_mask", "b"]


def test_an_alignment_that_was_chosen_is_kept(tmp_path: Path) -> None:
    from torch.utils.serialization import config

    path, out = tmp_path / "m.pt", tmp_path / "out"
    before = config.save.storage_alignment
    config.save.storage_alignment = 4096
    try:
        torch.save({"w": torch.ones(3), "v": torch.ones(2)}, path)
    finally:
        config.save.storage_alignment = before
    rewrite(path, out, Edit(renames={"w": "w_orig"}))
    assert {record.offset % 4096 for record in _records(out).values() if "/data/" in record.name[:12]} <= {0}
    config.load.calculate_storage_offsets = True
    try:
        assert_same(flattened(load(out, mmap=True)), {"w_orig": torch.ones(3), "v": torch.ones(2)})
    finally:
        config.load.calculate_storage_offsets = False


def test_without_its_first_storage_torch_is_not_led_to_compute_offsets(tmp_path: Path) -> None:
    path, out = tmp_path / "m.pt", tmp_path / "out"
    torch.save({"w": torch.ones(3), "v": torch.ones(2)}, path)
    rewrite(path, out, Edit(removals=frozenset({"w"})))
    names = [name.partition("/")[2] for name in _records(out)]
    assert "data/0" not in names
    assert ".format_version" not in names
    assert_same(flattened(load(out, mmap=True)), {"v": torch.ones(2)})


def test_renaming_leaves_others_that_share_the_key_string_alone(
    zoo: Callable[[str], Path], edited: dict[str, tuple[Path, Edit]]
) -> None:
    before, after = load(zoo("key strings shared")), load(edited["key strings shared"][0])
    assert after["names"] == before["names"] == list(before["state_dict"])
    assert list(after["ema"]) == before["names"]
    assert list(after["state_dict"]) != before["names"]
