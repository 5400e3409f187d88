"""Checksums fold from parts in any order to what zlib says of the whole."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunecli.errors import DamagedError
from prunecli.formats.crc import combine
from prunecli.formats.io.pieces import Checksum, Deferred


@given(st.lists(st.binary(max_size=40)), st.randoms())
def test_parts_in_any_order_fold_to_zlibs_crc32(parts: list[bytes], random: object) -> None:
    whole = b"".join(parts)
    places, at = [], 0
    for part in parts:
        places.append((at, part))
        at += len(part)
    random.shuffle(places)  # type: ignore[attr-defined]
    checksum = Checksum(len(whole), zlib.crc32(whole))
    for start, part in places:
        checksum.add((start, zlib.crc32(part), len(part)))
    assert checksum.ready
    assert checksum.value == zlib.crc32(whole)


def test_an_empty_record_is_ready_at_once_with_crc_zero() -> None:
    assert Checksum(0).ready
    assert Checksum(0).value == zlib.crc32(b"") == 0


def test_it_is_not_ready_before_all_bytes_were_seen() -> None:
    checksum = Checksum(3)
    checksum.add((2, zlib.crc32(b"c"), 1))
    assert not checksum.ready
    checksum.add((0, zlib.crc32(b"ab"), 2))
    assert checksum.ready


def _zeros_crc(length: int) -> int:
    """CRC-32 of that many zero bytes by polynomial arithmetic, bit by bit squared: no code of prunecli's."""

    def times(a: int, b: int) -> int:
        product = 0
        for _ in range(32):
            if a & 0x80000000:
                product ^= b
            a = a << 1 & 0xFFFFFFFF
            b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
        return product

    power, square, exponent = 0x80000000, 0x40000000, 8 * length  # reflected: 1 and x
    while exponent:
        if exponent & 1:
            power = times(power, square)
        square, exponent = times(square, square), exponent >> 1
    return times(power, 0xFFFFFFFF) ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
def test_the_oracle_for_long_lengths_is_right_for_short_ones(length: int) -> None:
    assert _zeros_crc(length) == zlib.crc32(bytes(length))


@given(st.integers(0, 1 << 45), st.integers(0, 1 << 45), st.binary(max_size=20))
def test_combining_lengths_that_no_test_could_write(first: int, second: int, head: bytes) -> None:
    assert combine(_zeros_crc(first), _zeros_crc(second), second) == _zeros_crc(first + second)
    left = combine(combine(zlib.crc32(head), _zeros_crc(first), first), _zeros_crc(second), second)
    assert left == combine(zlib.crc32(head), _zeros_crc(first + second), first + second)


def test_a_wrong_record_is_damage_that_names_it() -> None:
    checksum = Checksum(2, zlib.crc32(b"ab"), "m.pt: record m/data/0")
    checksum.add((0, zlib.crc32(b"a"), 1))
    with pytest.raises(DamagedError, match=r"^m\.pt: record m/data/0 is damaged: its CRC-32 is [0-9a-f]{8}, recorded"):
        checksum.add((1, zlib.crc32(b"x"), 1))


def test_deferred_is_ready_with_the_last_of_its_checksums() -> None:
    one, two = Checksum(1), Checksum(1)
    deferred = Deferred(4, lambda: b"abcd", (one, two))
    one.add((0, 0, 1))
    assert not deferred.ready
    two.add((0, 0, 1))
    assert deferred.ready
