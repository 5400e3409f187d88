"""The strict zip directory: zipfile's view of good archives; what two readers may read differently is refused."""

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunecli.errors import DamagedError, UnsupportedError
from prunecli.formats.source import open_source
from prunecli.formats.torch.zip_directory import Directory, looks_like_zip, read_directory


def _read(path: Path, data: bytes | None = None) -> Directory:
    if data is not None:
        path.write_bytes(data)
    with open_source(path) as source:
        return read_directory(source)


def _assert_zipfiles_view(path: Path) -> None:
    """All that zipfile tells, and the places of the CRCs, where the right value must stand."""
    data = path.read_bytes()
    directory = _read(path)
    with zipfile.ZipFile(path) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
        assert [record.name for record in directory.records] == [info.filename for info in infos]
        for record, info in zip(directory.records, infos, strict=True):
            assert record.header == info.header_offset
            assert (record.size, record.stored_size) == (info.file_size, info.compress_size)
            assert record.crc == info.CRC
            assert record.deflated == (info.compress_type == zipfile.ZIP_DEFLATED)
            raw = data[record.offset : record.offset + record.stored_size]
            assert (zlib.decompress(raw, -15) if record.deflated else raw) == archive.read(info)
            assert len(record.crc_places) == 2
            for place in record.crc_places:
                if record.size:
                    assert int.from_bytes(data[place : place + 4], "little") == info.CRC
    stops = [record.stop for record in directory.records]
    assert [*(record.header for record in directory.records), directory.central] == [0, *stops]


