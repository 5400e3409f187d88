"""Zip archives that two readers could understand differently, or that lie about what is where."""

import io
import struct
import zipfile
import zlib
from dataclasses import replace

from hostile_corpus import accepted, refused
from hostile_makers import PLAIN_PICKLE, STORAGE, saved, zipped
from zip_by_hand import CRC, FLAG8, MAX32, PLAIN, TWO, Made, archive

PICKLE = Made(name=b"m/data.pkl", data=PLAIN_PICKLE)
WEIGHT = Made(name=b"m/data/0", data=STORAGE)
VERSION = Made(name=b"m/version", data=b"3\n")


def _as_folder(data: bytes) -> bytes:
    at = data.index(b"PK\x01\x02") + 38
    return data[:at] + b"\x10" + data[at + 1 :]


@refused(4, "too short", family="zip")
def too_short() -> bytes:
    return b"PK\x05\x06"


@refused(4, "is not a checkpoint; prunecli reads", family="zip")
def junk_before() -> bytes:
    return b"junk" + PLAIN


@refused(4, "does not lie where", family="zip")
def a_zip_before_the_zip() -> bytes:
    return PLAIN + PLAIN


@refused(4, "is not a checkpoint; prunecli reads", family="zip")
def junk_before_offsets_moved() -> bytes:
    return archive(replace(Made(), before=b"junk"), TWO)


@refused(4, "belong to no record", family="zip")
def junk_between() -> bytes:
    return archive(Made(), replace(TWO, before=b"x"))


@refused(4, "belong to no record", family="zip")
def junk_before_the_directory() -> bytes:
    return archive(Made(descriptor=b"x"))


@refused(4, "at its end", family="zip")
def junk_behind() -> bytes:
    return PLAIN + b"\0"


@refused(4, "at its end", family="zip")
def comment() -> bytes:
    return archive(Made(), end={"comment": 3}) + b"abc"


@refused(4, "at its end", family="zip")
def comment_that_is_announced() -> bytes:
    return archive(Made(), end={"comment": 3})


@refused(4, "two of its zip records have one name", family="zip")
def two_names() -> bytes:
    return archive(Made(), Made())


@refused(4, "two of its zip records", family="zip")
def two_names_but_for_case() -> bytes:
    return archive(Made(), Made(name=b"R/Data.PKL"))


@refused(4, "two of its zip records", family="zip")
def two_names_but_for_ss() -> bytes:
    return archive(Made(name="r/ß".encode(), flags=0x800), Made(name=b"r/SS"))


@refused(4, "contradicts the zip directory|no header", family="zip")
def two_records_at_one_place() -> bytes:
    return archive(Made(), replace(TWO, header=0))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_name() -> bytes:
    return archive(Made(local_name=b"r/datb.pkl"))


@refused(4, "no header where", family="zip")
def a_longer_local_name() -> bytes:
    return archive(Made(local_name=b"r/data.pkl2"))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_method() -> bytes:
    return archive(Made(local_method=8))


@refused(4, "contradicts the zip directory", family="zip")
def other_local_flags() -> bytes:
    return archive(Made(local_flags=0x800))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_crc() -> bytes:
    return archive(Made(local=(1, 6, 6)))


@refused(4, "contradicts the zip directory", family="zip")
def no_local_crc() -> bytes:
    return archive(Made(local=(0, 6, 6)))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_size() -> bytes:
    return archive(Made(local=(CRC, 6, 7)))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_stored_size() -> bytes:
    return archive(Made(local=(CRC, 5, 6)))


@refused(4, "contradicts the zip directory", family="zip")
def no_local_sizes() -> bytes:
    return archive(Made(local=(CRC, 0, 0)))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_size_before_a_descriptor() -> bytes:
    return archive(replace(FLAG8, local=(0, 5, 5)))


@refused(4, "contradicts the zip directory", family="zip")
def another_local_size_in_zip64() -> bytes:
    return archive(Made(local=(CRC, MAX32, MAX32), local_extra=struct.pack("<HHQQ", 1, 16, 7, 6)))


