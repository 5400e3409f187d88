"""safetensors files that contradict themselves, that are cut, or that the library would understand otherwise."""

import json
import struct
from typing import Any

from hostile_corpus import TENSORS, accepted, refused
from hostile_makers import STORAGE, tensors, tensors_entry

_ONE = {"w": tensors_entry()}


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


@refused(4, "truncated", family="safetensors", kind=TENSORS)
def data_cut() -> bytes:
    return tensors(_ONE, bytes(7))


@refused(4, "truncated", family="safetensors", kind=TENSORS)
def data_missing() -> bytes:
    return tensors(_ONE)


@refused(4, "ends in its header", family="safetensors", kind=TENSORS)
def header_cut() -> bytes:
    return tensors(_ONE, bytes(8))[:20]


@refused(4, "1 bytes behind its last tensor", family="safetensors", kind=TENSORS)
def trailing_byte() -> bytes:
    return tensors(_ONE, bytes(9))


@refused(4, "4 bytes behind its last tensor", family="safetensors", kind=TENSORS)
def bytes_without_tensors() -> bytes:
    return tensors({}, bytes(4))


@refused(4, "gap or an overlap", family="safetensors", kind=TENSORS)
def gap() -> bytes:
    return tensors({"a": tensors_entry(), "b": tensors_entry(data_offsets=[12, 20])}, bytes(20))


@refused(4, "gap or an overlap", family="safetensors", kind=TENSORS)
def gap_at_the_start() -> bytes:
    return tensors({"a": tensors_entry(data_offsets=[4, 12])}, bytes(12))


@refused(4, "gap or an overlap", family="safetensors", kind=TENSORS)
def overlap() -> bytes:
    return tensors({"a": tensors_entry(), "b": tensors_entry(data_offsets=[4, 12])}, bytes(12))


@refused(4, "gap or an overlap", family="safetensors", kind=TENSORS)
def two_at_one_place() -> bytes:
    return tensors({"a": tensors_entry(), "b": tensors_entry()}, bytes(8))


@refused(4, "has w twice", family="safetensors", kind=TENSORS)
def repeated_name() -> bytes:
    return tensors(json.dumps(_ONE)[:-1].encode() + b"," + json.dumps(_ONE)[1:].encode(), bytes(8))


@refused(4, "has w twice", family="safetensors", kind=TENSORS)
def repeated_name_by_an_escape() -> bytes:
    return tensors(b'{"w":%b,"\\u0077":%b}' % ((json.dumps(tensors_entry()).encode(),) * 2), bytes(8))


@refused(4, "has shape twice", family="safetensors", kind=TENSORS)
def repeated_field() -> bytes:
    return tensors(b'{"w":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}', bytes(8))


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def no_json() -> bytes:
    return tensors(b"{w}")


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def json_and_more() -> bytes:
    return tensors(json.dumps(_ONE).encode() + b"x", bytes(8))


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def not_utf_8() -> bytes:
    return tensors(b'{"\xff":1}')


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def deep_nesting() -> bytes:
    return tensors(b'{"w":' + b"[" * 200_000)


