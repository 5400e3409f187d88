"""bcomplex32, two bfloat16 an element: read, counted, pruned and carried, by whatever torch is installed.

The files are those that torch 2.15.0 writes, made by hand: `_rebuild_tensor_v3` over an untyped storage.
"""

import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from surgery_zoo import apply, ask, bake, count
from torch_versions import needs

from prunecli.errors import PrunecliError
from prunecli.formats.detect import open_checkpoint

HOOKS = b"ccollections\nOrderedDict\n)R"
ELEMENTS = 64


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _tensor(key: str, elements: int, dtype: str) -> bytes:
    storage = b"(" + _text("storage") + b"ctorch.storage\nUntypedStorage\n" + _text(key) + _text("cpu")
    storage += b"J" + struct.pack("<i", elements * 4) + b"tQ"
    view = b"K\x00J" + struct.pack("<i", elements) + b"\x85K\x01\x85\x89" + HOOKS
    return b"ctorch._utils\n_rebuild_tensor_v3\n(" + storage + view + f"ctorch\n{dtype}\n".encode() + b"tR"


def _values() -> bytes:
    """Numbers whose halves are seldom zero; the first three are zero, half a zero, and a zero of signs."""
    halves = np.random.default_rng(0).integers(0x3F00, 0x4100, 2 * ELEMENTS, dtype=np.uint16)
    halves[:6] = [0, 0, 0, 0x3F80, 0x8000, 0x8000]
    return halves.astype("<u2").tobytes()


def _saved(path: Path, dtype: str = "bcomplex32") -> Path:
    pickled = b"\x80\x02}(" + _text("w") + _tensor("0", ELEMENTS, dtype) + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/version", b"3\n")
        archive.writestr("m/byteorder", b"little")
        archive.writestr("m/data/0", _values())
    return path


def _read(path: Path, name: str = "w") -> bytes:
    with open_checkpoint(path) as checkpoint:
        info = checkpoint.tensors[name]
        return checkpoint.source.read(info.storage.offset, info.storage.nbytes)


def test_it_is_read_and_counted_by_its_pairs(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.pt")
    with open_checkpoint(path) as checkpoint:
        info = checkpoint.tensors["w"]
        assert (info.dtype.name, info.dtype.itemsize, info.elements) == ("bcomplex32", 4, ELEMENTS)
    assert [(each.dtype, each.elements, each.zeros) for each in count(path).parameters] == [("bcomplex32", 64, 2)]


def test_pruned_elements_lose_both_halves_and_others_keep_theirs(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.pt")
    report = apply(path, tmp_path / "o.pt", ask(0.5, "*", remove=True))
    assert report.totals.pruned_now == ELEMENTS // 2
    old, new = (np.frombuffer(data, "<u4") for data in (_values(), _read(tmp_path / "o.pt")))
    kept = new == old
    assert (new[~kept] == 0).all()
    # 32 of 64 were drawn; of the two that were zero before, those drawn show no change, or only that of a sign.
    assert 30 <= (~kept).sum() <= 32


@pytest.mark.parametrize("mask_dtype", ["bool", "same"])
def test_masks_beside_it_bake_to_what_baking_at_once_gives(mask_dtype: str, tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.pt")
    apply(path, tmp_path / "masked.pt", ask(0.5, "*", mask_dtype=mask_dtype))
    assert _read(tmp_path / "masked.pt", "w_orig") == _values()
    bake(tmp_path / "masked.pt", tmp_path / "baked.pt")
    apply(path, tmp_path / "o.pt", ask(0.5, "*", remove=True))
    assert _read(tmp_path / "baked.pt") == _read(tmp_path / "o.pt")


def test_a_type_that_no_torch_has_is_not_admitted(tmp_path: Path) -> None:
    with (
        pytest.raises(PrunecliError, match="weights-only loading refuses"),
        open_checkpoint(_saved(tmp_path / "m.pt", "ccomplex32")),
    ):
        pass


@needs("bcomplex32")
def test_torch_loads_what_was_pruned(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.pt")
    apply(path, tmp_path / "o.pt", ask(0.5, "*", remove=True))
    with warnings.catch_warnings(action="ignore"):
        loaded = torch.load(tmp_path / "o.pt", weights_only=True)["w"]
        assert str(loaded.dtype) == "torch.bcomplex32"
        found = bytes(torch.empty(0, dtype=torch.uint8).set_(loaded.untyped_storage()).tolist())
    assert found == _read(tmp_path / "o.pt")
