"""Packed folders: the same files with the same bytes come back, and no file has a name that loaders look for."""

import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from component_zoo import make_pipeline
from folder_zoo import make_folder
from packed_tools import check_law
from slices_by_hand import save_slices
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

import prunecli
from prunecli import files
from prunecli.errors import DamagedError, OutputError, UnsafeError, UnsupportedError, UsageError
from prunecli.formats.outputs.resumable import partial_of
from prunecli.formats.packed.names import MANIFEST, SUFFIX


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"layer{each}.weight": torch.randn(64, 50).bfloat16() for each in range(3)}


def sharded(root: Path) -> None:
    make_folder(root, [{name: each} for name, each in tensors().items()])
    (root / "link.json").symlink_to("config.json")


def distributed(root: Path) -> None:
    with pytest.warns(UserWarning, match="save in a single process"):
        save_distributed(tensors(), checkpoint_id=root, no_dist=True)


def sliced(root: Path) -> None:
    """Each tensor in two files; a part of a drawn mask is stored, since only whole masks are drawn again."""
    save_slices(tensors(), root, {name: [[40], []] for name in tensors()})


def contents(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in root.rglob("*") if each.is_file()}


@pytest.fixture(params=[sharded, distributed])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make: Callable[[Path], None] = request.param
    make(tmp_path / "model")
    files.apply(tmp_path / "model", params="*", amount=0.5, seed=7, bake=True, output=tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    sharded(tmp_path / "model")
    files.pack(tmp_path / "model")
    return tmp_path / "model.packed"


@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_a_folder_comes_back(folder: Path, codec: str) -> None:
    before = contents(folder)
    found = files.pack(folder, codec=codec, verify=True)  # type: ignore[arg-type]
    assert (found.path, found.drawn, found.stored) == (f"{folder}.packed", 3, 0)
    assert found.original_bytes == sum(map(len, before.values()))
    packed = contents(Path(f"{folder}.packed"))
    listed = json.loads(packed.pop(MANIFEST))["files"]
    assert set(packed) == {name + SUFFIX for name in before}
    assert listed == {name: [len(data), zlib.crc32(data)] for name, data in before.items()}
    assert found.bytes == sum(map(len, packed.values()))
    shutil.rmtree(folder)
    assert files.unpack(f"{folder}.packed").path == str(folder)
    assert contents(folder) == before


def test_an_index_stands_for_its_folder(packed: Path) -> None:
    index = next(packed.with_name("model").glob("*.index.json"))
    found = files.pack(index, force=True)
    assert found.path == str(packed)
    assert files.unpack(packed, output=packed.with_name("out")).original_bytes == found.original_bytes


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    packed = Path(f"{folder}.packed")
    files.pack(folder)
    with pytest.raises(OutputError, match="exists"):
        files.pack(folder)
    files.pack(folder, force=True)
    (packed / "more.txt").touch()
    with pytest.raises(OutputError, match="is not replaced"):
        files.pack(folder, force=True)
    files.unpack(packed, output=tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)
    with pytest.raises(OutputError, match="exists"):
        files.unpack(packed, output=tmp_path / "again")
    first = next(packed.rglob(f"*{SUFFIX}"))
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(DamagedError):
        files.unpack(packed, output=tmp_path / "out")
    with pytest.raises(UsageError, match="name the output"):
        files.unpack(packed.rename(tmp_path / "other"))
    with pytest.raises(UsageError, match="is not a packed folder"):
        files.unpack(folder, output=tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir() if "out" in each.name) == []


def lose(packed: Path) -> None:
    (packed / f"config.json{SUFFIX}").unlink()


def add(packed: Path) -> None:
    shutil.copy(packed / f"config.json{SUFFIX}", packed / f"more.json{SUFFIX}")


def exchange(packed: Path) -> None:
    first, second, *_ = sorted(packed.glob("model-*"))
    first.rename(packed / "first")
    second.rename(first)
    (packed / "first").rename(second)


def forget(packed: Path) -> None:
    (packed / MANIFEST).unlink()


def cut(packed: Path) -> None:
    (packed / MANIFEST).write_bytes((packed / MANIFEST).read_bytes()[:-9])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lose, f"lacks config.json{SUFFIX}"),
        (add, f"contains more.json{SUFFIX}"),
        (exchange, "is another file than the one"),
        (forget, "packed or copied in part"),
        (cut, "is not JSON"),
    ],
)
def test_a_folder_that_is_not_whole_is_noticed(packed: Path, change: Callable[[Path], None], reason: str) -> None:
    change(packed)
    for use in (files.params, files.report, prunecli.load_packed):
        with pytest.raises(DamagedError, match=reason):
            use(packed)
    with pytest.raises(DamagedError, match=reason):
        files.unpack(packed, output=packed.with_name("out"))
    assert not packed.with_name("out").exists()
    assert not partial_of(packed.with_name("out")).root.exists()


