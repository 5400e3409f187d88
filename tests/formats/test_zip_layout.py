"""Laying a torch archive's own records out again gives that archive, byte for byte."""

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunecli.formats.io.pieces import Copy, Deferred, Literal, Piece
from prunecli.formats.io.source import open_source
from prunecli.formats.torch.zip_directory import read_directory
from prunecli.formats.torch.zip_layout import ALIGNMENT, NewRecord, lay_out


def _joined(pieces: Iterable[Piece]) -> bytes:
    out = bytearray()
    for piece in pieces:
        assert isinstance(piece, Literal | Deferred)
        data = piece.data if isinstance(piece, Literal) else piece.render()
        assert len(data) == piece.length
        out += data
    return bytes(out)


def _laid_out_again(path: Path, alignment: int = ALIGNMENT) -> bytes:
    with open_source(path) as source:
        contents = [(record.name, source.read(record.offset, record.size)) for record in read_directory(source).records]
    return _joined(lay_out([NewRecord(name, [Literal(data)]) for name, data in contents], alignment))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=90), st.integers(0, 200), max_size=30),
    st.integers(1, 200),
)
def test_torchs_files_come_out_byte_for_byte(tmp_path: Path, sizes: dict[str, int], length: int) -> None:
    path = tmp_path / ("m" * length + ".pt")
    torch.save({name: torch.ones(size, dtype=torch.uint8) for name, size in sizes.items()}, path)
    assert _laid_out_again(path) == path.read_bytes()


@pytest.mark.parametrize("name", ["häß模型.pt", "a b.ckpt", "x.tar.gz"])
def test_whatever_the_root_folder_is_called(tmp_path: Path, name: str) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / name)
    assert _laid_out_again(tmp_path / name) == (tmp_path / name).read_bytes()


def test_thousands_of_tensors_and_one_of_a_megabyte(tmp_path: Path) -> None:
    path, state = tmp_path / "m.pt", {str(i): torch.full((i % 5,), float(i)) for i in range(2000)}
    torch.save(state | {"large": torch.ones(1 << 18)}, path)
    assert _laid_out_again(path) == path.read_bytes()


def test_a_buffer_and_another_alignment(tmp_path: Path) -> None:
    from torch.utils.serialization import config

    path, buffer = tmp_path / "m", io.BytesIO()
    torch.save({"w": torch.ones(3), "e": torch.empty(0), "v": torch.ones(5, 5)}, buffer)
    path.write_bytes(buffer.getvalue())
    assert _laid_out_again(path) == buffer.getvalue()
    before = config.save.storage_alignment
    config.save.storage_alignment = 4096
    try:
        torch.save({"w": torch.ones(3), "e": torch.empty(0), "v": torch.ones(5, 5)}, path)
    finally:
        config.save.storage_alignment = before
    assert _laid_out_again(path, 4096) == path.read_bytes()


# From torch.save of {"s": arange(5), "big": zeros(2**32 + 7, dtype=uint8), "e": empty(0), "t": arange(7.),
# "u": ones(3, 3)} to big.pt with torch 2.13: name, size, CRC-32 of each record.
_BIG = [
    ("data.pkl", 445, 0x00CEF953),
    (".format_version", 1, 0x83DCEFB7),
    (".storage_alignment", 2, 0xE971773F),
    ("byteorder", 6, 0x19E33D85),
    ("data/0", 40, 0x6C8F4E1C),
    ("data/1", (1 << 32) + 7, 0x6522DF69),
    ("data/2", 0, 0),
    ("data/3", 28, 0x3A8858ED),
    ("data/4", 36, 0x2EC9AF77),
    ("version", 2, 0x55679ED1),
    (".data/serialization_id", 40, 0xC7613F61),
]
_BIG_LOCAL = {  # without the padding
    "data/0": "504b0304000008080000000000000000000000000000000000000a0042006269672f646174612f3046423e00",
    "data/1": "504b0304000008080000000000000000000000000000000000000a0020006269672f646174612f31"
    "010010000700000001000000000000000000000046420800",
    "data/2": "504b0304000000080000000000000000000000000000000000000a0039006269672f646174612f32"
    "010008009f0400000100000046422900",
    "data/3": "504b0304000008080000000000000000000000000000000000000a0018006269672f646174612f33"
    "01000800000500000100000046420800",
    "data/4": "504b0304000008080000000000000000000000000000000000000a0024006269672f646174612f34"
    "01000800740500000100000046421400",
}
_BIG_DESCRIPTOR = {
    "data/0": "504b07081c4e8f6c2800000028000000",
    "data/1": "504b070869df226507000000010000000700000001000000",
    "data/3": "504b0708ed58883a1c000000000000001c00000000000000",
    "data/4": "504b070877afc92e24000000000000002400000000000000",
    ".data/serialization_id": "504b0708613f61c728000000000000002800000000000000",
}
_BIG_END = (
    "504b06062c000000000000001e032d0000000000000000000b000000000000000b00000000000000e302000000000000"
    "0007000001000000504b060700000000e30900000100000001000000504b0506000000000b000b00e3020000ffffffff0000"
)


def _pieces_around(payloads: Sequence[tuple[str, int, int]]) -> list[Piece]:
    """Lay out records that nobody has to write to know the bytes around them, of these sizes and checksums."""
    pieces = list(lay_out([NewRecord(f"big/{name}", [Copy(0, size)]) for name, size, _ in payloads]))
    copies = (piece for piece in pieces if isinstance(piece, Copy))
    for (_, size, crc), piece in zip(payloads, copies, strict=True):
        assert piece.after is not None
        piece.after.add((0, crc, size))
    return pieces


def _around(pieces: Sequence[Piece]) -> list[bytes]:
    """What stands between the payloads."""
    runs = [b""]
    for piece in pieces:
        if isinstance(piece, Copy):
            runs.append(b"")
        elif isinstance(piece, Literal | Deferred):
            runs[-1] += piece.data if isinstance(piece, Literal) else piece.render()
    return runs


def test_the_bytes_around_four_gigabytes_are_torchs() -> None:
    pieces = _pieces_around(_BIG)
    runs = _around(pieces)
    assert sum(piece.length for piece in pieces) == 4294969925  # the size of torch's file
    headers = [runs[0]]
    for (name, size, _), run in zip(_BIG, runs[1:], strict=True):
        length = len(_BIG_DESCRIPTOR.get(name, "")) // 2 or (16 if size and name != "version" else 24 * bool(size))
        if name in _BIG_DESCRIPTOR:
            assert run[:length].hex() == _BIG_DESCRIPTOR[name]
        headers.append(run[length:])
    for (name, _, _), header in zip(_BIG, headers, strict=False):
        if name in _BIG_LOCAL:
            assert header.rstrip(b"Z").hex() == _BIG_LOCAL[name]
    directory = headers[-1]
    assert (len(directory), zlib.crc32(directory)) == (837, 571772034)
    assert directory[-98:].hex() == _BIG_END


def test_payloads_are_aligned_and_an_archive_may_be_empty() -> None:
    data = _joined(lay_out([NewRecord("r/a", [Literal(b"abc")]), NewRecord("r/b", [Literal(b"d")])]))
    assert data.index(b"abc") % ALIGNMENT == 0
    assert data.index(b"d", data.index(b"abc")) % ALIGNMENT == 0
    assert struct.unpack("<4s4H2LH", _joined(lay_out([]))[-22:]) == (b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)
