"""The law of `pack` and `unpack`: the bytes come back, whatever the file, and masks that were drawn are not stored."""

import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_zoo import ZOO
from export_zoo import Exported
from export_zoo import save as save_archive
from packed_tools import check_law
from surgery_zoo import BLOCK, load, noise, raw, save
from test_apply_law import complex_zoo, edge_zoo, small_zoo, strided_zoo

from prunecli import files, load_packed
from prunecli.errors import DamagedError, OutputError, PrunecliError, UsageError
from prunecli.formats.detect import open_checkpoint


def layers() -> dict[str, torch.Tensor]:
    """Two large tensors, one of several blocks, and a small one that is literal."""
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(64, 64).bfloat16(),
        "b.weight": torch.randn(BLOCK + 77).to(torch.float16),
        "c.bias": torch.randn(8),
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("codec", ["zstd", "raw"])
@pytest.mark.parametrize("zoo", [small_zoo, complex_zoo, strided_zoo])
def test_any_elements_come_back(zoo: Callable[[], dict[str, Any]], codec: str, suffix: str, tmp_path: Path) -> None:
    tensors = zoo()
    if suffix == ".safetensors":
        tensors = {
            name: each.contiguous().clone()
            for name, each in tensors.items()
            if each.dtype not in (torch.complex32, torch.complex128)
        }
    check_law(save(tensors, tmp_path / f"model{suffix}"), codec=codec)


