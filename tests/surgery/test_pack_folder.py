"""Packed folders: the same files with the same bytes come back, and no file has a name that loaders look for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from component_zoo import make_pipeline
from folder_zoo import make_folder
from packed_tools import check_law
from torch.distributed.checkpoint.state_dict_saver import save as save_distributed

from prunecli import files
from prunecli.errors import DamagedError, OutputError, UsageError


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"layer{each}.weight": torch.randn(64, 50).bfloat16() for each in range(3)}


def sharded(root: Path) -> None:
    make_folder(root, [{name: each} for name, each in tensors().items()])
    (root / "link.json").symlink_to("config.json")


def distributed(root: Path) -> None:
    with pytest.warns(UserWarning, match="save in a single process"):
        save_distributed(tensors(), checkpoint_id=root, no_dist=True)


def contents(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in root.rglob("*") if each.is_file()}


@pytest.fixture(params=[sharded, distributed])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make: Callable[[Path], None] = request.param
    make(tmp_path / "model")
    files.apply(tmp_path / "model", params="*", amount=0.5, seed=7, bake=True, output=tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_a_folder_comes_back(folder: Path, codec: str) -> None:
    before = contents(folder)
    found = files.pack(folder, codec=codec, verify=True)  # type: ignore[arg-type]
    assert (found.path, found.drawn, found.stored) == (f"{folder}.packed", 3, 0)
    assert found.original_bytes == sum(map(len, before.values()))
    packed = contents(Path(f"{folder}.packed"))
    assert set(packed) == {f"{name}.packed.safetensors" for name in before}
    assert found.bytes == sum(map(len, packed.values()))
    shutil.rmtree(folder)
    assert files.unpack(f"{folder}.packed").path == str(folder)
    assert contents(folder) == before


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    packed = Path(f"{folder}.packed")
    files.pack(folder)
    with pytest.raises(OutputError, match="exists"):
        files.pack(folder)
    files.pack(folder, force=True)
    (packed / "more.txt").touch()
    with pytest.raises(OutputError, match="is not replaced"):
        files.pack(folder, force=True)
    with pytest.raises(UsageError, match=r"contains more.txt, which is not packed"):
        files.unpack(packed, output=tmp_path / "out")
    (packed / "more.txt").rename(packed / "...packed.safetensors")
    with pytest.raises(UsageError, match="which is not packed"):
        files.unpack(packed, output=tmp_path / "out")
    (packed / "...packed.safetensors").unlink()
    first = next(packed.rglob("*.packed.safetensors"))
    first.write_bytes(first.read_bytes()[:-9])
    with pytest.raises(DamagedError):
        files.unpack(packed, output=tmp_path / "out")
    with pytest.raises(UsageError, match="name the output"):
        files.unpack(packed.rename(tmp_path / "other"))
    assert not (tmp_path / "out").exists()


def test_files_of_a_folder_are_packed_alone_as_well(tmp_path: Path) -> None:
    sharded(tmp_path / "model")
    check_law(next((tmp_path / "model").glob("*.safetensors")))


@pytest.mark.parametrize("make", [sharded, make_pipeline])
def test_readers_see_the_original(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "model")
    files.apply(tmp_path / "model", params="*", amount=0.5, min_dim=2, seed=7, bake=True, output=tmp_path / "m")
    packed = files.pack(tmp_path / "m").path
    assert packed is not None
    assert files.params(packed, all_=True) == files.params(tmp_path / "m", all_=True)
    assert files.report(packed).parameters == files.report(tmp_path / "m").parameters
    assert not files.diff(packed, tmp_path / "m").differing
    assert files.verify(packed).parameters > 2
    with pytest.raises(UsageError, match="unpack it first"):
        files.apply(packed, params="*", amount=0.5, min_dim=2, output=tmp_path / "out")
    with pytest.raises(UsageError, match="packed already"):
        files.pack(packed, output=tmp_path / "out")
