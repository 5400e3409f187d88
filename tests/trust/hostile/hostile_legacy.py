"""Files of torch's old format whose storages are not what the pickle says, and such as end early."""

import io
import pickle
import struct
import tarfile

import torch
from hostile_code import EVIL
from hostile_corpus import accepted, refused
from hostile_makers import FACTS, KEYS, MAGIC, STORAGE, VERSION, beside_a_weight, legacy
from legacy_by_hand import FOUR, GOOD, Rebuilt, StoredAs, legacy_file, pickled

_PLAIN = beside_a_weight(b"N", b"N")


@refused(4, "storage a is missing", family="legacy")
def never_listed() -> bytes:
    return legacy_file(GOOD, [])


@refused(4, "storage a is listed twice, or never used", family="legacy")
def listed_twice() -> bytes:
    return legacy_file(GOOD, ["a", "a"], (4, FOUR), (4, FOUR))


@refused(4, "storage b is listed twice, or never used", family="legacy")
def never_used() -> bytes:
    return legacy_file(GOOD, ["a", "b"], (4, FOUR), (1, bytes(4)))


@refused(4, "has no list of storages", family="legacy")
def no_list() -> bytes:
    return legacy_file(GOOD, {"a": 1}, (4, FOUR))


@refused(4, "has no list of storages", family="legacy")
def a_key_that_is_a_number() -> bytes:
    return legacy_file(GOOD, [1], (4, FOUR))


@refused(4, "storage a has 3 elements, the pickle expects 4", family="legacy")
def another_count() -> bytes:
    return legacy_file(GOOD, ["a"], (3, FOUR))


@refused(4, "storage a has 18446744073709551612 elements", family="legacy")
def a_negative_count() -> bytes:
    return legacy_file(GOOD, ["a"], (-4, FOUR))


@refused(4, "ends in storage a; it is truncated", family="legacy")
def truncated() -> bytes:
    return legacy_file(GOOD, ["a"], (4, FOUR[:-1]))


@refused(4, "ends in storage a; it is truncated", family="legacy")
def without_its_count() -> bytes:
    return legacy_file(GOOD, ["a"])


@refused(4, "has 1 bytes behind its last storage", family="legacy")
def bytes_behind_it() -> bytes:
    return legacy_file(GOOD, ["a"], (4, FOUR + b"x"))


@refused(4, "trunc", family="legacy")
def far_too_large() -> bytes:
    return legacy_file(pickled({"w": Rebuilt(StoredAs("a", 1 << 61), 0, 2)}), ["a"], (1 << 61, FOUR))


@refused(4, "names no part", family="legacy")
def a_part_of_no_form() -> bytes:
    return legacy_file(pickled([Rebuilt(StoredAs("a", 4, 1), 0, 2)]), ["a"], (4, FOUR))


@refused(4, "a part reaches behind the end of its storage a", family="legacy")
def a_part_beyond_its_end() -> bytes:
    return legacy_file(pickled([Rebuilt(StoredAs("a", 4, ("v", 3, 2)), 0, 2)]), ["a"], (4, FOUR))


@refused(4, "a tensor reaches behind the end of its storage a", family="legacy")
def a_tensor_beyond_its_part() -> bytes:
    return legacy_file(pickled([Rebuilt(StoredAs("a", 4, ("v", 1, 2)), 1, 2)]), ["a"], (4, FOUR))


@refused(4, "another version of torch's old format", family="legacy")
def an_old_version() -> bytes:
    return legacy(b"N.", version=b"\x80\x02M\xe8\x03.")


@refused(4, "another version of torch's old format", family="legacy")
def a_version_that_is_a_text() -> bytes:
    return legacy(_PLAIN, version=pickle.dumps("1001", 2))


@refused(4, "has 9223372036854775808 elements", family="legacy")
def a_count_of_2_to_the_63() -> bytes:
    return legacy(_PLAIN, storages=b"\0" * 7 + b"\x80" + STORAGE)