@refused(4, "no header where", family="zip")
def local_extra_behind_the_end() -> bytes:
    return archive(Made())[:28] + b"\xff\xff" + archive(Made())[30:]


@refused(4, "contradicts itself", family="zip")
def stored_sizes_differ() -> bytes:
    return archive(Made(central=(CRC, 6, 7), local=(CRC, 6, 7)))


@refused(4, "contradicts itself", family="zip")
def a_size_of_exabytes() -> bytes:
    return archive(Made(central=(CRC, 6, MAX32), central_extra=struct.pack("<HHQ", 1, 8, 1 << 62)))


@refused(4, "has bytes, but is marked as a folder", family="zip")
def a_folder_with_bytes() -> bytes:
    return _as_folder(archive(Made()))


@refused(4, "contradicts itself", family="zip")
def a_crc_of_nothing() -> bytes:
    return archive(Made(data=b"", central=(5, 0, 0), local=(5, 0, 0)))


@refused(4, "overlaps its neighbour", family="zip")
def overlap() -> bytes:
    return archive(Made(central=(CRC, 7, 7), local=(CRC, 7, 7)), TWO)


@refused(4, "overlaps its neighbour or", family="zip")
def into_the_directory() -> bytes:
    return archive(Made(central=(CRC, 7, 7), local=(CRC, 7, 7)))


@refused(4, "descriptor it announces", family="zip")
def descriptor_missing() -> bytes:
    return archive(replace(FLAG8, descriptor=b""), TWO)


@refused(4, "descriptor it announces", family="zip")
def descriptor_missing_at_the_end() -> bytes:
    return archive(replace(FLAG8, descriptor=b""))


@refused(4, "descriptor it announces", family="zip")
def descriptor_without_signature() -> bytes:
    return archive(replace(FLAG8, descriptor=FLAG8.descriptor[4:]), TWO)


@refused(4, "descriptor it announces", family="zip")
def descriptor_with_another_crc() -> bytes:
    return archive(replace(FLAG8, descriptor=struct.pack("<4sLLL", b"PK\x07\x08", 1, 6, 6)))


@refused(4, "behind the end", family="zip")
def header_behind_the_end() -> bytes:
    return archive(Made(header=1 << 20))


@refused(4, "no header where", family="zip")
def header_in_the_middle() -> bytes:
    return archive(Made(header=3))


@refused(4, "leaves the archive", family="zip")
def up_and_out() -> bytes:
    return archive(Made(name=b"r/../../x"))


@refused(4, "leaves the archive", family="zip")
def absolute() -> bytes:
    return archive(Made(name=b"/etc/x"))


@refused(4, "leaves the archive", family="zip")
def backslash() -> bytes:
    return archive(Made(name=b"r\\..\\x"))


@refused(4, "holds more than the 1 records", family="zip")
def count_too_small() -> bytes:
    return archive(Made(), TWO, end={"here": 1, "count": 1})


@refused(4, "ends early", family="zip")
def count_too_large() -> bytes:
    return archive(Made(), end={"here": 2, "count": 2})


@refused(4, "does not lie where", family="zip")
def length_too_small() -> bytes:
    return archive(Made(), end={"length": 50})


@refused(4, "does not lie where", family="zip")
def start_too_small() -> bytes:
    return archive(Made(), end={"start": 5})


@refused(4, "damaged at byte 45", family="zip")
def start_and_length_shifted() -> bytes:
    return archive(Made(), end={"start": 45, "length": 57})


@refused(4, "zip64 end record is missing", family="zip")
def zip64_end_missing() -> bytes:
    return archive(Made(), end={"count": 0xFFFF, "here": 0xFFFF})


@refused(4, "does not lie where its locator", family="zip")
def zip64_end_elsewhere() -> bytes:
    return archive(Made(), zip64={"at": 3})


@refused(4, "contradict each other", family="zip")
def zip64_end_contradicts() -> bytes:
    return archive(Made(), TWO, end={"here": 1, "count": 1}, zip64={})


@refused(4, "contradict each other", family="zip")
def zip64_end_starts_elsewhere() -> bytes:
    return archive(Made(), end={"start": 0}, zip64={})


