"""Records that were compressed by hand: read as torch.load reads them, written stored, and never a bomb."""

import io
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from export_zoo import Exported
from export_zoo import load as load_program
from export_zoo import save as save_program
from surgery_zoo import apply, ask, bake, count, raw
from zip_by_hand import Made, archive

from prunecli.errors import DamagedError, PrunecliError, UnreadableError, UnsafeError
from prunecli.formats.detect import open_checkpoint

MIB = 1 << 20


def refused(path: Path, kind: type[PrunecliError], pattern: str) -> None:
    """Opening `path` fails with one line that matches."""
    with pytest.raises(kind, match=pattern) as caught, open_checkpoint(path):
        pass
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()


def assert_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Names, types, shapes and elements are the same."""
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert raw(found[name]) == raw(tensor), name


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"a.weight": torch.randn(300, 500), "a.bias": torch.zeros(500), "b": torch.arange(7).bfloat16()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "m.pt"
    torch.save(tensors(), path)
    return path


def packed(path: Path, out: Path, which: Callable[[str], bool] = lambda _: True) -> Path:
    """The records of an archive, those of them compressed whose names are meant."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            method = zipfile.ZIP_DEFLATED if which(name.partition("/")[2]) else zipfile.ZIP_STORED
            new.writestr(name, old.read(name), method)
    return out


WHICH: Mapping[str, Callable[[str], bool]] = {
    "all": lambda _: True,
    "the pickle": lambda name: name == "data.pkl",
    "a storage": lambda name: name == "data/0",
    "the storages": lambda name: name.startswith("data/"),
    "small records": lambda name: name in ("version", "byteorder", ".storage_alignment"),
}


@pytest.mark.parametrize("which", WHICH.values(), ids=WHICH)
def test_compressed_records_are_read_as_torch_reads_them(
    saved: Path, tmp_path: Path, which: Callable[[str], bool]
) -> None:
    path = packed(saved, tmp_path / "m.pt", which)
    theirs = torch.load(path, weights_only=True)
    with open_checkpoint(path) as checkpoint:
        assert list(checkpoint.tensors) == list(theirs)
        for name, info in checkpoint.tensors.items():
            assert checkpoint.source.read(info.storage.offset, info.storage.nbytes) == raw(theirs[name]), name
    assert [each.zeros for each in count(path).parameters] == [0, 500, 1]


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("which", WHICH.values(), ids=WHICH)
def test_what_is_written_is_stored_and_holds_what_the_uncompressed_file_would(
    saved: Path, tmp_path: Path, which: Callable[[str], bool], *, remove: bool
) -> None:
    path = packed(saved, tmp_path / "m.pt", which)
    apply(path, tmp_path / "o.pt", ask(0.5, "*", remove=remove))
    apply(saved, tmp_path / "expected.pt", ask(0.5, "*", remove=remove))
    found, expected = (torch.load(tmp_path / name, weights_only=True) for name in ("o.pt", "expected.pt"))
    assert_same(found, expected)
    with zipfile.ZipFile(tmp_path / "o.pt") as written:
        assert written.testzip() is None
        assert all(info.compress_type == zipfile.ZIP_STORED for info in written.infolist())
        assert all(info.file_size == 0 or not _payload_at(tmp_path / "o.pt", info) % 64 for info in written.infolist())
    if not remove:
        bake(tmp_path / "o.pt", tmp_path / "baked.pt")
        apply(saved, tmp_path / "direct.pt", ask(0.5, "*", remove=True))
        assert_same(torch.load(tmp_path / "baked.pt"), torch.load(tmp_path / "direct.pt"))


def _payload_at(path: Path, info: zipfile.ZipInfo) -> int:
    header = path.read_bytes()[info.header_offset : info.header_offset + 30]
    return info.header_offset + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def test_an_archive_packed_by_zip_itself(saved: Path, tmp_path: Path) -> None:
    if shutil.which("zip") is None:
        pytest.skip("zip is not installed")
    with zipfile.ZipFile(saved) as old:
        old.extractall(tmp_path / "unpacked")
    subprocess.run(["zip", "-q", "-r", "../m.pt", "."], cwd=tmp_path / "unpacked", check=True)
    apply(tmp_path / "m.pt", tmp_path / "o.pt", ask(0.5, "*", remove=True))
    apply(saved, tmp_path / "expected.pt", ask(0.5, "*", remove=True))
    assert_same(torch.load(tmp_path / "o.pt"), torch.load(tmp_path / "expected.pt"))


def test_an_export_archive_with_compressed_records(tmp_path: Path) -> None:
    source = save_program(Exported(), tmp_path / "m.pt2")
    path = packed(source, tmp_path / "p.pt2")
    apply(path, tmp_path / "o.pt2", ask(0.5, "*", remove=True))
    apply(source, tmp_path / "expected.pt2", ask(0.5, "*", remove=True))
    assert_same(load_program(tmp_path / "o.pt2").state_dict(), load_program(tmp_path / "expected.pt2").state_dict())


def test_records_that_unpack_to_far_more_than_the_archive(tmp_path: Path) -> None:
    whole, path = io.BytesIO(), tmp_path / "m.pt"
    torch.save({"w": torch.zeros(80 * MIB, dtype=torch.uint8)}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    refused(path, UnsafeError, "its compressed records unpack to more than 2[0-9] MiB")


def test_a_pickle_that_unpacks_to_far_more_than_it_promises(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, b"\x80\x02" + b"N0" * (3 * MIB) + b"N." if name.endswith("data.pkl") else old.read(name))
    refused(tmp_path / "m.pt", UnsafeError, "data.pkl unpacks to 6 MiB, far more than its size in the archive promises")


def _record(data: bytes, size: int, crc: int, packed: bytes | None = None) -> bytes:
    """An archive of one compressed record, with what its headers record."""
    stored = packed if packed is not None else _deflate(data)
    reported = (crc, len(stored), size)
    return archive(Made(name=b"r/data.pkl", data=stored, method=8, local=reported, central=reported))


def _deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return bytes(engine.compress(data) + engine.flush())


GOOD = b"\x80\x02}." * 50
_BAD = {
    "less than it says": (_record(GOOD, len(GOOD) + 1, zlib.crc32(GOOD)), "is damaged"),
    "more than it says": (_record(GOOD, len(GOOD) - 1, zlib.crc32(GOOD[:-1])), "does not end where|is damaged"),
    "another checksum": (_record(GOOD, len(GOOD), 1), "is damaged"),
    "no deflated data": (_record(GOOD, len(GOOD), zlib.crc32(GOOD), b"\xff" * 30), "cannot be unpacked"),
    "cut off": (_record(GOOD, len(GOOD), zlib.crc32(GOOD), _deflate(GOOD)[:-4]), "does not end where"),
    "more behind it": (_record(GOOD, len(GOOD), zlib.crc32(GOOD), _deflate(GOOD) + b"x"), "does not end where"),
}


@pytest.mark.parametrize("case", _BAD)
def test_records_that_do_not_unpack_to_what_the_archive_says(tmp_path: Path, case: str) -> None:
    data, pattern = _BAD[case]
    (tmp_path / "m.pt").write_bytes(data)
    refused(tmp_path / "m.pt", DamagedError, pattern)


def test_a_temporary_folder_without_room(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    refused(packed(saved, tmp_path / "m.pt"), UnreadableError, "cannot unpack into .*: No space left on device; set TM")
