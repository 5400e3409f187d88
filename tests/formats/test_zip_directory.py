"""The strict zip directory: zipfile's view of good archives; what two readers may read differently is refused."""

import io
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zip_by_hand import CRC, FLAG8, MAX32, PLAIN, TWO, WIDE, Made, archive

from prunecli.errors import DamagedError
from prunecli.formats.io.source import open_source
from prunecli.formats.torch.signatures import looks_like_zip
from prunecli.formats.torch.zip_directory import Directory, read_directory


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


WORDS = st.text("abz019", min_size=1, max_size=9)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(WORDS | st.tuples(WORDS, WORDS).map("/".join), st.binary(max_size=90)),
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


_GOOD = {
    "plain": PLAIN,
    "no records": archive(),
    "descriptor": archive(FLAG8, TWO),
    "descriptor, sizes given twice": archive(replace(FLAG8, local=(CRC, 6, 6))),
    "descriptor of 64 bits": archive(replace(FLAG8, descriptor=struct.pack("<4sLQQ", b"PK\x07\x08", CRC, 6, 6)), TWO),
    "zip64 record": archive(
        Made(central=(CRC, MAX32, MAX32), central_extra=WIDE, local=(CRC, MAX32, MAX32), local_extra=WIDE)
    ),
    "zip64 offset only": archive(TWO, Made(header=MAX32, central_extra=struct.pack("<HHQ", 1, 8, 41))),
    "zip64 behind another field": archive(
        Made(central=(CRC, MAX32, MAX32), central_extra=struct.pack("<HHL", 0x5455, 4, 7) + WIDE)
    ),
    "zip64 end": archive(Made(), TWO, zip64={}),
    "zip64 end, saturated": archive(
        Made(), TWO, end={"here": 0xFFFF, "count": 0xFFFF, "length": MAX32, "start": MAX32}, zip64={}
    ),
    "a record's comment": archive(Made(comment=b"PK\x01\x02")),
}


@pytest.mark.parametrize("case", _GOOD)
def test_what_is_made_by_hand_and_right_is_read(tmp_path: Path, case: str) -> None:
    path = tmp_path / "m"
    path.write_bytes(_GOOD[case])
    _assert_zipfiles_view(path)


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