@refused(4, "early", family="zip")
def zip64_count() -> bytes:
    return archive(Made(), end={"here": 0xFFFF, "count": 0xFFFF}, zip64={"here": 9, "count": 9})


@refused(4, "contradicts|no header|overlaps", family="zip")
def zip64_field_missing() -> bytes:
    return archive(Made(central=(CRC, MAX32, MAX32)))


@refused(4, "damaged zip64 field", family="zip")
def zip64_field_cut() -> bytes:
    return archive(Made(central=(CRC, MAX32, MAX32), central_extra=struct.pack("<HHQ", 1, 8, 6)))


@refused(4, "not UTF-8", family="zip")
def name_not_utf_8() -> bytes:
    return archive(Made(name=b"r/\xff", flags=0x800))


@refused(4, r"\\x1b\[2J/\.\./x\\n leaves", family="zip")
def name_that_moves_the_cursor() -> bytes:
    return archive(Made(name=b"\x1b[2J/../x\n"))


@refused(4, "encrypted or uses compression method 0", family="zip")
def encrypted() -> bytes:
    return archive(Made(flags=1))


@refused(4, "encrypted", family="zip")
def strongly_encrypted() -> bytes:
    return archive(Made(flags=0x41))


@refused(4, "encrypted", family="zip")
def patch_data() -> bytes:
    return archive(Made(flags=0x20))


@refused(4, "compression method 12", family="zip")
def bzip2() -> bytes:
    return archive(Made(method=12))


@refused(4, "compression method 93", family="zip")
def zstd() -> bytes:
    return archive(Made(method=93))


@refused(4, "encrypted or uses", family="zip")
def record_of_disk_1() -> bytes:
    return archive(Made(disk=1))


@refused(4, "several parts", family="zip")
def end_on_disk_1() -> bytes:
    return archive(Made(), end={"disk": 1})


@refused(4, "several parts", family="zip")
def start_on_disk_1() -> bytes:
    return archive(Made(), end={"first": 1})


@refused(4, "several parts", family="zip")
def fewer_records_here() -> bytes:
    return archive(Made(), TWO, end={"here": 1})


@refused(4, "several parts", family="zip")
def zip64_end_on_disk_1() -> bytes:
    return archive(Made(), zip64={"disk": 1})


@refused(4, "has a name that readers take differently", family="zip")
def a_name_with_a_nul() -> bytes:
    """Zipfile ends the name there, torch does not."""
    return archive(PICKLE, WEIGHT, Made(name=b"m/data.pkl\0x", data=b"N."))


@refused(4, "has a name that readers take differently", family="zip")
def an_empty_part_in_a_name() -> bytes:
    return archive(PICKLE, WEIGHT, Made(name=b"m//data/0", data=STORAGE))


@refused(4, "has a name that readers take differently", family="zip")
def a_dot_in_a_name() -> bytes:
    return archive(PICKLE, WEIGHT, Made(name=b"m/./data/0", data=STORAGE))


@refused(4, "two of its zip records have one name", family="zip")
def one_name_with_the_flag_of_utf_8_and_without() -> bytes:
    """Torch compares the bytes; zipfile reads one as UTF-8 and one as code page 437."""
    name = "m/data/é".encode()
    return archive(PICKLE, WEIGHT, Made(name=name, data=STORAGE, flags=0x800), Made(name=name, data=b"other"))


@refused(4, "encrypted or uses", family="zip")
def a_level_of_compression_for_what_is_stored() -> bytes:
    return archive(PICKLE, replace(WEIGHT, flags=2))


@refused(4, "encrypted or uses", family="zip")
def a_masked_header() -> bytes:
    return archive(PICKLE, replace(WEIGHT, flags=0x2000))


@refused(4, "encrypted or uses compression method 99", family="zip")
def aes() -> bytes:
    return archive(PICKLE, replace(WEIGHT, method=99))


@refused(4, "its zip holds records outside m/", family="zip")
def another_top_folder() -> bytes:
    return archive(PICKLE, WEIGHT, Made(name=b"n/version", data=b"3\n"))


@refused(4, "without one data.pkl", family="zip")
def two_data_pkl() -> bytes:
    return archive(PICKLE, WEIGHT, replace(PICKLE, name=b"n/data.pkl"))


