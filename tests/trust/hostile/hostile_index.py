"""Indexes of shards that lead out of their folder, that are no JSON, or that contradict the shards."""

import json
from collections.abc import Callable
from pathlib import Path

from hostile_corpus import FOLDER, accepted, refused
from hostile_makers import STORAGE, folder_of, tensors, tensors_entry

Make = Callable[..., object]


def _index(code: int, says: str) -> Callable[[Make], Make]:
    return refused(code, says, family="index", kind=FOLDER)


def _names(shard: object) -> dict[str, object]:
    return {"weight_map": {"a.weight": "one.safetensors", "b.weight": shard}}


@_index(4, "is not JSON; it is damaged")
def no_byte(folder: Path) -> None:
    folder_of(folder, b"")


@_index(4, "is not JSON; it is damaged")
def utf_16(folder: Path) -> None:
    folder_of(folder, json.dumps(_names("two.safetensors")).encode("utf-16"))


@_index(4, "is not JSON; it is damaged")
def a_byte_order_mark(folder: Path) -> None:
    folder_of(folder, b"\xef\xbb\xbf" + json.dumps(_names("two.safetensors")).encode())


@_index(4, "is not JSON; it is damaged")
def a_hundred_thousand_braces(folder: Path) -> None:
    folder_of(folder, b"{" * 100_000)


@_index(4, "is not JSON; it is damaged|weight_map")
def a_hundred_thousand_brackets(folder: Path) -> None:
    folder_of(folder, b"[" * 100_000)


@_index(4, "is not JSON; it is damaged|weight_map")
def a_hundred_thousand_brackets_that_close(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@_index(4, "is not JSON; it is damaged")
def a_number_of_5000_digits(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": {"a": ' + b"1" * 5000 + b"}}")


@_index(4, "is not a JSON object")
def a_list(folder: Path) -> None:
    folder_of(folder, b"[]")


@_index(4, "is not a JSON object")
def null(folder: Path) -> None:
    folder_of(folder, b"null")


@_index(4, "has no weight_map from names to files")
def no_weight_map(folder: Path) -> None:
    folder_of(folder, b"{}")


@_index(4, "has no weight_map from names to files")
def a_weight_map_that_is_a_list(folder: Path) -> None:
    folder_of(folder, {"weight_map": ["one.safetensors"]})


@_index(4, "has no weight_map from names to files")
def a_shard_that_is_a_number(folder: Path) -> None:
    folder_of(folder, _names(1))


@_index(4, "has no weight_map from names to files")
def a_shard_that_is_null(folder: Path) -> None:
    folder_of(folder, _names(None))


@_index(4, "has no weight_map from names to files")
def a_shard_that_is_a_list(folder: Path) -> None:
    folder_of(folder, _names(["two.safetensors"]))


@_index(4, "lists no tensor")
def an_empty_weight_map(folder: Path) -> None:
    folder_of(folder, {"weight_map": {}})