@refused(4, "not JSON|dtype, shape", family="safetensors", kind=TENSORS)
def deep_nesting_that_closes() -> bytes:
    return tensors(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def a_number_of_5000_digits() -> bytes:
    return tensors(b'{"w":' + b"9" * 5000 + b"}")


@refused(4, "not described by", family="safetensors", kind=TENSORS)
def entry_is_a_list() -> bytes:
    return tensors({"w": [1]})


@refused(4, "not described by", family="safetensors", kind=TENSORS)
def field_missing() -> bytes:
    return tensors({"w": {"dtype": "F32", "shape": [2]}}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_nan() -> bytes:
    return tensors(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_negative() -> bytes:
    return tensors({"w": tensors_entry(shape=[-2])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_twice_negative() -> bytes:
    return tensors({"w": tensors_entry(shape=[-2, -1])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_float() -> bytes:
    return tensors({"w": tensors_entry(shape=[2.0])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_bool() -> bytes:
    return tensors({"w": tensors_entry(shape=[True, 2])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_text() -> bytes:
    return tensors({"w": tensors_entry(shape="2")}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def shape_huge() -> bytes:
    return tensors({"w": tensors_entry(shape=[1 << 63])}, bytes(8))


@refused(4, "8 bytes for", family="safetensors", kind=TENSORS)
def shape_huge_product() -> bytes:
    return tensors({"w": tensors_entry(shape=[1 << 62, 1 << 62])}, bytes(8))


@refused(4, "refused by the safetensors library", family="safetensors", kind=TENSORS)
def shape_huge_and_empty() -> bytes:
    return tensors({"w": tensors_entry(shape=[1 << 62, 1 << 62, 0], data_offsets=[0, 0])})


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def too_many_dimensions() -> bytes:
    return tensors({"w": tensors_entry(shape=[1] * 64 + [2])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_nan() -> bytes:
    return tensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[NaN,8]}}', bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_infinite() -> bytes:
    return tensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,1e999]}}', bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_negative() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[-8, 0])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_float() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[0, 8.0])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_bool() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[False, 8])}, bytes(8))


@refused(4, "not whole numbers", family="safetensors", kind=TENSORS)
def offsets_three() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[0, 8, 16])}, bytes(8))


@refused(4, "behind the end", family="safetensors", kind=TENSORS)
def offsets_huge() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[1 << 62, (1 << 62) + 8])}, bytes(8))


@refused(4, "-8 bytes for 2 elements", family="safetensors", kind=TENSORS)
def offsets_backwards() -> bytes:
    return tensors({"w": tensors_entry(data_offsets=[8, 0])}, bytes(8))


@refused(4, "8 bytes for 3 elements of float32", family="safetensors", kind=TENSORS)
def wrong_size() -> bytes:
    return tensors({"w": tensors_entry(shape=[3])}, bytes(8))


@refused(4, "1 bytes for 3", family="safetensors", kind=TENSORS)
def half_a_byte() -> bytes:
    return tensors({"w": tensors_entry(dtype="F4", shape=[3], data_offsets=[0, 1])}, bytes(1))


@refused(4, "its __metadata__ is not a mapping from strings to strings", family="safetensors", kind=TENSORS)
def metadata_of_numbers() -> bytes:
    return tensors({"__metadata__": {"a": 1}})


@refused(4, "its __metadata__ is not a mapping from strings to strings", family="safetensors", kind=TENSORS)
def metadata_is_a_list() -> bytes:
    return tensors({"__metadata__": []})


@refused(4, "refused by the safetensors library", family="safetensors", kind=TENSORS)
def lone_surrogate() -> bytes:
    return tensors({"\ud800": tensors_entry()}, bytes(8))


@refused(4, r"\\x1b\[2J\\nw has 8", family="safetensors", kind=TENSORS)
def a_name_that_moves_the_cursor() -> bytes:
    return tensors({"\x1b[2J\nw": tensors_entry(shape=[3])}, bytes(8))


@refused(4, "element type F12", family="safetensors", kind=TENSORS)
def unknown_dtype() -> bytes:
    return tensors({"w": tensors_entry(dtype="F12")}, bytes(8))


@refused(4, "element type f32", family="safetensors", kind=TENSORS)
def dtype_in_small_letters() -> bytes:
    return tensors({"w": tensors_entry(dtype="f32")}, bytes(8))


@refused(4, "element type 3", family="safetensors", kind=TENSORS)
def dtype_is_a_number() -> bytes:
    return tensors({"w": tensors_entry(dtype=3)}, bytes(8))


@refused(4, "has the element type a list", family="safetensors", kind=TENSORS)
def dtype_is_too_deep_to_spell() -> bytes:
    return tensors({"w": tensors_entry(dtype=_deep(400))}, bytes(8))


@refused(4, "element type", family="safetensors", kind=TENSORS)
def dtype_is_a_list() -> bytes:
    return tensors({"w": tensors_entry(dtype=["F32"])}, bytes(8))


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def length_cut() -> bytes:
    return tensors(_ONE, bytes(8))[:7]


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def length_alone() -> bytes:
    return tensors(_ONE, bytes(8))[:8]


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def more_than_100_mb_of_header() -> bytes:
    return (100_000_001).to_bytes(8, "little") + b"{}"


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def header_is_a_list() -> bytes:
    return tensors([])


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def header_begins_with_a_space() -> bytes:
    return tensors(b" {}")


@refused(4, "ends in its header", family="safetensors", kind=TENSORS)
def a_header_of_100_mb_that_is_not_there() -> bytes:
    return (100_000_000).to_bytes(8, "little") + b"{}"


@refused(5, "more objects than its size promises", family="safetensors", kind=TENSORS)
def a_header_of_40_mb_of_lists() -> bytes:
    return tensors(b'{"w":[' + b"[]," * 13_000_000 + b"[]]}")


@refused(5, "more objects than its size promises", family="safetensors", kind=TENSORS)
def a_header_of_40_mb_of_names() -> bytes:
    return tensors(b"{" + b",".join(b'"%d":{}' % i for i in range(3_500_000)) + b"}")


@refused(4, "has 49999 twice", family="safetensors", kind=TENSORS)
def many_names_and_the_last_one_twice() -> bytes:
    names = ",".join(f'"{i}":0' for i in range(50_000))
    return tensors(f'{{{names},"49999":0}}'.encode())


@refused(4, "not JSON|not whole numbers", family="safetensors", kind=TENSORS)
def a_shape_of_infinity() -> bytes:
    return tensors(b'{"w":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,8]}}', bytes(8))


@refused(4, "its __metadata__ is not a mapping from strings to strings", family="safetensors", kind=TENSORS)
def metadata_that_are_a_text() -> bytes:
    return tensors({"__metadata__": "x", **_ONE}, bytes(8))


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def metadata_that_are_null() -> bytes:
    """The library takes them for none, and so did a rewrite until it came to write them."""
    return tensors({"__metadata__": None, **_ONE}, b"\0\0\x80?" * 2)


@refused(4, "its __metadata__ is not a mapping from strings to strings", family="safetensors", kind=TENSORS)
def metadata_of_null() -> bytes:
    return tensors({"__metadata__": {"a": None}, **_ONE}, bytes(8))


@refused(4, "its __metadata__ is not a mapping from strings to strings", family="safetensors", kind=TENSORS)
def metadata_within_metadata() -> bytes:
    return tensors({"__metadata__": {"a": {"b": "c"}}, **_ONE}, bytes(8))


@refused(4, "has __metadata__ twice", family="safetensors", kind=TENSORS)
def metadata_twice() -> bytes:
    return tensors(b'{"__metadata__":{},"__metadata__":{"a":"b"}}')


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def a_byte_order_mark_behind_the_brace() -> bytes:
    return tensors(b'{\xef\xbb\xbf"w":1}')


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def a_nul_behind_the_header() -> bytes:
    return tensors(json.dumps(_ONE).encode() + b"\0\0\0", bytes(8))


@refused(4, "not JSON", family="safetensors", kind=TENSORS)
def a_comment_in_the_header() -> bytes:
    return tensors(b'{/* w */"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8))


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def a_length_of_2_to_the_63() -> bytes:
    return (1 << 63).to_bytes(8, "little") + b"{}" + bytes(64)


@refused(4, "is not a checkpoint; prunecli reads", family="safetensors", kind=TENSORS)
def a_big_endian_length() -> bytes:
    raw = json.dumps(_ONE).encode()
    return len(raw).to_bytes(8, "big") + raw + bytes(8)


@refused(4, "behind the end", family="safetensors", kind=TENSORS)
def offsets_of_2_to_the_62() -> bytes:
    return tensors({"w": tensors_entry(dtype="U8", shape=[1 << 62], data_offsets=[0, 1 << 62])}, bytes(8))


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def a_header_padded_with_spaces() -> bytes:
    return tensors({"w": tensors_entry(shape=[4], data_offsets=[0, 16])}, STORAGE, pad=333)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def a_header_with_every_letter_escaped() -> bytes:
    return tensors(b'{"\\u0077":{"dtype":"\\u004632","shape":[4],"data_offsets":[0,16]}}', STORAGE)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def names_of_nothing_and_of_dots() -> bytes:
    names = ("", ".", "..", "/", "a/../b", "__init__", "CON", "w.")
    entries = {name: tensors_entry(data_offsets=[8 * at, 8 * at + 8]) for at, name in enumerate(names)}
    return tensors(entries, STORAGE * 4)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def tensors_in_another_order_than_their_bytes() -> bytes:
    late, early = tensors_entry(data_offsets=[8, 16]), tensors_entry()
    return tensors({"z": late, "a": early}, STORAGE)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def a_tensor_of_no_bytes_at_the_end() -> bytes:
    empty = tensors_entry(shape=[0, 7], data_offsets=[16, 16])
    return tensors({"w": tensors_entry(shape=[4], data_offsets=[0, 16]), "e": empty}, STORAGE)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def a_scalar() -> bytes:
    scalar = tensors_entry(shape=[], data_offsets=[0, 4])
    return tensors({"s": scalar, "w": tensors_entry(data_offsets=[4, 12])}, STORAGE[:12])


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def bytes_that_are_not_aligned() -> bytes:
    flag = tensors_entry(dtype="BOOL", shape=[1], data_offsets=[0, 1])
    return tensors({"b": flag, "w": tensors_entry(shape=[4], data_offsets=[1, 17])}, b"\x01" + STORAGE)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def numbers_that_are_none() -> bytes:
    odd = struct.pack("<4f", float("nan"), float("inf"), -float("inf"), -0.0)
    return tensors({"w": tensors_entry(shape=[4], data_offsets=[0, 16])}, odd)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def metadata_that_look_like_a_tensor() -> bytes:
    odd = {"w": '{"dtype":"F32","shape":[9],"data_offsets":[0,36]}', "\x1b[2J": "\u202e"}
    return tensors({"__metadata__": odd, "w": tensors_entry(shape=[4], data_offsets=[0, 16])}, STORAGE)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def bytes_that_begin_like_a_zip() -> bytes:
    data = b"PK\x03\x04" + STORAGE[4:]
    return tensors({"w": tensors_entry(shape=[4], data_offsets=[0, 16])}, data)


@accepted(family="safetensors", reference="safetensors", kind=TENSORS)
def a_header_whose_length_is_a_pickle_s_magic() -> bytes:
    """0x0280 bytes: the file begins with the bytes of a pickle's PROTO."""
    raw = json.dumps({"w": tensors_entry(shape=[4], data_offsets=[0, 16])}).encode()
    return tensors(raw, STORAGE, pad=0x0280 - len(raw))
