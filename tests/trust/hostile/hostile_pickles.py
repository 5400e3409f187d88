"""Pickles that are none, that explode, or that only look as if they did."""

import io
import pickle
import struct

import torch
from hostile_corpus import accepted, body, odd_body, refused
from hostile_makers import beside_a_weight, legacy, remembered, tensor, text, zipped

MIB = 1 << 20


@body(4, "EXT1 at byte", family="pickle", foreign=4)
def ext1() -> bytes:
    return b"\x82\x01"


@body(4, "EXT2 at byte", family="pickle", foreign=4)
def ext2() -> bytes:
    return b"\x83\x01\x00"


@body(4, "EXT4 at byte", family="pickle", foreign=4)
def ext4() -> bytes:
    return b"\x84\x01\x00\x00\x00"


@body(4, "NEXT_BUFFER at byte", family="pickle", foreign=4)
def next_buffer() -> bytes:
    return b"\x97"


@body(4, "READONLY_BUFFER at byte", family="pickle", foreign=4)
def readonly_buffer() -> bytes:
    return b"N\x98"


@body(4, "is not an opcode of any pickle", family="pickle", foreign=4)
def an_opcode_that_there_is_not() -> bytes:
    return b"\xff"


@body(4, "takes a value where the stack has none", family="pickle", foreign=4)
def an_empty_stack() -> bytes:
    return b"\x87\x87"


@body(4, "which nothing was put under", family="pickle", foreign=4)
def a_memo_entry_that_there_is_not() -> bytes:
    return b"j\xff\xff\xff\xff"


@body(4, "needs a MARK", family="pickle", foreign=4)
def a_mark_that_there_is_not() -> bytes:
    return b"11"


@body(4, "has arguments that are not a tuple", family="pickle", foreign=4)
def a_call_of_no_tuple() -> bytes:
    return b"cevil\nC\nNR"


@body(4, "calls something that cannot be called", family="pickle", foreign=4)
def a_call_of_a_text() -> bytes:
    return text("evil") + b")R"


@body(4, "calls something that cannot be called", family="pickle", foreign=4)
def an_instance_of_a_number() -> bytes:
    return b"(K\x01o"


@body(4, "has a name that is not text", family="pickle", foreign=4)
def a_name_of_numbers() -> bytes:
    return b"K\x01K\x02\x93"


@body(4, "announces 1073741824 bytes", family="pickle", foreign=4)
def long4_of_1_gib() -> bytes:
    return b"\x8b\x00\x00\x00\x40\x01"


@body(4, "announces 9223372036854775807 bytes", family="pickle", foreign=4)
def binunicode8_of_8_eib() -> bytes:
    return b"\x8d" + b"\xff" * 7 + b"\x7f"


@body(4, "announces 18446744073709551615 bytes", family="pickle", foreign=4)
def binbytes8_of_16_eib() -> bytes:
    return b"\x8e" + b"\xff" * 8


@body(4, "announces 18446744073709551615 bytes", family="pickle", foreign=4)
def bytearray8_of_16_eib() -> bytes:
    return b"\x96" + b"\xff" * 8


@body(4, "announces 4294967295 bytes", family="pickle", foreign=4)
def binunicode_of_4_gib() -> bytes:
    return b"X\xff\xff\xff\xff"


@body(4, "announces 18446744073709551615 bytes", family="pickle", foreign=4)
def frame_that_lies() -> bytes:
    return b"\x95" + b"\xff" * 8


@body(4, "a number that cannot be read", family="pickle", foreign=4)
def a_decimal_of_100_000_digits() -> bytes:
    return b"L" + b"7" * 100_000 + b"L\n"


@body(4, "stands in the middle", family="pickle", foreign=4)
def proto_again() -> bytes:
    return b"\x80\x02N"


@body(4, "names no storage", family="pickle", foreign=4)
def a_persistent_id_that_is_a_text() -> bytes:
    return text("evil") + b"Q"


@odd_body(family="pickle", reference="")
def a_memo_index_of_a_million() -> bytes:
    return b"Nr\x40\x42\x0f\x00"


@odd_body(family="pickle", reference="")
def tuples_shared_2_to_the_14_times() -> bytes:
    return b")\x85" + b"2\x86" * 14


