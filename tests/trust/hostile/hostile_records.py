"""Records of methods in reports, which are replayed, and files of scores: what no run writes, and values that lie."""

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import torch
from hostile_corpus import Case, Kind, Roles, accepted, refused, register
from hostile_makers import beside_a_weight, tensors, tensors_entry, zipped

Make = Callable[..., object]
_TEXT, _DICTIONARY = Kind(".json", ""), Kind(".pt", "")
_MATRIX = "in/matrix.safetensors"
_ENTRIES = {"w": tensors_entry(shape=[4, 4], data_offsets=[0, 64]), "x": tensors_entry(shape=[], data_offsets=[64, 68])}
_BESIDE = {"matrix.safetensors": tensors(_ENTRIES, struct.pack("<17f", *range(17)))}
_SCORED = ("apply", _MATRIX, "-p", "w", "--seed", "1", "-o", "out", "--scores", "{}")
RECORDS = Roles({"apply --from-report": ("apply", _MATRIX, "--from-report", "{}", "-o", "out")}, _BESIDE)
SCORES = Roles(
    {
        "apply --scores": (*_SCORED, "-a", "0.5"),
        "apply --per-row": (*_SCORED, "-a", "0.5", "--per-row"),
        "apply --n-of-m": (*_SCORED, "--n-of-m", "2:4"),
        "apply --block": (*_SCORED, "--block", "2x2", "-a", "0.5", "--abs-scores"),
    },
    _BESIDE,
)

_SEVEN = 0x40E00000
"""The bits of 7.0, up to which 8 elements go."""
_L1: tuple[dict[str, Any], dict[str, Any]] = ({"method": "l1"}, {"threshold": _SEVEN, "equal": 1, "tied": 1})
_ROWS: tuple[dict[str, Any], dict[str, Any]] = ({"method": "l1", "per_row": True}, {"slices": 4, "amount": 0.5})
_SLICES: tuple[dict[str, Any], dict[str, Any]] = ({"method": "ln", "norm": "2", "dim": 0}, {"units": "c0"})
_BLOCKS: tuple[dict[str, Any], dict[str, Any]] = ({"method": "l1", "block": "2x2"}, {"units": "c0"})


def _report(
    made: tuple[Mapping[str, Any], Mapping[str, Any]], group: Mapping[str, Any], choice: Any, row: Mapping[str, Any]
) -> bytes:
    """A report of a method, with changes of its group, of its choice, and of the row."""
    first = {"params": ["w"], "exclude": [], "min_dim": 0, "amount": 0.5, "global": False, **made[0], **group}
    name = row.get("name", "w")
    entry = {
        "name": name,
        "module": "",
        "shape": _ENTRIES[name]["shape"],
        "dtype": "float32",
        "elements": 16 if name == "w" else 1,
        "zeros_before": 1,
        "zeros": 8,
        "state": "masked",
        "pruned_now": 8 if name == "w" else 1,
        "tied_to": [],
        "key": name,
        "candidates": 16 if name == "w" else 1,
        "mask_sha256": None,
        "crc32": None,
        "structure": None,
        "copies": [],
        "choice": {**made[1], **choice} if isinstance(choice, dict) else choice,
        **row,
    }
    document = {
        "schema": "prunecli.report/2",
        "tool": {"name": "prunecli", "version": "0", "stream": 1, "python": "3", "numpy": "2"},
        "command": "apply",
        "source": {"path": "matrix.safetensors", "format": "safetensors", "bytes": 1},
        "output": None,
        "method": first.pop("method"),
        "seed": 1,
        "groups": [first],
        "remove": False,
        "mask_dtype": "bool",
        "untie": False,
        "zeros_are_pruned": False,
        "totals": {"parameters": 1, "elements": 16, "zeros": 8, "pruned_now": 8},
        "parameters": [entry],
        "carried": [],
        "stamps": [],
    }
    return json.dumps(document).encode()


