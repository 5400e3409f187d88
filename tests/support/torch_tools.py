"""What the tests of torch's containers share: torch's own reading of a file, edits, and the edits done by torch."""

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from checkpoint_zoo import Sample
from format_tools import Filled, added, assert_same, flattened, geometry, geometry_of, opened, raw_storage

from prunecli.formats.base import Checkpoint, Edit, Patch, TensorInfo
from prunecli.formats.dtypes import DTYPES


def load(path: Path, **kwargs: Any) -> Any:
    """What weights-only loading gives; it warns of protocol 3 and lacks the frames of 4 and 5."""
    if zipfile.is_zipfile(path):
        protocol = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")[1]
    else:
        protocol = path.read_bytes()[1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol 3")
        return torch.load(path, weights_only=protocol < 4, **kwargs)


def assert_reads(path: Path, sample: Sample, expected: Mapping[str, torch.Tensor]) -> None:
    """The layout of a file is what torch says of its tensors, and so are the bytes of their storages."""
    with opened(path, sample.key) as checkpoint:
        assert checkpoint.format == ("torch zip" if zipfile.is_zipfile(path) else "torch legacy")
        assert checkpoint.wrapper == sample.wrapper
        assert list(checkpoint.tensors) == list(expected)
        for name, info in checkpoint.tensors.items():
            assert info.name == name
            assert geometry_of(info) == geometry(expected[name]), name
            raw = checkpoint.source.read(info.storage.offset, info.storage.nbytes)
            assert raw == raw_storage(expected[name]), name


def rezipped(path: Path, out: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The records of `path`, changed (or left out, for None), in a zip by Python."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = change(name.partition("/")[2], old.read(name))
            if data is not None:
                new.writestr(name, data)
    return out


def first_bytes(checkpoint: Checkpoint) -> Edit:
    """Set the first byte of every other storage."""
    nonempty = [info.storage.key for info in checkpoint.tensors.values() if info.storage.nbytes]
    return Edit({key: [Patch(0, 1, Filled(9))] for key in nonempty[::2]})


def structural(checkpoint: Checkpoint) -> Edit:
    """Masks on two tensors, one of them renamed, one removed: of those that have a name of their own.

    Legacy files cannot name the types younger than they are.
    """
    named = [info for info in checkpoint.tensors.values() if not info.name.rpartition(".")[2].lstrip("-").isdigit()]
    chosen: list[TensorInfo] = [info for info in named if info.elements and "True" not in info.name][:3]
    additions = [added(info.name, f"{info.name}_mask", DTYPES["bool"], info.shape, Filled(1)) for info in chosen[:1]]
    young = DTYPES["int16" if checkpoint.format == "torch legacy" else "uint16"]
    additions += [added(info.name, f"{info.name}_u", young, (2, 1), Filled(0)) for info in chosen[1:2]]
    patches = {chosen[0].storage.key: [Patch(0, 1, Filled(9))]}
    removed = frozenset(info.name for info in chosen[2:3])
    return Edit(patches, {chosen[0].name: f"{chosen[0].name}_orig"}, removed, additions)


def expected(path: Path, sample: Sample, edit: Edit) -> dict[str, torch.Tensor]:
    """The edit, done by torch on what it loads."""
    old = flattened(sample.state_of(load(path)))
    with opened(path, sample.key) as checkpoint:
        keys = {name: info.storage.key for name, info in checkpoint.tensors.items()}
    patched = set(edit.patches)
    for storage in {
        tensor.untyped_storage()._cdata: tensor for name, tensor in old.items() if keys[name] in patched
    }.values():
        torch.empty(0, dtype=torch.uint8).set_(storage.untyped_storage())[0] = 9
    new: dict[str, torch.Tensor] = {}
    for name, tensor in old.items():
        if name not in edit.removals:
            new[edit.renames.get(name, name)] = tensor
        for each in edit.additions:
            if each.after == name and each.dtype.name == "bool":
                new[each.name] = torch.ones(each.shape, dtype=torch.bool)
            elif each.after == name:
                new[each.name] = torch.zeros(each.shape, dtype=getattr(torch, each.dtype.name))
    return new


def assert_rest_unchanged(old: Path, new: Path, sample: Sample, *, shared: bool) -> None:
    """All but the state dict is as it was; `shared`: other names of a patched tensor show the patch."""
    before, after = load(old), load(new)
    if not sample.path:
        assert type(before) is type(after)
        return
    assert getattr(sample.state_of(before), "_metadata", None) == getattr(sample.state_of(after), "_metadata", None)
    for step in sample.path[:-1]:
        before, after = before[step], after[step]
    assert list(before) == list(after)
    rest = [{key: value for key, value in each.items() if key != sample.path[-1]} for each in (before, after)]
    if not shared:
        assert_same(flattened(rest[1]), flattened(rest[0]))
    assert _plain(rest[1]) == _plain(rest[0])


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return "tensor" if isinstance(value, torch.Tensor) else value
