"""Packed files whose directories lie, with checksums that are right: chains of masks, frames, sizes, and names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backports import zstd
from hostile_corpus import FOLDER, Kind, Roles, accepted, refused
from packed_tools import pack_bytes, rewritten, small_checkpoint

__all__ = ["FOLDERS", "PACKED"]

Make = Callable[..., object]
_FILE = Kind(".packed.safetensors", "")
_UNPACK = {"unpack": ("unpack", "{}", "-o", "out")}
PACKED = Roles(
    {**_UNPACK, "params": ("params", "{}"), "report": ("report", "{}"), "diff": ("diff", "{}", "in/good.safetensors")},
    {"good.safetensors": small_checkpoint()[0]},
)
"""Commands that read a packed file as what it was packed from."""
FOLDERS = Roles(_UNPACK, {})


def _packed() -> bytes:
    return pack_bytes(*small_checkpoint())


def _refused(code: int, says: str, **but: int) -> Callable[[Make], Make]:
    return refused(code, says, family="packed", but=but, kind=_FILE, roles=PACKED)


def _put(column: str, index: int, value: int) -> bytes:
    def change(columns: dict[str, Any], *_: object) -> None:
        columns[column][index] = value

    return rewritten(_packed(), change)


def _frame(part: int, frame: bytes) -> bytes:
    """Put a frame in the place of a part: the first ones are those of tensors, the last one of the header."""

    def change(columns: dict[str, Any], parts: list[bytes], _: object) -> None:
        parts[part], columns["coding"][part], columns["stored"][part] = frame, 1, len(frame)

    return rewritten(_packed(), change)


@accepted(family="packed", kind=_FILE, roles=PACKED)
def a_packed_file() -> bytes:
    return _packed()


@_refused(4, "truncated|ends|length")
def a_packed_file_that_is_cut_short() -> bytes:
    return _packed()[:-1]


@_refused(4, "damaged block")
def a_flipped_bit_in_a_block() -> bytes:
    whole = bytearray(_packed())
    whole[600] ^= 1
    return bytes(whole)


@_refused(4, "damaged header or directory: its CRC-32 is wrong")
def a_flipped_bit_in_the_directory() -> bytes:
    whole = bytearray(_packed())
    whole[-9] ^= 1
    return bytes(whole)


@_refused(4, "version 2, and this prunecli reads version 1; use a newer prunecli")
def a_packed_file_of_a_later_version() -> bytes:
    return rewritten(_packed(), lambda *_: None, version=2)


@_refused(4, "random stream 2, .* use a newer prunecli")
def masks_of_a_later_random_stream() -> bytes:
    return rewritten(_packed(), lambda *_: None, stream=2)


@_refused(4, "contradicts itself")
def a_chain_of_masks_that_does_not_begin_with_all_elements() -> bytes:
    return _put("candidates", 0, 399)


@_refused(4, "contradicts itself")
def a_round_of_fewer_candidates_than_are_left() -> bytes:
    return _put("candidates", 1, 359)


@_refused(4, "contradicts itself")
def a_round_that_drops_more_than_there_are() -> bytes:
    return _put("amount", 1, (1 << 64) - 1)


@_refused(4, "contradicts itself")
def counts_of_a_block_that_contradict_the_chain() -> bytes:
    return _put("counts", 0, 361)


@_refused(4, "contradicts itself")
def a_tensor_of_more_elements_than_a_file_can_have() -> bytes:
    return _put("elements", 0, 1 << 60)


@_refused(4, "contradicts itself")
def an_original_of_another_size() -> bytes:
    return rewritten(_packed(), lambda _columns, _parts, fields: fields.update(size=1 << 50))


@_refused(4, "is damaged", params=0, report=0, diff=0)
def a_wrong_checksum_of_the_original() -> bytes:
    """All blocks are right; only who reads all of them can see it."""
    return rewritten(_packed(), lambda _columns, _parts, fields: fields.update(crc=1))


@_refused(4, "damaged block")
def a_frame_that_expands_beyond_its_block() -> bytes:
    return _frame(0, zstd.compress(bytes(1 << 20)))


@_refused(4, "damaged block")
def a_header_that_expands_beyond_its_block() -> bytes:
    return _frame(-1, zstd.compress(bytes(1 << 20)))


@_refused(4, "damaged block")
def a_frame_with_something_behind_it() -> bytes:
    return _frame(0, zstd.compress(b"") + b"more")


@_refused(5, "no checkpoint needs that", unpack=0)
def a_description_of_tensors_that_is_made_of_nothing() -> bytes:
    """A header of 30 MiB in a file of 3 kB: it comes back, but nobody parses it."""
    return pack_bytes((30 << 20).to_bytes(8, "little") + b'{"' + bytes(32 << 20), [])


@_refused(4, "a packed file in a packed file", unpack=0)
def a_packed_file_in_a_packed_file() -> bytes:
    return pack_bytes(_packed(), [])


def _folder(folder: Path, files: dict[str, Any] | None, *names: str) -> None:
    """Make a packed folder with a list of files."""
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(pack_bytes(b"x", []))
    if files is not None:
        (folder / "prunecli.packed.json").write_text(json.dumps({"prunecli.packed": 1, "files": files}))


def _bad_folder(code: int, says: str) -> Callable[[Make], Make]:
    return refused(code, says, family="packed folders", kind=FOLDER, roles=FOLDERS)


_X = [1, 0x8CDC1683]
"""The size and the CRC-32 of the file `x` that `_folder` packs."""


@accepted(family="packed folders", kind=FOLDER, roles=FOLDERS)
def a_packed_folder(folder: Path) -> None:
    _folder(folder, {"a": _X}, "a.packed.safetensors")


@_bad_folder(5, r"lists \.\./b, which no checkpoint has")
def a_name_that_leaves_the_folder(folder: Path) -> None:
    _folder(folder, {"a": _X, "../b": _X}, "a.packed.safetensors")


@_bad_folder(5, "lists /etc/b, which no checkpoint has")
def a_name_at_the_root(folder: Path) -> None:
    _folder(folder, {"/etc/b": _X}, "a.packed.safetensors")


@_bad_folder(4, r"lacks b\.packed\.safetensors, which")
def a_packed_folder_without_one_of_its_files(folder: Path) -> None:
    _folder(folder, {"a": _X, "b": _X}, "a.packed.safetensors")


@_bad_folder(4, "list|another")
def a_packed_folder_with_another_file_in_its_place(folder: Path) -> None:
    _folder(folder, {"a": [2, 7]}, "a.packed.safetensors")


@_bad_folder(4, "JSON")
def a_list_of_files_that_is_nested_without_end(folder: Path) -> None:
    _folder(folder, None, "a.packed.safetensors")
    (folder / "prunecli.packed.json").write_text('{"files": ' + "[" * 100_000)
