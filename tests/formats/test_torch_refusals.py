"""torch files that are not what they say, or nothing for prunecli: exit 4, one line, and what to do."""

import argparse
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from format_tools import Filled, added, opened, refused, rewrite

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError, UsageError
from prunecli.formats.base import Edit, ReadOptions
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.io.pieces import Outcome
from prunecli.formats.pickles.dump import dump
from prunecli.formats.pickles.nodes import Call, DictNode, Entry, Global, ListNode, Node, Persistent, TupleNode


def _zip(path: Path, records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def _checkpoint(path: Path, root: Node, **storages: bytes) -> None:
    """A checkpoint with any object graph; storages are data/0 and so on, named _0 here."""
    records = {f"m/data/{key[1:]}": data for key, data in storages.items()}
    _zip(path, {"m/data.pkl": dump(root, 2), "m/byteorder": b"little", **records, "m/version": b"3\n"})


def _storage(key: Node = "0", elements: Node = 4, kind: Node = None) -> Persistent:
    return Persistent(TupleNode(["storage", kind or Global("torch", "FloatStorage"), key, "cpu", elements]))


def _tensor(
    storage: Node, offset: Node = 0, shape: Node = None, stride: Node = None, name: str = "_rebuild_tensor_v2"
) -> Call:
    sizes, steps = TupleNode([2, 2]) if shape is None else shape, TupleNode([2, 1]) if stride is None else stride
    hooks = Call("reduce", Global("collections", "OrderedDict"), TupleNode([]))
    return Call("reduce", Global("torch._utils", name), TupleNode([storage, offset, sizes, steps, False, hooks]))


def _dict(**values: Node) -> DictNode:
    return DictNode([Entry(key, value) for key, value in values.items()])


_GOOD = _tensor(_storage())


def test_the_good_one_of_the_damaged_ones_is_good(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m.pt", _dict(w=_GOOD), _0=bytes(16))
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]
    assert torch.equal(torch.load(tmp_path / "m.pt")["w"], torch.zeros(2, 2))


def test_a_name_that_moves_the_cursor_is_shown_escaped(tmp_path: Path) -> None:
    _checkpoint(tmp_path / "m.pt", _dict(w=_tensor(_storage("\x1b[2J\n7"))), _0=bytes(16))
    refused(tmp_path / "m.pt", DamagedError, r"storage \\x1b\[2J\\n7 is missing")


def _saved(value: Callable[[], Any], **kwargs: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(value(), path, **kwargs)


def _tar(member: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with tarfile.open(path, "w") as archive:
            archive.addfile(tarfile.TarInfo(member), io.BytesIO())

    return make


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": [1.0]}))


_FROZEN = {"data.pkl": b"\x80\x02}.", "code/__torch__.py": b"", "constants/0": bytes(4), "constants.pkl": b"\x80\x02)."}
_PACKAGE = [".data/0.storage", "model/model.pkl", ".data/extern_modules", ".data/python_version", "byteorder"]


def _named(names: list[str]) -> Callable[[Path], None]:
    return lambda path: _zip(path, {f"m/{name}": b"x" for name in names})


_UNSUPPORTED: dict[str, tuple[Callable[[Path], None], str]] = {
    "TorchScript, frozen": (
        lambda path: _zip(path, {f"m/{name}": data for name, data in _FROZEN.items()}),
        "is a frozen TorchScript program: its weights are constants without names",
    ),
    "no tensors": (_saved(lambda: {"epoch": 3}), "holds no tensors; it is a pickled dict, not a checkpoint"),
    "a state dict that is none": (_saved(lambda: {"state_dict": 3}), "holds no tensors"),
    "torch.package": (_named(_PACKAGE), r"is a torch\.package archive; save its state_dict\(\) instead"),
    "tar of torch 0.1": (_tar("storages"), "from before 0.1.10, a tar archive of pickles; load it with torch"),
    "tar": (_tar("weights.pt"), "a tar archive; unpack it first"),
    "a plain pickle": (_pickled, "a plain pickle"),
    "any zip": (lambda path: _zip(path, {"a.txt": b"x", "b/c.txt": b"y"}), "is a zip file without one data.pkl"),
    "an empty zip": (lambda path: _zip(path, {}), "is a zip file without one data.pkl"),
    "two data.pkl": (lambda path: _zip(path, {"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "without one data.pkl"),
    "two tensors of one name": (
        lambda path: _checkpoint(path, DictNode([Entry("1", _GOOD), Entry(1, _GOOD)]), _0=bytes(16)),
        "two tensors are named 1",
    ),
    "one key twice": (
        lambda path: _checkpoint(path, DictNode([Entry("w", _GOOD), Entry("w", _GOOD)]), _0=bytes(16)),
        "has the key w twice",
    ),
}


@pytest.mark.parametrize("case", _UNSUPPORTED)
def test_what_is_no_checkpoint_for_prunecli_says_what_it_is(tmp_path: Path, case: str) -> None:
    make, pattern = _UNSUPPORTED[case]
    make(tmp_path / "m.pt")
    refused(tmp_path / "m.pt", UnsupportedError, pattern)


@pytest.mark.parametrize(
    "name", [r"a\0b", "a\0b", "a\rb", r"a\777", r"a\N{x}", r"a\u12", "a\u2028b", "a\x1b[2Jb", "a'b"]
)
def test_names_in_code_that_no_python_would_read(tmp_path: Path, name: str) -> None:
    code = f'class Linear(Module):\n  __parameters__ = ["{name}", ]\n  __buffers__ = []\n'
    module = Call("newobj", Global("__torch__", "Linear"), TupleNode([]), states=[_dict(w=_GOOD)])
    records = {"data.pkl": dump(module, 2), "code/__torch__.py": code.encode(), "data/0": bytes(16)}
    _zip(tmp_path / "m.pt", {f"m/{each}": data for each, data in records.items()})
    with opened(tmp_path / "m.pt") as checkpoint:
        assert checkpoint.format == "TorchScript"


def test_records_outside_the_folder_are_damage(tmp_path: Path) -> None:
    _zip(tmp_path / "m.pt", {"m/data.pkl": b"\x80\x02N.", "other/version": b"3"})
    refused(tmp_path / "m.pt", DamagedError, "records outside m/")


_FOREIGN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a class": (_saved(lambda: {"w": torch.ones(2), "args": argparse.Namespace(lr=1)}), r"\(argparse\.Namespace\)"),
    "a function": (_saved(lambda: {"w": torch.ones(2), "f": print}), r"\((builtins|__builtin__)\.print\)"),
    "a whole module": (_saved(lambda: torch.nn.Linear(2, 2)), r"\(torch\.nn\.modules\.linear\.Linear"),
    "a module in a legacy file": (
        _saved(lambda: torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False),
        r"\(torch\.nn\.modules\.linear\.Linear",
    ),
}


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("case", _FOREIGN)
def test_what_weights_only_loading_refuses_is_unsafe_and_the_remedy_named(tmp_path: Path, case: str) -> None:
    make, pattern = _FOREIGN[case]
    make(tmp_path / "m.pt")
    refused(tmp_path / "m.pt", UnsafeError, f"weights-only loading refuses {pattern}.*--allow-foreign-objects")
    with open_checkpoint(tmp_path / "m.pt", ReadOptions(foreign=True)) as checkpoint:
        assert set(checkpoint.tensors) <= {"w", "weight", "bias"}


def test_many_foreign_classes_are_named_up_to_three(tmp_path: Path) -> None:
    classes = ListNode([Global("evil", f"C{i}") for i in range(9)])
    _checkpoint(tmp_path / "m.pt", _dict(w=_GOOD, x=classes), _0=bytes(16))
    refused(tmp_path / "m.pt", UnsafeError, r"\(evil\.C0, evil\.C1, evil\.C2, \.\.\.\)")


@pytest.mark.parametrize("key", ["nothing", "w.x", "state_dict.", "optimizer"])
def test_a_key_that_leads_nowhere_is_a_usage_error_that_lists_what_is_there(tmp_path: Path, key: str) -> None:
    torch.save({"w": torch.ones(2), "state_dict": {"v": torch.ones(1)}}, tmp_path / "m.pt")
    with pytest.raises(UsageError, match=r"^--key .* has no .* there, but (w, state_dict|v|nothing)$"):
        rewrite(tmp_path / "m.pt", tmp_path / "out", Edit(), key)


def test_deep_and_shared_objects_cost_no_more_than_their_bytes(tmp_path: Path) -> None:
    """Quadratic time in the depth, or exponential in the sharing, would not end."""
    deep: Node = _dict(w=_GOOD)
    for _ in range(30_000):
        deep = DictNode([Entry("a", deep)])
    shared: Node = ListNode([])
    for _ in range(200):
        shared = DictNode([Entry(f"k{i}", shared) for i in range(2)])
    wide = DictNode([Entry(f"e{i}", shared) for i in range(3000)])
    _checkpoint(tmp_path / "m.pt", _dict(deep=deep, wide=wide), _0=bytes(16))
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


@pytest.mark.parametrize("kind", ["deep list", "long keys"])
def test_names_do_not_outgrow_the_file(tmp_path: Path, kind: str) -> None:
    if kind == "deep list":
        root: Node = _GOOD
        for _ in range(30_000):
            root = ListNode([root])
    else:
        key = "k" * 300_000
        below: list[Entry] = [Entry(f"{at}", DictNode([Entry(key, _GOOD)])) for at in range(3000)]
        root = _dict(a=DictNode(below), b=_dict(w=_GOOD))
    _checkpoint(tmp_path / "m.pt", root, _0=bytes(16))
    refused(tmp_path / "m.pt", UnsupportedError, "too long a name")


def test_a_long_key_that_holds_no_tensor_is_no_matter(tmp_path: Path) -> None:
    torch.save({"vocabulary": {"x" * 9000: 1}, "model": {"w": torch.ones(2)}}, tmp_path / "m.pt")
    with opened(tmp_path / "m.pt") as checkpoint:
        assert (checkpoint.wrapper, list(checkpoint.tensors)) == ("model", ["w"])


def test_huge_numbers_as_keys_are_not_spelt_out(tmp_path: Path) -> None:
    root = DictNode([Entry(10**5000, 1), Entry("w", _GOOD)])
    _checkpoint(tmp_path / "m.pt", root, _0=bytes(16))
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


def test_a_mapping_that_contains_itself_is_read_once(tmp_path: Path) -> None:
    value: dict[str, Any] = {"w": torch.ones(2)}
    value["self"] = value
    torch.save(value, tmp_path / "m.pt")
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


def test_a_new_storage_gets_a_number_that_no_record_has(tmp_path: Path) -> None:
    """A record that the pickle does not name, a key that is a digit for str alone."""
    path, target = tmp_path / "m.pt", tmp_path / "out.pt"
    _zip(path, {"m/data.pkl": dump(_dict(w=_tensor(_storage("²"))), 2), "m/data/²": bytes(16), "m/data/0": b"unnamed"})
    addition = added("w", "v", DTYPES["bool"], (2,), Filled(1))
    rewrite(path, target, Edit(additions=[addition]))
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["m/data.pkl", "m/data/²", "m/data/1", "m/data/0"]
        assert archive.read("m/data/0") == b"unnamed"
    with opened(target) as checkpoint:
        assert {name: info.storage.key for name, info in checkpoint.tensors.items()} == {"w": "²", "v": "1"}


@pytest.mark.parametrize("value", [[torch.ones(2)], {3: torch.ones(2)}, torch.ones(2)])
def test_a_mask_needs_a_name_to_stand_beside(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "m.pt"
    torch.save(value, path)
    with opened(path) as checkpoint:
        (name,) = checkpoint.tensors
    edit = Edit(renames={name: f"{name}_orig"}, additions=[added(name, "mask", DTYPES["bool"], (2,), _Unused())])
    with pytest.raises(UnsupportedError, match=r"lies in a list or under a number.*--bake"):
        rewrite(path, tmp_path / "out", edit)


@pytest.mark.parametrize("old", [True, False])
def test_a_mask_does_not_come_beside_something_of_its_name(tmp_path: Path, old: bool) -> None:
    """Found by the fuzzer: the dict had the key twice then, and loading took the last one."""
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(2), "w_mask": "none"}, path, _use_new_zipfile_serialization=not old)
    edit = Edit(renames={"w": "w_orig"}, additions=[added("w", "w_mask", DTYPES["bool"], (2,), _Unused())])
    with pytest.raises(UnsupportedError, match="w_mask already exists, and is not a tensor; use --bake"):
        rewrite(path, tmp_path / "out", edit)


class _Unused:
    block = 1
    workspace = list[int]

    def fill(self, data: object, start: int, workspace: object) -> Outcome:
        raise AssertionError