@refused(4, "has 288230376151711744 elements", family="legacy")
def a_count_in_big_endian() -> bytes:
    return legacy(_PLAIN, storages=struct.pack(">Q", 4) + STORAGE)


@refused(4, "no list of storages", family="legacy")
def keys_that_are_a_dict() -> bytes:
    return legacy(_PLAIN, keys=b"\x80\x02}.")


@refused(4, "no list of storages", family="legacy")
def keys_that_are_a_text() -> bytes:
    return legacy(_PLAIN, keys=pickle.dumps("0", 2))


@refused(4, "storage 0 is missing", family="legacy")
def no_keys() -> bytes:
    return legacy(_PLAIN, keys=pickle.dumps([], 2), storages=b"")


@refused(4, "storage 0 is listed twice", family="legacy")
def keys_that_repeat() -> bytes:
    return legacy(_PLAIN, keys=pickle.dumps(["0", "0"], 2))


@refused(4, "is listed twice, or never used", family="heavy")
def a_million_keys_that_nobody_uses() -> bytes:
    return legacy(_PLAIN, keys=pickle.dumps([str(at) for at in range(300_000)], 2))


@refused(4, "from before 0.1.10, a tar archive of pickles", family="legacy")
def torch_0_1() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in {"sys_info": FACTS, "pickle": EVIL, "tensors": b"", "storages": b""}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@refused(4, "ends early", family="legacy")
def cut_behind_the_magic_number() -> bytes:
    return MAGIC


@refused(4, "ends early", family="legacy")
def cut_behind_the_version() -> bytes:
    return MAGIC + VERSION


@refused(4, "ends early", family="legacy")
def cut_behind_the_facts() -> bytes:
    return MAGIC + VERSION + FACTS


@refused(4, "ends early|announces|without an end", family="legacy")
def cut_in_the_object() -> bytes:
    return MAGIC + VERSION + FACTS + _PLAIN[: len(_PLAIN) // 2]


@refused(4, "ends early", family="legacy")
def cut_behind_the_object() -> bytes:
    return MAGIC + VERSION + FACTS + _PLAIN


@refused(4, "it is truncated", family="legacy")
def cut_behind_the_keys() -> bytes:
    return MAGIC + VERSION + FACTS + _PLAIN + KEYS


@refused(4, "it is truncated", family="legacy")
def cut_in_a_storage() -> bytes:
    return legacy(_PLAIN)[:-1]


@refused(4, "is not a checkpoint; prunecli reads|a plain pickle|a text file", family="legacy")
def another_magic_number() -> bytes:
    return MAGIC.replace(b"l", b"m", 1) + legacy(_PLAIN)[len(MAGIC) :]


@accepted(family="legacy")
def facts_of_a_big_endian_machine() -> bytes:
    """Torch writes the storages little-endian on every machine."""
    return legacy(_PLAIN, facts=pickle.dumps({"protocol_version": 1001, "little_endian": False}, 2))


@accepted(family="legacy", reference="")
def magic_and_version_in_another_protocol() -> bytes:
    out = io.BytesIO()
    torch.save({"w": torch.arange(1.0, 5)}, out, pickle_protocol=4, _use_new_zipfile_serialization=False)
    return out.getvalue()


@accepted(family="legacy")
def keys_in_another_order() -> bytes:
    both = [Rebuilt(StoredAs(key, 4), 0, 4) for key in "ab"]
    return legacy_file(pickled(both), ["b", "a"], (4, FOUR), (4, STORAGE))


@accepted(family="legacy")
def a_part_of_a_storage() -> bytes:
    """As before torch 0.4."""
    return legacy_file(pickled([Rebuilt(StoredAs("a", 4, ("v", 1, 3)), 1, 2)]), ["a"], (4, FOUR))


@accepted(family="legacy")
def a_key_of_many_digits() -> bytes:
    return legacy_file(pickled([Rebuilt(StoredAs("9" * 400, 4), 0, 4)]), ["9" * 400], (4, FOUR))
