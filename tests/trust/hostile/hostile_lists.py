"""Files of ratios and of orders, and reports in the place of a mask: texts that lie, never end, or are no texts."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile_corpus import Kind, Roles, accepted, refused
from hostile_makers import saved, tensors, tensors_entry
from hostile_masks import BESIDE, MODEL

Make = Callable[..., object]
_TEXT = Kind(".json", "")
_LAYERS = "in/layers.safetensors"
_ENTRIES = {name: tensors_entry(data_offsets=[8 * place, 8 * place + 8]) for place, name in enumerate("ab")}
_PRUNE = ("--seed", "1", "--remove", "-o", "out")
RATIOS = Roles({"apply --ratios": ("apply", MODEL, "-p", "*", "--ratios", "{}", *_PRUNE)}, BESIDE)
ORDER = Roles(
    {
        "apply --order": (
            *("apply", _LAYERS, "-p", "*", "-a", "0.5", "--allocation", "pyramidal", "--order", "{}"),
            *_PRUNE,
        )
    },
    {"layers.safetensors": tensors(_ENTRIES, bytes(range(16)))},
)
LIKE = Roles({"apply --like": ("apply", MODEL, "-p", "*", "--like", "{}", *_PRUNE)}, BESIDE)


def _ratios(says: str, code: int = 2) -> Callable[[Make], Make]:
    return refused(code, says, family="ratios", kind=_TEXT, roles=RATIOS)


def _order(says: str, code: int = 2) -> Callable[[Make], Make]:
    return refused(code, says, family="orders", kind=_TEXT, roles=ORDER)


def _like(says: str, code: int = 4) -> Callable[[Make], Make]:
    return refused(code, says, family="counts", kind=_TEXT, roles=LIKE)


@accepted(family="ratios", kind=_TEXT, roles=RATIOS)
def ratios_by_a_pattern() -> bytes:
    return b'{"*": "50%"}'


@_ratios("is a pipe, not a regular file", 3)
def ratios_from_a_pipe(path: Path) -> None:
    os.mkfifo(path)


@_ratios("is a device, not a regular file", 3)
def ratios_without_end() -> Path:
    return Path("/dev/zero")


@_ratios("too large for names")
def ratios_of_65_mb(path: Path) -> None:
    path.touch()
    os.truncate(path, 65 << 20)


@_ratios("not UTF-8 text")
def ratios_in_the_place_of_a_checkpoint() -> bytes:
    return saved()


@_ratios("w")
def a_ratio_that_is_not_a_number() -> bytes:
    return b'{"w": NaN}'


@_ratios("w")
def a_ratio_above_every_number() -> bytes:
    return b'{"w": 1e999}'


@_ratios("w")
def a_ratio_below_0() -> bytes:
    return b'{"w": -0.5}'


@_ratios("w: no amount")
def a_ratio_that_is_true() -> bytes:
    return b'{"w": true}'


@_ratios("is not JSON")
def a_ratio_of_5000_digits() -> bytes:
    return b'{"w": ' + b"1" * 5000 + b"}"


@_ratios("is neither JSON nor TOML")
def a_ratio_of_5000_digits_in_toml() -> bytes:
    return b"w = " + b"1" * 5000


@_ratios("has w twice")
def a_ratio_given_twice() -> bytes:
    return b'{"w": 0.5, "w": 0.9}'


@_ratios("is not JSON")
def ratios_nested_without_end() -> bytes:
    return b'{"w": ' + b'{"w": ' * 100_000


@_ratios("is neither JSON nor TOML|no amount")
def ratios_nested_without_end_in_toml() -> bytes:
    return b"w = " + b"[" * 100_000


@_ratios("nested too deeply")
def a_name_of_100000_parts() -> bytes:
    return b"w" + b".w" * 100_000 + b" = 0.5"


@_ratios("asks for more objects", 5)
def ratios_of_more_objects_than_bytes() -> bytes:
    return b'{"w": [' + b"{}," * 4_000_000 + b"0]}"


@_ratios(r"\\x1b\]0;x")
def a_ratio_of_a_name_that_moves_the_cursor() -> bytes:
    return json.dumps({"w": 0.5, "\x1b]0;x\x07\u202e": 0.5}).encode()


@accepted(family="orders", kind=_TEXT, roles=ORDER)
def an_order_with_shapes() -> bytes:
    return b"b\t2\r\na\t2\r\n"


@_order("does not name b")
def an_order_with_a_name_missing() -> bytes:
    return b"a\n"


@_order("names a twice")
def an_order_with_a_name_twice() -> bytes:
    return b"a\nb\na\n"


@_order("names a twice")
def an_order_with_a_name_twice_in_other_words() -> bytes:
    return b"a\nb\nmodule.a\n"


@_order("contains no names")
def an_order_of_blanks() -> bytes:
    return b" \n\t\n" * 10_000


@_order("not UTF-8 text")
def an_order_of_bytes() -> bytes:
    return b"a\n\xff\n"


@_order("is a pipe, not a regular file", 3)
def an_order_from_a_pipe(path: Path) -> None:
    os.mkfifo(path)


@_order("does not name a")
def an_order_of_names_that_move_the_cursor() -> bytes:
    return b"\x1b]0;x\x07\n" * 50_000


def _row(**changes: Any) -> dict[str, Any]:
    return {"name": "w", "shape": [8], "elements": 8, "zeros": 4} | changes


@_like("is not JSON")
def a_report_nested_without_end() -> bytes:
    return b'{"schema": ' * 100_000


@_like("hostile.json")
def a_report_of_no_version() -> bytes:
    return json.dumps({"schema": "\x1b[2J", "parameters": [_row()]}).encode()


@_like("hostile.json")
def a_report_of_a_count_of_5000_digits() -> bytes:
    return b'{"schema": "prunecli.report/1", "parameters": [{"zeros": ' + b"1" * 5000 + b"}]}"


@_like("does not contain w", 2)
def a_checkpoint_of_other_names() -> bytes:
    return tensors(_ENTRIES, bytes(range(16)))


@_like("prunes 16 elements of w: 8 are left unpruned", 2)
def a_checkpoint_with_more_zeros_than_elements() -> bytes:
    return tensors({"w": tensors_entry(shape=[16], data_offsets=[0, 64])}, bytes(64))


@_like("is a folder|No such file|a pipe", 3)
def counts_from_a_pipe(path: Path) -> None:
    os.mkfifo(path)


@accepted(family="counts", kind=_TEXT, roles=LIKE)
def a_checkpoint_without_zeros() -> bytes:
    return BESIDE["model.safetensors"]
