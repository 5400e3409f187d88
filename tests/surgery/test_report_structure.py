"""Structure and checksums in reports: those of the tensors as torch has them, however their elements are met."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from dcp_tools import save as save_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import by_ranks
from small_blocks import SMALL_BLOCK, small_blocks
from structure_zoo import patterns_of, structure_of
from surgery_zoo import FLOATS, INTEGERS, apply, ask, bake, load, noise, raw, save
from torch import Tensor

from prunecli.formats.base import TensorInfo
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.opening import open_any
from prunecli.formats.views import View
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.select import Selection
from prunecli.surgery.report.measure import measure, picture_cells
from prunecli.surgery.report.model import ParameterReport, Report
from prunecli.surgery.run import units
from prunecli.surgery.run.options import Run

small_blocks = pytest.fixture(scope="module", autouse=True)(small_blocks)


def look(path: Path, *patterns: str, run: Run | None = None, structure: bool = True) -> Report:
    """Run a whole `report` that also looks at where zeros lie."""
    with open_any(path) as opened:
        chosen = Selection(patterns) if patterns else None
        return measure(opened, chosen, run or Run(2), structure=structure, pictures=structure)


def sparse(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Random bits of which many are zero, some rows and columns wholly."""
    tensor = noise(shape, dtype, seed)
    generator = torch.Generator().manual_seed(seed)
    drop = torch.rand(shape, generator=generator) < 0.5
    if len(shape) > 1:
        drop |= torch.rand((shape[0], *[1] * (len(shape) - 1)), generator=generator) < 0.3
        drop |= torch.rand((1, *shape[1:]), generator=generator) < 0.3
    return torch.where(drop, torch.zeros((), dtype=dtype), tensor) if dtype.is_floating_point else tensor


def zero(tensor: Tensor) -> Any:
    wide = tensor.double() if tensor.dtype.itemsize == 1 else tensor
    return (wide == 0).numpy()


def check(report: Report, values: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> None:
    """Compare a report with tensors and the masks over them: all are listed, and each as it is."""
    assert {each.name for each in report.parameters} == values.keys()
    masks = masks or {}
    for each in report.parameters:
        value, mask = values[each.name], masks.get(each.name)
        dropped = zero(value) if mask is None else zero(value) | ~mask.bool().numpy()
        assert each.structure == structure_of(dropped, 128), each.name
        assert each.patterns == patterns_of(dropped), each.name
        assert each.zeros == dropped.sum()
        check_sum(each, value)


def check_sum(row: ParameterReport, value: Tensor) -> None:
    expected = f"{zlib.crc32(raw(value)):08x}"
    assert row.crc32 == (expected if value.is_contiguous() else None), row.name


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_of_every_type_and_shape(suffix: str, tmp_path: Path) -> None:
    tensors = {str(dtype)[6:]: sparse((35, 24), dtype, seed) for seed, dtype in enumerate(FLOATS + INTEGERS)}
    tensors |= {
        "long": sparse((2 * SMALL_BLOCK + 3,), torch.bfloat16),
        "empty": torch.empty(0, 3),
        "0d": torch.zeros(()),
    }
    tensors |= {"conv": sparse((7, 3, 5, 4)), "tall": sparse((275, 251), torch.float16), "none": noise((40, 40))}
    check(look(save(tensors, tmp_path / f"model{suffix}"), *tensors), tensors)


def test_of_views_that_are_met_element_by_element(tmp_path: Path) -> None:
    table = sparse((40, 36))
    tensors = {
        "t": table.t(),
        "even": table[:, ::2],
        "rows": table[3:9],
        "packed": sparse((60, 70), torch.float16)[2:50, 1:41],
        "channels_last": sparse((8, 3, 4, 8)).contiguous(memory_format=torch.channels_last),
    }
    check(look(save(tensors, tmp_path / "model.pt")), tensors)


def test_tied_parameters_of_several_shapes_are_matrices_of_their_own(tmp_path: Path) -> None:
    table = sparse((24, 1))
    tensors = {"a": table, "b": table.view(24), "c": table.view(1, 24), "d": table.view(1, 6, 4)[0], "e": table[:]}
    check(look(save(tensors, tmp_path / "model.pt")), tensors)


def test_an_expanded_tensor_has_zeros_and_no_structure(tmp_path: Path) -> None:
    tensors = {"w": torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3)}
    (row,) = look(save(tensors, tmp_path / "model.pt")).parameters
    assert (row.zeros, row.structure, row.crc32) == (8, None, None)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_of_masked_parameters_it_is_that_of_the_product_and_the_sum_that_of_what_is_kept(
    suffix: str, tmp_path: Path
) -> None:
    values = {"w": sparse((33, 40)), "long": noise((SMALL_BLOCK + 8,), torch.float16)}
    if suffix == ".pt":
        values["t"] = sparse((33, 40)).t()
    masks = {name: noise(tuple(value.shape), torch.bool, 2) for name, value in values.items()}
    masks["w"] = masks["w"].float()
    stored = {f"{name}_orig": value for name, value in values.items()}
    stored |= {f"{name}_mask": mask for name, mask in masks.items()}
    check(look(save(stored, tmp_path / f"model{suffix}")), values, masks)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("options", [{"remove": True}, {}, {"mask_dtype": "same"}], ids=str)
