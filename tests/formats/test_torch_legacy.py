"""Files from before torch 1.6 against torch.load: the same laws as for zip files, and what only they can do wrong."""

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_zoo import ZOO, Sample
from format_tools import Filled, Looked, added, assert_same, flattened, opened, refused, refused_bytes, rewrite
from legacy_by_hand import FOUR, GOOD, MAGIC_NUMBER, Rebuilt, StoredAs, legacy_file, pickled
from torch_tools import assert_reads, assert_rest_unchanged, expected, first_bytes, load, structural

from prunecli.errors import DamagedError, UnsafeError, UnsupportedError
from prunecli.formats.base import Edit, Patch
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.torch import legacy as torch_legacy
from prunecli.formats.torch.globals import STORAGE_OF
from prunecli.formats.torch.legacy import TorchLegacy


def _saved(value: Any, path: Path, protocol: int = 2) -> None:
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)


def _number(name: str) -> int:
    return int(name[-1]) if name.startswith("protocol ") else 2


def _old_dtypes() -> dict[str, torch.Tensor]:
    """Those with a storage class of their own; torch itself writes the others, and cannot read them back."""
    return {name: tensor for name, tensor in ZOO["dtypes"].make().items() if name.partition(".")[2] in STORAGE_OF}


_LEGACY = {name: sample for name, sample in ZOO.items() if name not in ("no checksums", "a buffer")}
_LEGACY["dtypes"] = Sample(_old_dtypes)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("legacy")

    def path_of(name: str) -> Path:
        path = folder / f"{name.replace(' ', '_')}.pt"
        if not path.exists():
            _saved(_LEGACY[name].make(), path, _number(name))
        return path

    return path_of


@pytest.mark.parametrize("name", _LEGACY)
def test_layout_is_what_torch_loads(zoo: Callable[[str], Path], name: str) -> None:
    assert_reads(zoo(name), _LEGACY[name], flattened(_LEGACY[name].state_of(load(zoo(name)))))