def _zipped(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("r/data.pkl", b"abc" * 100)
        archive.writestr("r/häß", b"")
        archive.writestr("r/data/0", bytes(range(256)))
    return buffer.getvalue()


class _Unseekable(io.RawIOBase):
    """A pipe, as zipfile sees it: then it writes descriptors."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        self.data += bytes(data)  # type: ignore[call-overload]
        return len(bytes(data))  # type: ignore[call-overload]


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_torchs_archives(tmp_path: Path, size: int) -> None:
    torch.save({"w": torch.arange(size), "e": torch.empty(0), "m": torch.ones(3, 3)}, tmp_path / "model.pt")
    _assert_zipfiles_view(tmp_path / "model.pt")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zipfiles_archives(tmp_path: Path, method: int) -> None:
    path = tmp_path / "m"
    path.write_bytes(_zipped(method))
    _assert_zipfiles_view(path)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z0-9]{1,9}(/[a-z0-9]{1,9})?", fullmatch=True), st.binary(max_size=90)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_archive_of_zipfile(
    tmp_path: Path, records: dict[str, bytes], deflated: bool, zip64: bool, piped: bool
) -> None:
    path = tmp_path / "m"
    stream = _Unseekable() if piped else io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            with archive.open(name, "w", force_zip64=zip64) as record:
                record.write(data)
    path.write_bytes(stream.data if isinstance(stream, _Unseekable) else stream.getvalue())
    _assert_zipfiles_view(path)


@dataclass(frozen=True)
class _Made:
    """One record by hand, with what may be told wrongly about it."""

    name: bytes = b"r/data.pkl"
    data: bytes = b"abcdef"
    flags: int = 0
    method: int = 0
    local: tuple[int, int, int] | None = None  # CRC and sizes in the local header, if not the true ones
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_extra: bytes = b""
    descriptor: bytes = b""
    central: tuple[int, int, int] | None = None
    central_extra: bytes = b""
    header: int | None = None
    comment: bytes = b""
    before: bytes = b""
    disk: int = 0

    @property
    def true(self) -> tuple[int, int, int]:
        return zlib.crc32(self.data), len(self.data), len(self.data)

    def local_bytes(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        flags = self.flags if self.local_flags is None else self.local_flags
        method = self.method if self.local_method is None else self.local_method
        fields = (b"PK\x03\x04", 20, flags, method, 0, 0, *(self.local or self.true), len(name), len(self.local_extra))
        return struct.pack("<4s5H3L2H", *fields) + name + self.local_extra + self.data + self.descriptor

    def central_bytes(self, at: int) -> bytes:
        lengths = len(self.name), len(self.central_extra), len(self.comment)
        header = at if self.header is None else self.header
        fields = (b"PK\x01\x02", 20, 20, self.flags, self.method, 0, 0, *(self.central or self.true), *lengths)
        packed = struct.pack("<4s6H3L5H2L", *fields, self.disk, 0, 0, header)
        return packed + self.name + self.central_extra + self.comment


def _archive(*records: _Made, end: dict[str, int] | None = None, zip64: dict[str, int] | None = None) -> bytes:
    """An archive by hand. `end` and `zip64` replace fields of the end records; a zip64 one is written if given."""
    body, central = b"", b""
    for record in records:
        body += record.before
        central += record.central_bytes(len(body))
        body += record.local_bytes()
    true = {"disk": 0, "first": 0, "here": len(records), "count": len(records), "length": len(central)}
    true |= {"start": len(body), "comment": 0}
    wide = b""
    if zip64 is not None:
        fields = true | {"at": len(body) + len(central)} | zip64
        order = [fields[key] for key in ("disk", "first", "here", "count", "length", "start")]
        wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, *order)
        wide += struct.pack("<4sLQL", b"PK\x06\x07", 0, fields["at"], 1)
    fields = true | (end or {})
    narrow = [fields[key] for key in ("disk", "first", "here", "count", "length", "start", "comment")]
    return body + central + wide + struct.pack("<4s4H2LH", b"PK\x05\x06", *narrow)


def _as_folder(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02") + 38
    return data[:at] + b"\x10" + data[at + 1 :]


_CRC = zlib.crc32(b"abcdef")
_MAX32 = 0xFFFFFFFF
_WIDE = struct.pack("<HHQQ", 1, 16, 6, 6)
_FLAG8 = _Made(flags=8, local=(0, 0, 0), descriptor=struct.pack("<4sLLL", b"PK\x07\x08", _CRC, 6, 6))
_TWO = _Made(name=b"r/data/0", data=b"ghi")

_GOOD = {
    "plain": _archive(_Made(), _TWO),
    "no records": _archive(),
    "descriptor": _archive(_FLAG8, _TWO),
    "descriptor, sizes told twice": _archive(replace(_FLAG8, local=(_CRC, 6, 6))),
    "descriptor of 64 bits": _archive(
        replace(_FLAG8, descriptor=struct.pack("<4sLQQ", b"PK\x07\x08", _CRC, 6, 6)), _TWO
    ),
    "zip64 record": _archive(
        _Made(central=(_CRC, _MAX32, _MAX32), central_extra=_WIDE, local=(_CRC, _MAX32, _MAX32), local_extra=_WIDE)
    ),
    "zip64 offset only": _archive(_TWO, _Made(header=_MAX32, central_extra=struct.pack("<HHQ", 1, 8, 41))),
    "zip64 behind another field": _archive(
        _Made(central=(_CRC, _MAX32, _MAX32), central_extra=struct.pack("<HHL", 0x5455, 4, 7) + _WIDE)
    ),
    "zip64 end": _archive(_Made(), _TWO, zip64={}),
    "zip64 end, saturated": _archive(
        _Made(), _TWO, end={"here": 0xFFFF, "count": 0xFFFF, "length": _MAX32, "start": _MAX32}, zip64={}
    ),
    "a record's comment": _archive(_Made(comment=b"PK\x01\x02")),
}


@pytest.mark.parametrize("case", _GOOD)
def test_what_is_made_by_hand_and_right_is_read(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(_GOOD[case])
    _assert_zipfiles_view(path)


_DAMAGED = {
    "empty": (b"", "too short"),
    "junk before": (b"junk" + _GOOD["plain"], "does not lie where"),
    "junk before, offsets moved": (_archive(replace(_Made(), before=b"junk"), _TWO), "belong to no record"),
    "junk between": (_archive(_Made(), replace(_TWO, before=b"x")), "belong to no record"),
    "junk before the directory": (_archive(_Made(descriptor=b"x")), "belong to no record"),
    "junk behind": (_GOOD["plain"] + b"\0", "at its end"),
    "comment": (_archive(_Made(), end={"comment": 3}) + b"abc", "at its end"),
    "comment that is announced": (_archive(_Made(), end={"comment": 3}), "at its end"),
    "two names": (_archive(_Made(), _Made()), "two of its zip records have one name"),
    "two names but for case": (_archive(_Made(), _Made(name=b"R/Data.PKL")), "two of its zip records"),
    "two names but for ß": (
        _archive(_Made(name="r/ß".encode(), flags=0x800), _Made(name=b"r/SS")),
        "two of its zip records",
    ),
    "two records at one place": (_archive(_Made(), replace(_TWO, header=0)), "contradicts the zip directory|no header"),
    "another local name": (_archive(_Made(local_name=b"r/datb.pkl")), "contradicts the zip directory"),
    "a longer local name": (_archive(_Made(local_name=b"r/data.pkl2")), "no header where"),
    "another local method": (_archive(_Made(local_method=8)), "contradicts the zip directory"),
    "other local flags": (_archive(_Made(local_flags=0x800)), "contradicts the zip directory"),
    "another local CRC": (_archive(_Made(local=(1, 6, 6))), "contradicts the zip directory"),
    "no local CRC": (_archive(_Made(local=(0, 6, 6))), "contradicts the zip directory"),
    "another local size": (_archive(_Made(local=(_CRC, 6, 7))), "contradicts the zip directory"),
    "another local stored size": (_archive(_Made(local=(_CRC, 5, 6))), "contradicts the zip directory"),
    "no local sizes": (_archive(_Made(local=(_CRC, 0, 0))), "contradicts the zip directory"),
    "another local size before a descriptor": (
        _archive(replace(_FLAG8, local=(0, 5, 5))),
        "contradicts the zip directory",
    ),
    "another local size in zip64": (
        _archive(_Made(local=(_CRC, _MAX32, _MAX32), local_extra=struct.pack("<HHQQ", 1, 16, 7, 6))),
        "contradicts the zip directory",
    ),
    "local extra behind the end": (
        _archive(_Made())[:28] + b"\xff\xff" + _archive(_Made())[30:],
        "no header where",
    ),
    "stored sizes differ": (_archive(_Made(central=(_CRC, 6, 7), local=(_CRC, 6, 7))), "contradicts itself"),
    "a size of exabytes": (
        _archive(_Made(central=(_CRC, 6, _MAX32), central_extra=struct.pack("<HHQ", 1, 8, 1 << 62))),
        "contradicts itself",
    ),
    "a folder with bytes": (_as_folder(_archive(_Made())), "has bytes, but is marked as a folder"),
    "a CRC of nothing": (_archive(_Made(data=b"", central=(5, 0, 0), local=(5, 0, 0))), "contradicts itself"),
    "overlap": (_archive(_Made(central=(_CRC, 7, 7), local=(_CRC, 7, 7)), _TWO), "overlaps its neighbour"),
    "into the directory": (_archive(_Made(central=(_CRC, 7, 7), local=(_CRC, 7, 7))), "overlaps its neighbour or"),
    "descriptor missing": (_archive(replace(_FLAG8, descriptor=b""), _TWO), "descriptor it announces"),
    "descriptor missing at the end": (
        _archive(replace(_FLAG8, descriptor=b"")),
        "descriptor it announces",
    ),
    "descriptor without signature": (
        _archive(replace(_FLAG8, descriptor=_FLAG8.descriptor[4:]), _TWO),
        "descriptor it announces",
    ),
    "descriptor with another CRC": (
        _archive(replace(_FLAG8, descriptor=struct.pack("<4sLLL", b"PK\x07\x08", 1, 6, 6))),
        "descriptor it announces",
    ),
    "header behind the end": (_archive(_Made(header=1 << 20)), "behind the end"),
    "header in the middle": (_archive(_Made(header=3)), "no header where"),
    "up and out": (_archive(_Made(name=b"r/../../x")), "leaves the archive"),
    "absolute": (_archive(_Made(name=b"/etc/x")), "leaves the archive"),
    "backslash": (_archive(_Made(name=b"r\\..\\x")), "leaves the archive"),
    "count too small": (_archive(_Made(), _TWO, end={"here": 1, "count": 1}), "holds more than the 1 records"),
    "count too large": (_archive(_Made(), end={"here": 2, "count": 2}), "ends early"),
    "length too small": (_archive(_Made(), end={"length": 50}), "does not lie where"),
    "start too small": (_archive(_Made(), end={"start": 5}), "does not lie where"),
    "start and length shifted": (_archive(_Made(), end={"start": 45, "length": 57}), "damaged at byte 45"),
    "zip64 end missing": (_archive(_Made(), end={"count": 0xFFFF, "here": 0xFFFF}), "zip64 end record is missing"),
    "zip64 end elsewhere": (_archive(_Made(), zip64={"at": 3}), "does not lie where its locator"),
    "zip64 end contradicts": (_archive(_Made(), _TWO, end={"here": 1, "count": 1}, zip64={}), "contradict each other"),
    "zip64 end starts elsewhere": (_archive(_Made(), end={"start": 0}, zip64={}), "contradict each other"),
    "zip64 count": (_archive(_Made(), end={"here": 0xFFFF, "count": 0xFFFF}, zip64={"here": 9, "count": 9}), "early"),
    "zip64 field missing": (_archive(_Made(central=(_CRC, _MAX32, _MAX32))), "contradicts|no header|overlaps"),
    "zip64 field cut": (
        _archive(_Made(central=(_CRC, _MAX32, _MAX32), central_extra=struct.pack("<HHQ", 1, 8, 6))),
        "damaged zip64 field",
    ),
    "name not UTF-8": (_archive(_Made(name=b"r/\xff", flags=0x800)), "not UTF-8"),
    "name that moves the cursor": (_archive(_Made(name=b"\x1b[2J/../x\n")), r"\\x1b\[2J/\.\./x\\n leaves"),
}
_UNSUPPORTED = {
    "encrypted": (_archive(_Made(flags=1)), "encrypted or uses compression method 0"),
    "strongly encrypted": (_archive(_Made(flags=0x41)), "encrypted"),
    "patch data": (_archive(_Made(flags=0x20)), "encrypted"),
    "bzip2": (_archive(_Made(method=12)), "compression method 12"),
    "zstd": (_archive(_Made(method=93)), "compression method 93"),
    "record of disk 1": (_archive(_Made(disk=1)), "encrypted or uses"),
    "end on disk 1": (_archive(_Made(), end={"disk": 1}), "several parts"),
    "start on disk 1": (_archive(_Made(), end={"first": 1}), "several parts"),
    "fewer records here": (_archive(_Made(), _TWO, end={"here": 1}), "several parts"),
    "zip64 end on disk 1": (_archive(_Made(), zip64={"disk": 1}), "several parts"),
}


def _refused(path: Path, data: bytes, kind: type[DamagedError], pattern: str) -> None:
    with pytest.raises(DamagedError, match=pattern) as caught:
        _read(path, data)
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("case", _DAMAGED)
def test_contradictions_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    _refused(tmp_path / "m", *_DAMAGED[case][:1], DamagedError, _DAMAGED[case][1])


@pytest.mark.parametrize("case", _UNSUPPORTED)
def test_what_torch_never_writes_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    _refused(tmp_path / "m", *_UNSUPPORTED[case][:1], UnsupportedError, _UNSUPPORTED[case][1])


def test_truncation_at_every_byte_is_refused(tmp_path: Path) -> None:
    for good in (_GOOD["zip64 end"], _GOOD["descriptor of 64 bits"]):
        for length in range(len(good)):
            with pytest.raises(DamagedError):
                _read(tmp_path / "m", good[:length])


def test_a_changed_byte_of_a_header_is_refused_or_means_nothing(tmp_path: Path) -> None:
    """Whatever is still read has the same records: names, places, sizes and CRCs."""
    good = _GOOD["zip64 record"]
    expected = [(r.name, r.offset, r.size, r.crc) for r in _read(tmp_path / "m", good).records]
    for at in range(len(good)):
        for flip in (1, 0x80):
            data = good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :]
            try:
                records = _read(tmp_path / "m", data).records
            except DamagedError:
                continue
            assert [(r.name, r.offset, r.size, r.crc) for r in records] == expected, at


def test_a_zip_is_known_by_its_first_bytes() -> None:
    assert looks_like_zip(_GOOD["plain"])
    assert looks_like_zip(_GOOD["no records"])
    assert not looks_like_zip(b"PK")
    assert not looks_like_zip(b"xPK\x03\x04")