@pytest.mark.parametrize("name", ["../up", "a/../../up", "..", "", "/etc/up", "a//b", ".git", "a/.git/config"])
def test_names_that_lead_out_of_the_folder_are_refused(packed: Path, name: str) -> None:
    content = json.loads((packed / MANIFEST).read_bytes())
    content["files"][name] = content["files"].pop("config.json")
    (packed / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UnsafeError, match="which no checkpoint has"):
        files.unpack(packed, output=packed.with_name("out"))
    assert not packed.with_name("out").exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"prunecli.packed": 2, "files": {}}, UnsupportedError),
        ({"prunecli.packed": True, "files": {}}, DamagedError),
        ({"files": {}}, DamagedError),
        ({"prunecli.packed": 1, "files": []}, DamagedError),
        ({"prunecli.packed": 1, "files": {"a": [1]}}, DamagedError),
        ({"prunecli.packed": 1, "files": {"a": [1, -1]}}, DamagedError),
        ({"prunecli.packed": 1, "files": {"a": [1, "1"]}}, DamagedError),
        ([], DamagedError),
    ],
)
def test_lists_that_are_none_are_refused(packed: Path, content: object, error: type[DamagedError]) -> None:
    (packed / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(error, match=MANIFEST) as raised:
        files.params(packed)
    assert type(raised.value) is error


def test_a_file_that_is_packed_in_another_way_is_the_same_file(packed: Path) -> None:
    shard = "model-00001-of-00003.safetensors"
    again = packed / f"{shard}{SUFFIX}"
    before = again.read_bytes()
    files.pack(packed.with_name("model") / shard, output=again, codec="raw", force=True)
    assert again.read_bytes() != before
    files.unpack(packed, output=packed.with_name("out"))
    assert contents(packed.with_name("out")) == contents(packed.with_name("model"))


def test_files_of_a_folder_are_packed_alone_as_well(tmp_path: Path) -> None:
    sharded(tmp_path / "model")
    check_law(next((tmp_path / "model").glob("*.safetensors")))


@pytest.mark.parametrize("make", [sharded, make_pipeline, distributed, sliced])
def test_readers_see_the_original(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "model")
    files.apply(tmp_path / "model", params="*", amount=0.5, min_dim=2, seed=7, bake=True, output=tmp_path / "m")
    packed = files.pack(tmp_path / "m").path
    assert packed is not None
    listed = files.params(packed, all_=True)
    assert [replace(each, stored="") for each in listed] == files.params(tmp_path / "m", all_=True)
    form = "stored mask" if make is sliced else "drawn mask"
    assert {each.stored for each in listed} - {"dense"} <= {form}  # those of the pipeline are tiny
    drawn = files.unpack(packed, output=tmp_path / "o").drawn
    assert drawn == sum(each.stored == "drawn mask" for each in listed)
    assert contents(tmp_path / "o") == contents(tmp_path / "m")
    assert files.report(packed).parameters == files.report(tmp_path / "m").parameters
    assert not files.diff(packed, tmp_path / "m").differing
    assert files.verify(packed).parameters > 2
    loaded = prunecli.load_packed(packed)
    assert {name: each.tolist() for name, each in loaded.items()} == {
        name: each.tolist() for name, each in prunecli.load_packed(tmp_path / "m").items()
    }
    with pytest.raises(UsageError, match="unpack it first"):
        files.apply(packed, params="*", amount=0.5, min_dim=2, bake=True, output=tmp_path / "out")
    with pytest.raises(UsageError, match="packed already"):
        files.pack(packed, output=tmp_path / "out")