def test_blocks_of_every_width_come_back(tmp_path: Path) -> None:
    check_law(save(edge_zoo(), tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ZOO)
def test_any_checkpoint_comes_back(name: str, tmp_path: Path) -> None:
    sample, path = ZOO[name], tmp_path / "model.pt"
    sample.save(sample.make(), path)
    check_law(path, key=sample.key)


def test_other_containers_come_back(tmp_path: Path) -> None:
    torch.save(layers(), tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(40, 40), tmp_path / "whole.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(40, 40)), tmp_path / "program.pt")
    save_archive(Exported(), tmp_path / "program.pt2")
    save(layers(), tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "deflated.pt", "w", 8) as deflated:
        for info in plain.infolist():
            deflated.writestr(info.filename, plain.read(info))
    for name in ("legacy.pt", "whole.pt", "program.pt", "program.pt2", "deflated.pt"):
        check_law(tmp_path / name)


def pruned(folder: Path, suffix: str, **options: Any) -> Path:
    path = save(layers(), folder / f"model{suffix}")
    out = folder / f"pruned{suffix}"
    files.apply(path, params="*.weight", amount=0.5, seed=7, output=out, **options)
    return out


def bits_of(*tensors: torch.Tensor) -> int:
    return sum(each.numel() for each in tensors) // 8


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("options", [{"bake": True}, {}, {"mask_dtype": "same"}], ids=["baked", "masked", "same"])
def test_a_drawn_mask_is_not_stored(options: dict[str, Any], suffix: str, tmp_path: Path) -> None:
    """Of half of the elements nothing is stored, of a mask a few bytes a block."""
    path = pruned(tmp_path, suffix, **options)
    found = check_law(path, codec="raw")
    assert (found.drawn, found.stored) == (2, 0)
    values = sum(each.nbytes for each in layers().values())
    assert found.bytes < (values // 2 if "bake" in options else values) + 6000
    (tmp_path / f"pruned{suffix}.report.json").unlink()
    without = check_law(path, codec="raw")
    assert without.drawn == 0
    weights = list(layers().values())[:2]
    assert without.stored == 2
    if "bake" in options:
        assert bits_of(*weights) - 6000 < without.bytes - found.bytes < bits_of(*weights)


def test_rounds_are_a_chain_of_reports(tmp_path: Path) -> None:
    path, reports = save(layers(), tmp_path / "0.safetensors"), []
    for name in "123":
        files.apply(path, params="*.weight", amount=0.5, seed=7, output=tmp_path / f"{name}.safetensors")
        path = tmp_path / f"{name}.safetensors"
        reports.append(f"{path}.report.json")
    assert check_law(path).drawn == 0
    packed, again = tmp_path / "packed.safetensors", tmp_path / "again"
    found = files.pack(path, from_report=reports[::-1], output=packed, force=True)
    assert (found.drawn, found.stored) == (2, 0)
    files.unpack(packed, output=again, force=True)
    assert again.read_bytes() == path.read_bytes()


def test_an_element_that_does_not_fit_makes_a_mask_stored(tmp_path: Path) -> None:
    path = pruned(tmp_path, ".safetensors", bake=True)
    data = bytearray(path.read_bytes())
    with open_checkpoint(path) as checkpoint:
        place = checkpoint.tensors["a.weight"].storage
    zero = data.index(b"\0\0", place.offset)
    data[zero + (zero - place.offset) % 2] = 1
    path.write_bytes(data)
    found = check_law(path)
    assert (found.drawn, found.stored) == (1, 1)


def test_zeros_of_other_signs_and_natural_ones_come_back(tmp_path: Path) -> None:
    tensor = torch.zeros(4096)
    tensor[1::3] = -0.0
    tensor[2::3] = float("nan")
    check_law(save({"w": tensor, "half": noise((4096,)) * (torch.arange(4096) % 2)}, tmp_path / "m.safetensors"))


def test_readers_see_the_original(tmp_path: Path) -> None:
    path = pruned(tmp_path, ".pt", bake=True)
    packed = path.with_name(path.name + ".packed.safetensors")
    assert files.pack(path).path == str(packed)
    listed = files.params(packed, all_=True)
    assert [replace(each, stored="") for each in listed] == files.params(path, all_=True)
    weights = [name for name in layers() if name.endswith(".weight")]
    assert {each.name: each.stored for each in listed} == {
        name: "drawn mask" if name in weights else "dense" for name in layers()
    }
    assert files.report(packed).parameters == files.report(path).parameters
    assert not files.diff(packed, path).differing
    assert files.verify(packed).parameters == 3
    path.unlink()
    assert files.unpack(packed).path == str(path)


def test_nothing_is_made_of_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = save(layers(), tmp_path / "m.safetensors")

    def shrink(*_: int) -> None:
        os.truncate(path, 600)

    with pytest.raises(PrunecliError, match="in the middle of its data"):
        files.pack(path, progress=shrink, jobs=1)
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_refused(tmp_path: Path) -> None:
    path = pruned(tmp_path, ".safetensors")
    packed = Path(str(files.pack(path).path))
    with pytest.raises(OutputError, match="exists"):
        files.pack(path)
    with pytest.raises(OutputError, match="exists"):
        files.unpack(packed)
    with pytest.raises(UsageError, match="packed already"):
        files.pack(packed)
    with pytest.raises(UsageError, match="not a packed file"):
        files.unpack(path, output=tmp_path / "out")
    with pytest.raises(UsageError, match="name the output"):
        files.unpack(packed.rename(tmp_path / "other"))
    with pytest.raises(UsageError, match="no codec"):
        files.pack(path, codec="lzma", force=True)  # type: ignore[arg-type]
    other = save({"x": torch.ones(4096)}, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="no mask that a report records"):
        files.pack(other, from_report=f"{path}.report.json")
    assert not (tmp_path / "other.safetensors.packed.safetensors").exists()
    with pytest.raises(UsageError, match="unpack it first"):
        files.apply(tmp_path / "other", params="*.weight", amount=0.5, output=tmp_path / "out")
    (tmp_path / "other.safetensors.report.json").write_text("{")
    assert files.pack(other).stored == 0
    with pytest.raises(DamagedError):
        files.pack(other, from_report=f"{other}.report.json", force=True)


def test_tensors_are_loaded_from_a_packed_file(tmp_path: Path) -> None:
    path = pruned(tmp_path, ".pt", bake=True)
    packed, plain = files.pack(path).path, load(path)
    found = load_packed(str(packed))
    assert {name: raw(each) for name, each in found.items()} == {name: raw(each) for name, each in plain.items()}
    assert [*load_packed(str(packed), ["c.bias"])] == ["c.bias"]
    with pytest.raises(UsageError, match=r"no tensor c.bia; its nearest is c.bias"):
        load_packed(str(packed), "c.bia")