@refused(4, "without one data.pkl", family="zip")
def data_pkl_at_the_top() -> bytes:
    return archive(replace(PICKLE, name=b"data.pkl"), replace(WEIGHT, name=b"data/0"))


@refused(4, "CRC-32 is wrong", family="zip")
def a_bit_of_the_pickle_flipped() -> bytes:
    data = bytearray(zipped(PLAIN_PICKLE))
    data[data.index(b"storage") + 1] ^= 1
    return bytes(data)


@refused(4, "(record m/data/0|w) is damaged: its CRC-32 is", family="zip", but={"params": 0})
def a_bit_of_a_weight_flipped() -> bytes:
    """Params shows names and shapes, and reads no weight."""
    data = bytearray(zipped(PLAIN_PICKLE))
    data[data.index(STORAGE) + 1] ^= 1
    return bytes(data)


@refused(4, "record m/version is damaged: its CRC-32 is", family="zip", but={"params": 0, "report": 0})
def a_bit_of_what_is_carried_flipped() -> bytes:
    """Only a copy reads what is no weight."""
    data = bytearray(zipped(PLAIN_PICKLE))
    data[data.index(b"3\n")] ^= 1
    return bytes(data)


@refused(4, "record m/version is damaged, its CRC-32 is wrong", family="zip")
def a_bit_of_the_version_flipped_so_that_it_is_none() -> bytes:
    data = bytearray(zipped(PLAIN_PICKLE))
    data[data.index(b"3\n")] ^= 16
    return bytes(data)


@refused(5, "compressed records unpack to more than", family="zip")
def a_deflated_weight_of_nothing_but_zeros() -> bytes:
    return zipped(PLAIN_PICKLE, {"data/1": bytes(64 << 20)}, deflated={"data/1"})


@refused(5, "data.pkl unpacks to 6 MiB, far more than its size", family="zip")
def a_deflated_pickle_of_nothing_but_pops() -> bytes:
    return zipped(b"\x80\x02" + b"N0" * (3 << 20) + b"N.", deflated={"data.pkl"})


@refused(4, "16 bytes, the pickle expects|storage 0 has", family="zip")
def a_weight_that_is_shorter_than_the_pickle_says() -> bytes:
    return archive(PICKLE, replace(WEIGHT, data=STORAGE[:12]))


@refused(4, "storage 0 is missing", family="zip")
def a_weight_that_is_not_there() -> bytes:
    return archive(PICKLE)


@refused(4, "two of its zip records have one name", family="heavy")
def a_directory_of_60_000_records_that_are_one() -> bytes:
    """The bomb that overlaps: every entry of the directory names the same bytes."""
    one = WEIGHT.local_bytes()
    central = b"".join(replace(WEIGHT, name=b"m/data/0").central_bytes(0) for _ in range(60_000))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 60_000, 60_000, len(central), len(one), 0)
    return one + central + end


@refused(4, "ends early", family="zip")
def a_count_of_2_to_the_63() -> bytes:
    return archive(PICKLE, WEIGHT, end={"here": 0xFFFF, "count": 0xFFFF}, zip64={"here": 1 << 63, "count": 1 << 63})


@refused(4, "does not lie where|contradict", family="zip")
def a_directory_of_2_to_the_63_bytes() -> bytes:
    return archive(PICKLE, WEIGHT, end={"length": MAX32}, zip64={"length": 1 << 63})


@refused(4, "behind the end of the file", family="zip")
def a_header_at_2_to_the_63() -> bytes:
    return archive(PICKLE, replace(WEIGHT, header=MAX32, central_extra=struct.pack("<HHQ", 1, 8, 1 << 63)))


@refused(4, "zip", family="zip")
def cut_in_a_local_header() -> bytes:
    return _cut(b"PK\x03\x04", 20)


@refused(4, "zip", family="zip")
def cut_behind_the_pickle() -> bytes:
    return _cut(b"PK\x03\x04", 0)


@refused(4, "zip", family="zip")
def cut_in_a_weight() -> bytes:
    return _cut(STORAGE, 8)