@pytest.mark.parametrize("name", _LEGACY)
def test_an_identity_rewrite_is_byte_identical(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path, key = zoo(name), _LEGACY[name].key
    assert rewrite(path, tmp_path / "out", Edit(), key) == path.read_bytes()
    looked = lambda checkpoint: Edit(  # noqa: E731
        {info.storage.key: [Patch(0, info.storage.nbytes, Looked())] for info in checkpoint.tensors.values()}
    )
    assert rewrite(path, tmp_path / "out", looked, key) == path.read_bytes()


@pytest.mark.parametrize("name", _LEGACY)
def test_an_edit_in_place_changes_its_bytes_only(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path, key = zoo(name), _LEGACY[name].key
    data = bytearray(path.read_bytes())
    with opened(path, key) as checkpoint:
        patched = first_bytes(checkpoint).patches
        assert patched
        for info in checkpoint.tensors.values():
            if info.storage.key in patched:
                data[info.storage.offset] = 9
    assert rewrite(path, tmp_path / "out", first_bytes, key) == data


@pytest.mark.parametrize("name", [name for name in _LEGACY if name != "forced optimizer"])
def test_a_structural_edit_is_what_torch_loads(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    path, sample, out = zoo(name), _LEGACY[name], tmp_path / "out.pt"
    with opened(path, sample.key) as checkpoint:
        edit = structural(checkpoint)
    rewrite(path, out, edit, sample.key)
    wanted = expected(path, sample, edit)
    assert_same(flattened(sample.state_of(load(out))), wanted)
    assert_reads(out, sample, wanted)
    assert_rest_unchanged(path, out, sample, shared="shared" in name)


@pytest.mark.parametrize("name", ["flat", "Lightning", "views", "shared"])
def test_renaming_there_and_back_gives_the_file_back(zoo: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """So what was not asked for is written as torch wrote it, the list of keys among it."""
    path, (one, two) = zoo(name), (tmp_path / "one", tmp_path / "two")
    with opened(path, _LEGACY[name].key) as checkpoint:
        first = next(iter(checkpoint.tensors))
    rewrite(path, one, Edit(renames={first: f"{first}_orig"}), _LEGACY[name].key)
    assert rewrite(one, two, Edit(renames={f"{first}_orig": first}), _LEGACY[name].key) == path.read_bytes()


def test_a_pickle_longer_than_the_first_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.pt"
    _saved({"notes": ["x" * 99] * 50, "state_dict": {f"w{i}": torch.full((i,), float(i)) for i in range(40)}}, path)
    whole = flattened(load(path)["state_dict"])
    for window in (1, 13, 100, 1000):
        monkeypatch.setattr(torch_legacy, "_WINDOW", window)
        assert_reads(path, Sample(dict, ("state_dict",)), whole)
        monkeypatch.setattr(torch_legacy, "_LARGEST_PICKLE", 64)
        refused(path, UnsafeError, "a pickle of more than")
        monkeypatch.undo()


def test_the_good_one_of_the_damaged_ones_is_good(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(legacy_file(GOOD, ["a"], (4, FOUR)))
    assert_same(load(tmp_path / "m.pt"), {"w": torch.tensor([[1.0, 2], [3, 4]])})
    with opened(tmp_path / "m.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["w"]


def test_every_truncation_is_damage_or_no_checkpoint(tmp_path: Path) -> None:
    data = legacy_file(GOOD, ["a"], (4, FOUR))
    for size in range(len(data)):
        path = tmp_path / "m.pt"
        path.write_bytes(data[:size])
        with pytest.raises(DamagedError) as caught, opened(path):
            pass
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("facts", [{"magic": MAGIC_NUMBER, "version": 1000}])
def test_another_version_is_said_so(tmp_path: Path, facts: Mapping[str, int]) -> None:
    refused_bytes(tmp_path / "m.pt", legacy_file(GOOD, ["a"], (4, FOUR), **facts), UnsupportedError, "another version")


def test_parts_of_a_storage_as_torch_0_3_saved_them(tmp_path: Path) -> None:
    """Both the part's offset and the tensor's count; what torch makes of them is the oracle."""
    root = [Rebuilt(StoredAs("a", 8, ("v", 2, 5)), 1, 2, 2), Rebuilt(StoredAs("a", 8), 4, 3)]
    path, data = tmp_path / "m.pt", struct.pack("<8f", *range(8))
    path.write_bytes(legacy_file(pickled(root), ["a"], (8, data)))
    wanted = load(path)
    assert wanted[0].tolist() == [[3, 4], [5, 6]]
    with opened(path) as checkpoint:
        for name, info in checkpoint.tensors.items():
            raw = checkpoint.source.read(info.storage.offset + info.view.start * 4, info.elements * 4)
            assert raw == wanted[int(name)].numpy().tobytes()


def test_dicts_as_python_2_pickled_them(tmp_path: Path) -> None:
    """OrderedDict([[key, value], ...]) by REDUCE, its keys `str` of Python 2 (SHORT_BINSTRING)."""
    tensor = pickled(Rebuilt(StoredAs("a", 4), 0, 2, 2))[2:-1]
    state = b"ccollections\nOrderedDict\n(](](U\x04fc.wq\xf0" + tensor + b"e](U\x01bq\xf1" + tensor + b"eetR."
    path, out = tmp_path / "m.pt", tmp_path / "out.pt"
    path.write_bytes(legacy_file(b"\x80\x02" + state, ["a"], (4, FOUR)))
    assert list(load(path)) == ["fc.w", "b"]
    with opened(path) as checkpoint:
        assert list(checkpoint.tensors) == ["fc.w", "b"]
    assert rewrite(path, out, Edit()) == path.read_bytes()
    mask = added("fc.w", "fc.w_mask", DTYPES["bool"], (2, 2), Filled(1))
    rewrite(path, out, Edit(renames={"fc.w": "fc.w_orig"}, additions=[mask]))
    assert list(load(out)) == ["fc.w_orig", "fc.w_mask", "b"]


def test_a_new_storage_stands_behind_that_of_its_neighbour(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    with opened(zoo("flat")) as checkpoint:
        assert isinstance(checkpoint, TorchLegacy)
        keys, home = list(checkpoint.places), checkpoint.tensors["fc.weight"].storage.key
    mask = added("fc.weight", "fc.weight_mask", DTYPES["bool"], (3, 4), Filled(1))
    rewrite(zoo("flat"), tmp_path / "out.pt", Edit(additions=[mask]))
    with opened(tmp_path / "out.pt") as checkpoint:
        assert isinstance(checkpoint, TorchLegacy)
        keys.insert(keys.index(home) + 1, str(max(map(int, keys)) + 1))
        assert list(checkpoint.places) == keys