@odd_body(family="pickle", reference="")
def lists_shared_2_to_the_14_times() -> bytes:
    return b"]" + b"q\x000](h\x00h\x00e" * 14


@odd_body(family="pickle", reference="")
def texts_shared_2_to_the_14_times() -> bytes:
    return text("lol" * 50) + b"q\x000](h\x00h\x00eq\x000" + b"](h\x00h\x00eq\x000" * 13 + b"h\x00"


@odd_body(family="pickle", reference="")
def a_text_in_20_000_places() -> bytes:
    return text("x" * 5000) + b"q\x000(" + b"h\x00" * 20_000 + b"l"


@odd_body(family="pickle", reference="")
def dup_20_000_times() -> bytes:
    return b"(N" + b"2" * 20_000 + b"t"


@odd_body(family="pickle", reference="")
def a_long_number_in_5_000_places() -> bytes:
    return b"\x8b\x00\x10\x00\x00" + b"\x11" * 4096 + b"q\x000(" + b"h\x00" * 5000 + b"l"


@odd_body(family="pickle", reference="")
def of_20_000_memo_entries_of_one_object() -> bytes:
    return b"]" + b"".join(b"r" + struct.pack("<I", i) for i in range(20_000))


@odd_body(family="pickle", reference="")
def of_20_000_lists_deep() -> bytes:
    return b"]" * 20_000 + b"a" * 19_999


@odd_body(family="pickle", reference="")
def of_20_000_tuples_deep() -> bytes:
    return b")" + b"\x85" * 20_000


@odd_body(family="pickle", reference="")
def of_20_000_marks_deep() -> bytes:
    return b"(" * 20_000 + b"t" * 20_000


@odd_body(family="pickle", reference="")
def of_20_000_dicts_deep() -> bytes:
    return b"}K\x01" * 19_999 + b"}" + b"s" * 19_999


@odd_body(family="pickle", reference="")
def of_20_000_dicts_as_keys() -> bytes:
    return b"}" * 20_000 + b"Ns" * 19_999


@odd_body(family="pickle", reference="")
def a_list_that_contains_itself() -> bytes:
    return b"]q\x00h\x00a"


@odd_body(family="pickle", reference="")
def a_key_that_cannot_be_hashed() -> bytes:
    return b"}]Ns"


@odd_body(family="pickle", reference="")
def a_number_as_an_attribute_of_a_set() -> bytes:
    return b"c__builtin__\nset\n](NNNe\x85R"


@refused(5, "INST at byte", family="pickle", foreign=0)
def a_class_that_is_admitted_by_inst() -> bytes:
    return zipped(beside_a_weight(b"(icollections\nOrderedDict\n"))


@odd_body(family="pickle", reference="")
def a_class_that_is_admitted_and_never_called() -> bytes:
    return b"ctorch\nTensor\n"


