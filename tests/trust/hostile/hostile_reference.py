"""What has to be the same in a baked output, read by zipfile, torch and safetensors."""

import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

__all__ = ["differences"]


def differences(source: Path, output: Path, reference: str) -> Iterator[str]:
    """Tell in what an output differs from its input, other than by elements that became zero."""
    if source.is_dir():
        yield from _folders(source, output, reference)
        return
    yield from _bytes(source, output)
    if not reference:
        return
    try:
        before, after = (_read(path, reference) for path in (source, output))
    except Exception as error:  # whatever the library thinks of it
        yield f"{reference} cannot read it: {error}"
        return
    if list(before) != list(after):
        yield f"{list(after)} instead of {list(before)}"
        return
    zeros = 0
    for name, old in before.items():
        new = after[name]
        if (old.dtype, old.shape, old.stride()) != (new.dtype, new.shape, new.stride()):
            yield f"{name!r} is {new.dtype} {new.shape} instead of {old.dtype} {old.shape}"
            continue
        same = (_raw(old) == _raw(new)).all(-1)
        zero = (_raw(new) == 0).all(-1)
        zeros += int((zero & ~same).sum())
        prunable = old.is_floating_point() or old.is_complex()
        if not (same | zero).all() or not (prunable or same.all()):
            yield f"{name!r} has elements that are neither what they were nor zero"
    if not zeros:
        yield "nothing was pruned"


def _folders(source: Path, output: Path, reference: str) -> Iterator[str]:
    before, after = (
        {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (source, output)
    )
    if list(before) != list(after):
        yield f"{list(after)} instead of {list(before)}"
        return
    for name, old in before.items():
        if name.endswith((".safetensors", ".bin")):
            yield from differences(old, after[name], reference)
        elif name.endswith(".distcp"):
            yield from _only_zeros(old.read_bytes(), after[name].read_bytes(), name, but=40)
        elif old.read_bytes() != after[name].read_bytes():
            yield f"{name} was changed"


def _bytes(source: Path, output: Path) -> Iterator[str]:
    """All bytes that differ are zeros of weights, or checksums of these."""
    old, new = source.read_bytes(), output.read_bytes()
    if old[:4] != b"PK\x03\x04":
        yield from _only_zeros(old, new, "the file")
        return
    with zipfile.ZipFile(source) as one, zipfile.ZipFile(output) as other:
        if one.namelist() != other.namelist():
            yield f"records {other.namelist()} instead of {one.namelist()}"
            return
        for mine, theirs in zip(one.infolist(), other.infolist(), strict=True):
            start = mine.header_offset
            if start != theirs.header_offset or mine.file_size != theirs.file_size:
                yield f"record {mine.filename!r} lies elsewhere"
            if mine.CRC == 0 and mine.file_size:  # written without checksums, which zipfile takes for wrong ones
                del mine.CRC
            yield from _only_zeros(one.read(mine), other.read(theirs), mine.filename)


def _only_zeros(old: bytes, new: bytes, name: str, but: int = 0) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{name!r} has {len(new)} bytes instead of {len(old)}"
        return
    bad = (
        [at for at, (one, other) in enumerate(zip(old, new, strict=True)) if one != other and other]
        if old != new
        else []
    )
    if len(bad) > but:
        yield f"{name!r} has other bytes than zeros at {bad[:8]}"


def _read(path: Path, reference: str) -> dict[str, torch.Tensor]:
    if reference == "safetensors":
        return dict(sorted(safetensors.torch.load(path.read_bytes()).items()))
    with warnings.catch_warnings(action="ignore"):
        loaded = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    return dict(_flat(loaded, "", frozenset()))


def _flat(value: Any, name: str, above: frozenset[int]) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and value.device.type == "cpu":
            yield name, value
        return
    if id(value) in above or not isinstance(value, Mapping | list | tuple):
        return
    # An attribute of the file's may stand where a method was.
    items = list(dict.items(value)) if isinstance(value, dict) else list(enumerate(value))
    for key, below in items:
        yield from _flat(below, f"{name}/{key}", above | {id(value)})


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of each element: shape `(elements, itemsize)`."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).reshape(tensor.numel(), tensor.itemsize)