_FOREIGN = "is not one that (l1|ln) makes"
_WRONG: dict[str, tuple[Any, str, Mapping[str, Any], Any, Mapping[str, Any]]] = {
    "a threshold of 5000 digits": (_L1, "is not JSON", {}, {"threshold": "?"}, {}),
    "a threshold beyond all keys": (_L1, _FOREIGN, {}, {"threshold": 1 << 70}, {}),
    "a threshold without end": (_L1, _FOREIGN, {}, {"threshold": float("inf")}, {}),
    "a threshold that is true": (_L1, _FOREIGN, {}, {"threshold": True}, {}),
    "more equal elements than tied ones": (_L1, _FOREIGN, {}, {"equal": 2}, {}),
    "more tied elements than there are": (_L1, _FOREIGN, {}, {"tied": 17}, {}),
    "ties before the first block": (_L1, _FOREIGN, {}, {"tied": 2, "before": [-1]}, {}),
    "ties that are objects": (_L1, _FOREIGN, {}, {"tied": 2, "before": [{}]}, {}),
    "keys of booleans": (_L1, _FOREIGN, {}, {"keys": "bool"}, {}),
    "a choice that is a list": (_L1, "choice is not an object", {}, [], {}),
    "an empty choice": (({"method": "l1"}, {}), _FOREIGN, {}, {}, {}),
    "a choice of elements that were not there": (_L1, "candidates", {}, {}, {"candidates": None}),
    "a group that is not there": (_L1, "is not one of its 1 groups", {}, {}, {"group": 1 << 100}),
    "rows of another shape": (_ROWS, "are not those of its shape", {}, {"slices": 1 << 40}, {}),
    "rows of a number": (_ROWS, "are not those of its shape", {}, {"slices": 1}, {"name": "x"}),
    "rows with counts for others": (_ROWS, _FOREIGN, {}, {"pruned": [2] * 100_000}, {}),
    "rows that grow": (_ROWS, _FOREIGN, {}, {"pruned": [5, 1, 1, 1]}, {}),
    "a share above every number": (_ROWS, _FOREIGN, {}, {"amount": float("inf")}, {}),
    "flags of fewer slices": (_SLICES, _FOREIGN, {}, {"units": ""}, {}),
    "flags behind the last slice": (_SLICES, _FOREIGN, {}, {"units": "c0" * 1_000_000}, {}),
    "flags that are no digits": (_SLICES, _FOREIGN, {}, {"units": "\x1b["}, {}),
    "flags of other slices than were pruned": (_SLICES, _FOREIGN, {}, {"units": "e0"}, {}),
    "a dimension without end": (_SLICES, r"groups\[0\].* is not a dimension", {"dim": 1 << 70}, {}, {}),
    "a dimension that is not there": (_SLICES, "has the shape", {"dim": 7}, {}, {}),
    "a norm that is computed nowhere": (_SLICES, "norm is not 1 or 2 or inf", {"norm": "nuc"}, {}, {}),
    "blocks larger than any tensor": (_BLOCKS, r"groups\[0\].* larger", {"block": "9999999999x1"}, {}, {}),
    "blocks of text that moves the cursor": (_BLOCKS, "is not two numbers", {"block": "\x1b[2J"}, {}, {}),
    "a pattern that keeps all": (_BLOCKS, r"groups\[0\]", {"block": None, "n_of_m": "4:4"}, {}, {}),
    "a pattern beside blocks": (_BLOCKS, r"groups\[0\]", {"n_of_m": "2:4"}, {}, {}),
    "a method of the file system": (_L1, "is of the method", {"method": "../../l1"}, {}, {}),
    "scores without end": (_L1, "/dev/zero is a device", {"method": "scores", "scores": "/dev/zero"}, {}, {}),
}
"""What a report says, and what a message must: the method, and changes of its group, its choice and its row."""
_CODES = {"a dimension that is not there": 2, "scores without end": 3}


def _maker(made: Any, group: Mapping[str, Any], choice: Any, row: Mapping[str, Any]) -> Callable[[], bytes]:
    return lambda: _report(made, group, choice, row).replace(b'"?"', b"1" * 5000)


for _name, (_made, _says, *_changes) in _WRONG.items():
    _codes = dict.fromkeys(RECORDS.commands, _CODES.get(_name, 4))
    register(Case(_name, "records", _maker(_made, *_changes), _codes, _says, kind=_TEXT, roles=RECORDS))


@accepted(family="records", kind=_TEXT, roles=RECORDS)
def a_record_of_the_smallest() -> bytes:
    return _report(_L1, {}, {}, {})


def _saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def _scores(code: int, says: str) -> Callable[[Make], Make]:
    return refused(code, says, family="scores", kind=_DICTIONARY, roles=SCORES)


@accepted(family="scores", kind=_DICTIONARY, roles=SCORES)
def scores_with_infinities_and_others() -> bytes:
    """One element is in the place of each row, and what is not asked for is left alone."""
    column = torch.tensor([[float("inf")], [1.0], [-0.0], [1e-45]])
    return _saved(
        {"w": column.expand(4, 4), "x": torch.full((), float("nan")), "other": torch.ones(3, dtype=torch.bool)}
    )


@_scores(2, "the scores of w contain NaN")
def a_score_that_is_not_a_number() -> bytes:
    return _saved({"w": torch.tensor([float("nan")]).expand(4, 4)})


@_scores(2, r"w is \[4, 4\], and its scores .* are \[16\]")
def scores_in_a_line() -> bytes:
    return _saved({"w": torch.ones(16)})


@_scores(2, "are complex64; scores are real numbers")
def scores_that_are_complex() -> bytes:
    return _saved({"w": torch.ones(4, 4, dtype=torch.complex64)})


@_scores(2, "are float8_e8m0fnu; scores are real numbers")
def scores_that_are_exponents() -> bytes:
    return _saved({"w": torch.ones(4, 4, dtype=torch.uint8).view(torch.float8_e8m0fnu)})


@_scores(2, r"has no scores of w, which is selected")
def scores_of_a_name_that_moves_the_cursor() -> bytes:
    return _saved({"\x1b]0;x\x07w": torch.ones(4, 4)})


@_scores(4, "w is damaged: its CRC-32 is")
def scores_with_flipped_bits() -> bytes:
    values = torch.arange(1.0, 17.0).view(4, 4)
    raw = values.numpy().tobytes()
    return _saved({"w": values}).replace(raw, raw[::-1])


@_scores(5, "weights-only loading refuses")
def scores_that_run() -> bytes:
    return zipped(beside_a_weight(b"cposix\nsystem\n(X\x0c\0\0\0touch canarytR"))