def _alone(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


@refused(4, "asks for protocol 6", family="pickle", foreign=4)
def protocol_6() -> bytes:
    return zipped(b"\x80\x06N.")


@refused(4, "ends early, without STOP", family="pickle", foreign=4)
def no_stop() -> bytes:
    return zipped(beside_a_weight(b"N")[:-1])


@refused(4, "leaves values behind", family="pickle", foreign=4)
def values_left_on_the_stack() -> bytes:
    return zipped(b"\x80\x02N" + beside_a_weight(b"N")[2:])


@refused(4, "leaves values behind", family="pickle", foreign=4)
def a_mark_left_on_the_stack() -> bytes:
    return zipped(b"\x80\x02(0(" + beside_a_weight(b"N")[2:])


@refused(4, "takes a value where the stack has none", family="pickle", foreign=4)
def stop_alone() -> bytes:
    return zipped(b".")


@refused(4, "pickle ends early", family="pickle", foreign=4)
def no_byte_at_all() -> bytes:
    return zipped(b"")


@refused(4, "announces", family="pickle", foreign=4)
def cut_in_a_text() -> bytes:
    whole = beside_a_weight(text("long" * 100))
    return zipped(whole[: whole.rindex(b"long")])


@refused(4, "announces", family="pickle", foreign=4)
def a_frame_longer_than_the_file() -> bytes:
    return zipped(b"\x80\x04\x95\xff\xff\xff\x7f\0\0\0\0" + beside_a_weight(b"N")[2:])


@refused(4, "holds no tensors", family="pickle", foreign=4)
def a_number_as_state_dict() -> bytes:
    return zipped(_alone(b"}" + text("state_dict") + b"K\x03s"))


@refused(4, "holds no tensors", family="pickle", foreign=4)
def a_text_as_state_dict() -> bytes:
    return zipped(_alone(b"}" + text("state_dict") + text("w") + b"s"))


@refused(4, "holds no tensors; it is a pickled nonetype", family="pickle", foreign=4)
def no_object_at_all() -> bytes:
    return zipped(_alone(b"N"))


@refused(4, "holds no tensors; it is a pickled nonetype", family="pickle", foreign=4)
def no_object_at_all_legacy() -> bytes:
    return legacy(_alone(b"N"), keys=pickle.dumps([], 2), storages=b"")


@refused(4, "holds no tensors; it is a pickled dict", family="pickle", foreign=4)
def no_tensors() -> bytes:
    return zipped(_alone(b"}"))


@refused(4, "share each other in too many ways", family="pickle", foreign=4)
def a_tensor_with_2_to_the_15_names() -> bytes:
    return zipped(_alone(b"](" + tensor() + b"q\x00e" + b"q\x000](h\x00h\x00e" * 15))


@refused(4, "share each other in too many ways", family="pickle", foreign=4)
def a_tensor_with_2_to_the_15_names_legacy() -> bytes:
    return legacy(_alone(b"](" + tensor(b"N") + b"q\x00e" + b"q\x000](h\x00h\x00e" * 15))


@refused(4, "too long a name", family="pickle", foreign=4)
def a_tensor_20_000_lists_deep() -> bytes:
    return zipped(_alone(b"]" * 20_000 + tensor() + b"a" * 20_000))


@refused(4, "too long a name", family="pickle", foreign=4)
def a_tensor_20_000_lists_deep_legacy() -> bytes:
    return legacy(_alone(b"]" * 20_000 + tensor(b"N") + b"a" * 20_000))


@refused(4, "too long a name", family="pickle", foreign=4)
def tensors_under_a_key_of_300_kb() -> bytes:
    head = remembered(0, text("k" * 300_000))
    inner = b"](" + (b"}h\x00" + tensor() + b"s") * 3 + b"e"
    return zipped(b"\x80\x02" + head + b"}(" + text("w") + tensor() + text("x") + inner + b"u.")


@refused(4, "too many ways to name them all", family="heavy", foreign=4)
def a_long_key_in_80_000_places() -> bytes:
    head = remembered(0, text("k" * 3000))
    first = text("first") + tensor() + b"q\x01"
    many = text("all") + b"](" + b"}h\x00h\x01s" * 80_000 + b"e"
    return zipped(b"\x80\x02" + head + b"}(" + first + many + b"u.")


@refused(4, "two tensors are named w|has the key w twice", family="pickle", foreign=4)
def one_key_twice() -> bytes:
    return zipped(b"\x80\x02}(" + (text("w") + tensor()) * 2 + b"u.")


@refused(4, "has the key w twice", family="pickle", foreign=4)
def one_key_twice_and_no_tensor_the_second_time() -> bytes:
    """Whoever runs the pickle sees None."""
    return zipped(b"\x80\x02}(" + text("w") + tensor() + text("w") + b"N" + text("v") + tensor() + b"u.")


@refused(4, "has the key True twice", family="pickle", foreign=4)
def two_keys_that_python_takes_for_one() -> bytes:
    """1 and True are one key, and the second value counts."""
    return zipped(b"\x80\x02}(K\x01" + tensor() + b"\x88" + tensor() + b"u.")


@refused(4, "two tensors are named 1", family="pickle", foreign=4)
def two_keys_that_are_spelt_alike() -> bytes:
    return zipped(b"\x80\x02}(K\x01" + tensor() + text("1") + tensor() + b"u.")


@refused(4, "is neither text nor a whole number", family="pickle", foreign=4)
def a_tuple_as_the_key_of_a_weight() -> bytes:
    return zipped(b"\x80\x02}(" + text("v") + tensor() + b"K\x01K\x02\x86" + tensor() + b"u.")


@refused(4, "is neither text nor a whole number", family="pickle", foreign=4)
def tuples_100_deep_as_the_key_of_a_weight() -> bytes:
    return zipped(b"\x80\x02}(" + text("v") + tensor() + b")" + b"\x85" * 100 + tensor() + b"u.")


@refused(4, "is neither text nor a whole number", family="pickle", foreign=4)
def none_as_the_key_of_a_weight() -> bytes:
    return zipped(b"\x80\x02}(" + text("v") + tensor() + b"N" + tensor() + b"u.")


@refused(4, "is neither text nor a whole number", family="pickle", foreign=4)
def a_number_of_70_bits_as_the_key_of_a_weight() -> bytes:
    return zipped(b"\x80\x02}(" + text("v") + tensor() + b"\x8a\x09" + b"\x01" * 9 + tensor() + b"u.")


@refused(5, "more objects than its size promises", family="heavy", foreign=5)
def two_million_lists() -> bytes:
    return zipped(beside_a_weight(b"]" * 2_000_000 + b"a" * 1_999_999))


@refused(5, "more objects than its size promises", family="heavy", foreign=5)
def three_million_lists_legacy() -> bytes:
    return legacy(beside_a_weight(b"]" * 3_000_000 + b"a" * 2_999_999, b"N"))


@refused(5, "more objects than its size promises", family="heavy", foreign=5)
def three_million_marks() -> bytes:
    return zipped(b"\x80\x02" + b"(" * 3_000_000)


@refused(5, "more objects than its size promises", family="heavy", foreign=5)
def three_million_memo_entries() -> bytes:
    return zipped(b"\x80\x04N" + b"\x94" * 3_000_000)


@refused(4, "an object with 1200001 parts", family="heavy", foreign=4)
def a_million_times_the_same() -> bytes:
    return zipped(b"\x80\x02(]" + b"2" * 1_200_000 + b"t.")


@refused(4, "16 bytes, the pickle expects 4000000000", family="pickle", foreign=4)
def a_storage_of_4_gb_in_16_bytes() -> bytes:
    return zipped(beside_a_weight(b"N").replace(b"K\x04tQ", b"J" + struct.pack("<i", 10**9) + b"tQ"))


@accepted(family="pickle")
def an_ordered_dict_with_attributes_that_hide_its_methods() -> bytes:
    """Entries are read, never asked for."""
    state = b"}(" + b"".join(text(name) + text("not callable") for name in ("items", "keys", "values", "get")) + b"u"
    return zipped(b"\x80\x02ccollections\nOrderedDict\n)R(" + text("w") + tensor() + b"u" + state + b"b.")


@accepted(family="pickle")
def a_state_dict_that_holds_itself() -> bytes:
    return zipped(b"\x80\x02}q\x00(" + text("w") + tensor() + text("self") + b"h\x00u.")


@accepted(family="pickle")
def numbers_as_keys() -> bytes:
    return zipped(b"\x80\x02}(K\x00" + tensor() + b"J\xff\xff\xff\xff" + tensor() + b"u.")


@accepted(family="pickle")
def a_list_of_tensors() -> bytes:
    return zipped(b"\x80\x02](" + tensor() + tensor() + b"e.")


@accepted(family="pickle")
def a_tensor_alone() -> bytes:
    return zipped(b"\x80\x02" + tensor() + b".")


@accepted(family="pickle", reference="")
def a_number_of_5000_digits_as_a_key_beside() -> bytes:
    return zipped(b"\x80\x02}(\x8b\x00\x08\x00\x00" + b"\x11" * 2048 + b"N" + text("w") + tensor() + b"u.")


@accepted(family="pickle")
def a_text_of_one_mib_beside() -> bytes:
    return zipped(beside_a_weight(text("x" * MIB)))


@accepted(family="pickle")
def bytes_that_look_like_a_pickle_that_runs() -> bytes:
    evil = b"cposix\nsystem\n(Vtouch canary\ntR."
    return zipped(beside_a_weight(b"c_codecs\nencode\n(" + text(evil.decode()) + text("latin1") + b"tR"))


@accepted(family="pickle")
def quantised_sparse_and_meta_tensors_beside() -> bytes:
    out = io.BytesIO()
    others = {"sparse": torch.eye(2).to_sparse(), "meta": torch.ones(2, device="meta"), "complex": torch.ones(2) * 1j}
    torch.save({"w": torch.arange(1.0, 5), **others}, out)
    return out.getvalue()