@refused(4, "zip", family="zip")
def cut_in_a_descriptor() -> bytes:
    return _cut(b"PK\x07\x08", 9)


@refused(4, "zip", family="zip")
def cut_before_the_directory() -> bytes:
    return _cut(b"PK\x01\x02", 0)


@refused(4, "zip", family="zip")
def cut_in_the_directory() -> bytes:
    return _cut(b"PK\x01\x02", 50)


@refused(4, "zip", family="zip")
def cut_before_the_zip64_end() -> bytes:
    return _cut(b"PK\x06\x06", 0)


@refused(4, "zip", family="zip")
def cut_before_the_locator() -> bytes:
    return _cut(b"PK\x06\x07", 0)


@refused(4, "zip", family="zip")
def cut_before_the_end() -> bytes:
    return _cut(b"PK\x05\x06", 0)


@refused(4, "zip", family="zip")
def cut_in_the_end() -> bytes:
    return _cut(b"PK\x05\x06", 21)


@refused(4, "too short|zip", family="zip")
def cut_behind_four_bytes() -> bytes:
    return saved()[:4]


def _cut(mark: bytes, behind: int) -> bytes:
    """What torch saved, up to some bytes behind the last place where a mark stands."""
    whole = saved()
    return whole[: whole.rindex(mark) + behind]


@refused(4, "has no zip directory at its end", family="zip")
def a_comment_that_holds_another_zip() -> bytes:
    """Readers that look for the last end record, and those that look for the first, see two archives."""
    inner = zipped(PLAIN_PICKLE)
    return archive(PICKLE, WEIGHT, end={"comment": len(inner)}) + inner[:-1] + b"x"


@refused(4, "belong to no record|does not lie", family="zip")
def a_script_before_the_zip_that_is_a_record_by_its_magic() -> bytes:
    return archive(replace(PICKLE, before=b"PK\x03\x04#!/bin/sh\n"), WEIGHT)


@accepted(family="zip")
def records_with_descriptors() -> bytes:
    descriptor = struct.pack("<4sLLL", b"PK\x07\x08", zlib.crc32(STORAGE), 16, 16)
    return archive(PICKLE, replace(WEIGHT, flags=8, local=(0, 0, 0), descriptor=descriptor), VERSION)


@accepted(family="zip")
def records_with_zip64_fields_they_do_not_need() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, data in {"data.pkl": PLAIN_PICKLE, "data/0": STORAGE, "version": b"3\n"}.items():
            with target.open(zipfile.ZipInfo(f"m/{name}"), "w", force_zip64=True) as record:
                record.write(data)
    return out.getvalue()


@accepted(family="zip")
def records_without_checksums() -> bytes:
    """As torch writes them when it is told to."""
    whole = bytearray(archive(PICKLE, WEIGHT, VERSION))
    crc = struct.pack("<L", zlib.crc32(STORAGE))
    assert whole.count(crc) == 2
    return bytes(whole.replace(crc, bytes(4)))


@accepted(family="zip")
def records_in_another_order() -> bytes:
    return archive(VERSION, WEIGHT, PICKLE)


@accepted(family="zip")
def a_top_folder_of_a_strange_name() -> bytes:
    return _under("ärger [b]\u202e", 0x800)


@accepted(family="zip")
def a_top_folder_in_utf_8_without_its_flag() -> bytes:
    """As older torch wrote it."""
    return _under("ärger", 0)


def _under(top: str, flags: int) -> bytes:
    records = (PICKLE, WEIGHT, VERSION)
    return archive(*(replace(each, name=top.encode() + each.name[1:], flags=flags) for each in records))


@accepted(family="zip")
def a_record_that_no_pickle_names() -> bytes:
    return archive(PICKLE, WEIGHT, Made(name=b"m/data/1", data=b"unnamed"), VERSION)


@accepted(family="zip")
def an_empty_record() -> bytes:
    return archive(PICKLE, WEIGHT, Made(name=b"m/empty", data=b""), VERSION)


@accepted(family="zip")
def the_name_of_a_folder() -> bytes:
    return archive(Made(name=b"m/", data=b""), PICKLE, WEIGHT, VERSION)