@_index(4, "has a.weight twice")
def a_name_twice(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": {"a.weight": "one.safetensors", "a.weight": "two.safetensors"}}')


@_index(4, "has weight_map twice")
def a_weight_map_twice(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": {"a.weight": "one.safetensors"}, "weight_map": {"b.weight": "two.safetensors"}}')


@_index(4, "has total_size twice")
def a_size_twice(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": {"a": "x"}, "metadata": {"total_size": 1, "total_size": 1}}')


@_index(5, r"names the shard \.\./outside.safetensors, which is not a plain file name")
def up_and_out(folder: Path) -> None:
    (folder.parent / "outside.safetensors").write_bytes(tensors({"b.weight": tensors_entry()}, STORAGE[:8]))
    folder_of(folder, _names("../outside.safetensors"))


@_index(5, "names the shard /etc/passwd, which is not a plain file name")
def an_absolute_path(folder: Path) -> None:
    folder_of(folder, _names("/etc/passwd"))


@_index(5, "names the shard sub/two.safetensors, which is not a plain file name")
def a_path_into_a_folder_below(folder: Path) -> None:
    folder_of(folder, _names("sub/two.safetensors"))


@_index(5, r"names the shard \./two.safetensors, which is not a plain file name")
def a_path_of_a_dot(folder: Path) -> None:
    folder_of(folder, _names("./two.safetensors"))


@_index(5, "names the shard .., which is not a plain file name")
def the_folder_above(folder: Path) -> None:
    folder_of(folder, _names(".."))


@_index(5, "which is not a plain file name")
def no_name(folder: Path) -> None:
    folder_of(folder, _names(""))


@_index(5, "which is not a plain file name")
def a_backslash(folder: Path) -> None:
    folder_of(folder, _names("..\\two.safetensors"))


@_index(5, r"names the shard two\\x00.safetensors, which is not a plain file name")
def a_nul(folder: Path) -> None:
    folder_of(folder, _names("two\0.safetensors"))


@_index(3, r"\\x1b\]0;\\x07\\u202e\\n.safetensors is missing")
def a_shard_whose_name_moves_the_cursor(folder: Path) -> None:
    folder_of(folder, _names("\x1b]0;\x07\u202e\n.safetensors"))


@_index(3, r"\\ud800.safetensors is missing")
def a_shard_whose_name_is_no_text(folder: Path) -> None:
    folder_of(folder, _names("\ud800.safetensors"))


@_index(3, "is missing, though the index names it")
def a_shard_whose_name_has_100_000_letters(folder: Path) -> None:
    folder_of(folder, _names("x" * 100_000))


@_index(3, "is missing, though the index names it")
def a_shard_that_is_not_there(folder: Path) -> None:
    (folder_of(folder) / "two.safetensors").unlink()


@_index(4, "is JSON text, not a checkpoint")
def the_index_as_a_shard(folder: Path) -> None:
    folder_of(folder, _names("model.safetensors.index.json"))


@_index(4, "no tensor that the index names is in its shards")
def an_index_of_another_model(folder: Path) -> None:
    folder_of(folder, {"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}})


@_index(4, "lacks b.weight_mask, which the index puts there, and b.weight_orig is nothing without it")
def a_mask_that_no_shard_has(folder: Path) -> None:
    weight_map = {"a.weight": "one.safetensors", "b.weight_orig": "two.safetensors", "b.weight_mask": "two.safetensors"}
    folder_of(folder, {"weight_map": weight_map}, two=tensors({"b.weight_orig": tensors_entry()}, STORAGE[:8]))


@_index(5, "no index is larger than 64 MiB")
def a_hundred_megabytes(folder: Path) -> None:
    with (folder_of(folder) / "model.safetensors.index.json").open("r+b") as file:
        file.truncate(100 << 20)


@_index(5, "more objects than its size promises")
def forty_megabytes_of_lists(folder: Path) -> None:
    folder_of(folder, b'{"weight_map": {}, "x": [' + b"[]," * 13_000_000 + b"[]]}")


@accepted(family="index", reference="safetensors", kind=FOLDER)
def in_another_order_with_more_in_it(folder: Path) -> None:
    weight_map = {"b.weight": "two.safetensors", "a.weight": "one.safetensors"}
    folder_of(folder, {"more": [1, {"x": None}], "metadata": None, "weight_map": weight_map})


@accepted(family="index", reference="safetensors", kind=FOLDER)
def a_size_that_lies(folder: Path) -> None:
    weight_map = {"a.weight": "one.safetensors", "b.weight": "two.safetensors"}
    folder_of(folder, {"metadata": {"total_size": -(10**300)}, "weight_map": weight_map})


@accepted(family="index", reference="safetensors", kind=FOLDER)
def escapes_for_every_letter(folder: Path) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in "two.safetensors")
    folder_of(folder, b'{"weight_map": {"a.weight": "one.safetensors", "b.weight": "%s"}}' % escaped.encode())


@accepted(family="index", reference="safetensors", kind=FOLDER)
def tensors_in_each_other_s_shard(folder: Path) -> None:
    folder_of(folder, {"weight_map": {"a.weight": "two.safetensors", "b.weight": "one.safetensors"}})


@accepted(family="index", reference="safetensors", kind=FOLDER)
def a_tensor_that_no_shard_has(folder: Path) -> None:
    more = {"a.weight": "one.safetensors", "b.weight": "two.safetensors", "c": "two.safetensors"}
    folder_of(folder, {"weight_map": more})


@accepted(family="index", reference="safetensors", kind=FOLDER)
def a_tensor_in_two_shards(folder: Path) -> None:
    both = {name: tensors_entry(data_offsets=[at, at + 8]) for name, at in (("a.weight", 0), ("b.weight", 8))}
    folder_of(folder, two=tensors(both, STORAGE))