def test_the_sums_of_apply_are_those_of_what_it_wrote(suffix: str, options: Any, tmp_path: Path) -> None:
    tensors = {"a": sparse((40, 50)), "b": noise((2 * SMALL_BLOCK - 7,), torch.bfloat16), "left": sparse((9,))}
    if suffix == ".pt":
        tensors |= {"t": sparse((30, 20)).t(), "row": (wide := sparse((6, 8)))[2], "odd": wide[1::2]}
    source, target = save(tensors, tmp_path / f"model{suffix}"), tmp_path / f"out{suffix}"
    written = apply(
        source, target, ask(0.5, excludes=[each for each in ("left", "row", "odd") if each in tensors], **options)
    )
    loaded = load(target)
    for row in written.parameters:
        check_sum(row, loaded.get(row.name, loaded.get(f"{row.name}_orig")))
        assert row.structure is None
    assert [each.crc32 for each in look(target).parameters] == [each.crc32 for each in written.parameters]


def test_the_sums_of_remove_are_those_of_the_product(tmp_path: Path) -> None:
    values = {"w": noise((33, 40)), "s": torch.rand(17, 4), "t": noise((8, 9)).t()}
    masks = {
        "w": noise((33, 40), torch.bool, 2),
        "s": torch.rand(17, 4).round(decimals=1),
        "t": noise((9, 8), torch.bool),
    }
    stored = {f"{name}_orig": value for name, value in values.items()}
    stored |= {f"{name}_mask": mask for name, mask in masks.items()}
    baked = bake(save(stored, tmp_path / "model.pt"), tmp_path / "out.pt")
    loaded = load(tmp_path / "out.pt")
    for row in baked.parameters:
        check_sum(row, loaded[row.name])


CUTS = {
    "line": ((40,), ((4, 8),)),
    "rows": ((40, 24), ((8, 16), ())),
    "columns": ((40, 24), ((), (8,))),
    "both": ((41, 36), ((4, 5), (3, 9))),
    "cube": ((4, 5, 12), ((2,), (1, 3), (5,))),
    "empty": ((3, 0), ((), ())),
    "long": ((2 * SMALL_BLOCK + 77,), ((SMALL_BLOCK - 5, SMALL_BLOCK + 9),)),
    "tall": ((259, 257), ((125,), ())),
    "wide": ((130, 750), ((), (375,))),
}


@pytest.mark.parametrize("ranks", [1, 3])
def test_of_tensors_in_parts_whoever_looks_at_which(
    ranks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 1 << 12)
    tensors = {name: sparse(shape, torch.float16) for name, (shape, _) in CUTS.items()}
    save_folder(
        {"model": tensors}, tmp_path / "folder", {f"model.{name}": cuts for name, (_, cuts) in CUTS.items()}, files=2
    )
    report, *others = by_ranks(ranks, lambda ranks: look(tmp_path / "folder", run=Run(2, ranks=ranks)))
    assert isinstance(report, Report)
    assert all(isinstance(each, Report) for each in others)
    check(report, tensors)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_report_of_ranks_is_that_of_one(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_SMALLEST", 1 << 16)
    tensors = {"a": sparse((1000, 125)), "b": noise((SMALL_BLOCK + 7,), torch.bfloat16), "c_orig": sparse((225, 250))}
    tensors |= {"c_mask": noise((225, 250), torch.bool), "d": torch.zeros(300, 12)}
    path = save(tensors, tmp_path / f"model{suffix}")
    alone = look(path, run=Run(1))
    for ranks in (2, 5):
        report, *_ = by_ranks(ranks, lambda ranks: look(path, run=Run(2, ranks=ranks)))
        assert isinstance(report, Report)
        assert report.parameters == alone.parameters


def test_structure_and_pictures_are_found_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = save({"w": sparse((20, 20))}, tmp_path / "model.pt")
    assert look(path, structure=False).parameters[0].structure is None
    with open_any(path) as opened:
        found = measure(opened, None, structure=True).parameters[0].structure
    assert found is not None
    assert found.density is None


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40), times=st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_pictures_become_smaller_the_more_parameters_there_are(sizes: list[int], times: int) -> None:
    parameters = [
        Parameter(str(at), str(at), TensorInfo("", DTYPES["float32"], View.of((size,)), None), None)  # type: ignore[arg-type]
        for at, size in enumerate(sizes * times)
    ]
    cells = picture_cells(parameters)
    expected = 128 if len(parameters) <= 256 else 64 if len(parameters) <= 1024 else 32
    assert set(cells.values()) == {expected}
    assert len(cells) == min(len(parameters), 4096)
    least = min(each.weight.elements for each in parameters if each.name in cells)
    assert all(each.weight.elements <= least for each in parameters if each.name not in cells)
