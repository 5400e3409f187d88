"""Complex parameters: an element is zero when both halves are, and masks of torch's own are complex, too."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from dcp_tools import save as save_distributed
from surgery_zoo import COMPLEX, apply, ask, bake, count, live_mask, load, noise, raw, save
from test_compare import compared
from test_compare import rows as changes
from test_report_structure import look
from test_verify import verified
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from prunecli import bake_module, prune_module
from prunecli.errors import UnsupportedError
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.verify import check_verification


def phases(dtype: torch.dtype = torch.complex64, shape: tuple[int, ...] = (6, 8)) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.view_as_complex(torch.randn(*shape, 2, generator=generator)).to(dtype)


def halves(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.detach())


class Filter(nn.Module):
    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.kernel = nn.Parameter(values)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_patterns_take_complex_parameters_and_drop_what_they_drop_of_real_ones(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {"kernel": phases(dtype), "real": torch.ones(3)}
    out = tmp_path / "out.pt"
    apply(save(state, tmp_path / "in.pt"), out, ask(0.25, "k*", remove=True))
    keep = live_mask(torch.ones(6, 8), 0.25, "kernel")
    pruned = load(out)
    assert not halves(pruned["kernel"])[~keep].any()
    assert torch.equal(halves(pruned["kernel"])[keep], halves(state["kernel"])[keep])
    assert raw(pruned["real"]) == raw(state["real"])
    real = save({"kernel": torch.randn(6, 8)}, tmp_path / "real.pt")
    apply(real, tmp_path / "real.out.pt", ask(0.25, remove=True))
    assert torch.equal(load(tmp_path / "real.out.pt")["kernel"] != 0, keep)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_an_element_is_zero_when_both_halves_are(dtype: torch.dtype, tmp_path: Path) -> None:
    pairs = torch.tensor([[0.0, 0.0], [-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0], [1.0, 0.0], [0.0, 1.0], [0.0, torch.nan]])
    state = {"kernel": torch.view_as_complex(pairs).to(dtype)}
    for tensors in (state, {"kernel": state["kernel"].expand(1, 7).t()}):
        (row,) = count(save(tensors, tmp_path / "in.pt")).parameters
        assert (row.zeros, row.elements) == (4, 7)


def test_a_file_of_the_other_byte_order_swaps_each_half(tmp_path: Path) -> None:
    state = {"kernel": phases(torch.complex128), "small": phases(torch.complex64).t(), "least": phases(torch.complex32)}
    keeps = {name: live_mask(tensor, 0.5, name) for name, tensor in state.items()}
    little, big, out = save(state, tmp_path / "in.pt"), tmp_path / "big.pt", tmp_path / "out.pt"
    swap(little, big, state)
    apply(big, out, ask(0.5, remove=True))
    swap(out, tmp_path / "back.pt", state)
    pruned = load(tmp_path / "back.pt")
    for name, keep in keeps.items():
        assert not halves(pruned[name])[~keep].any()
        assert torch.equal(halves(pruned[name])[keep], halves(state[name])[keep])
    assert not compared(little, big).differing
    masked = tmp_path / "masked.pt"
    apply(big, masked, ask(0.5, mask_dtype="same"))
    masks = load(masked)
    for name in ("kernel", "small"):  # torch does not swap complex32
        assert torch.equal(halves(masks[f"{name}_mask"])[..., 0] == 1, keeps[name])
        assert not halves(masks[f"{name}_mask"])[..., 1].any()
    assert count(masked).totals.zeros == 72
    bake(masked, tmp_path / "baked.pt")
    assert not compared(tmp_path / "baked.pt", out).differing


def swap(source: Path, target: Path, state: Mapping[str, Tensor]) -> None:
    """Write a torch zip as a machine of the other byte order would."""
    sizes = [tensor.element_size() // 2 for tensor in state.values()]
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            name, data = info.filename.partition("/")[2], old.read(info)
            if name == "byteorder":
                data = b"big" if data == b"little" else b"little"
            if name.startswith("data/"):
                size = sizes[int(name[5:])]
                data = b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))
            new.writestr(info.filename, data)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_a_mask_of_torch_s_own_is_read_counted_and_baked(dtype: torch.dtype, tmp_path: Path) -> None:
    module, keep = Filter(phases(dtype)), live_mask(torch.ones(6, 8), 20, "kernel")
    values = module.kernel.detach().clone()
    torch_prune.custom_from_mask(module, "kernel", keep)  # type: ignore[no-untyped-call]
    source, out = save(module.state_dict(), tmp_path / "in.pt"), tmp_path / "out.pt"
    assert load(source)["kernel_mask"].dtype == dtype
    (row,) = count(source).parameters
    assert (row.name, row.state, row.zeros) == ("kernel", "masked", 20)
    bake(source, out)
    assert list(load(out)) == ["kernel"]
    assert torch.equal(halves(load(out)["kernel"])[keep], halves(values)[keep])
    assert not halves(load(out)["kernel"])[~keep].any()
    apply(source, tmp_path / "more.pt", ask(0.5))
    assert count(tmp_path / "more.pt").totals.zeros == 20 + 14
    assert bool(((halves(load(tmp_path / "more.pt")["kernel_mask"])[..., 0] == 1) <= keep).all())


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_mask_of_other_numbers_is_multiplied_in_as_torch_multiplies(
    dtype: torch.dtype, transposed: bool, tmp_path: Path
) -> None:
    weight, mask = noise((30, 40), dtype, 1), phases(dtype, (30, 40))
    mask[::3] = torch.tensor(1j)
    mask[1::3] = 0
    if transposed:
        weight, mask = weight.t(), mask.t()
    state = {"kernel_orig": weight, "kernel_mask": mask}
    out = tmp_path / "out.pt"
    bake(save(state, tmp_path / "in.pt"), out)
    expected = weight * mask
    expected[mask == 0] = 0
    got = halves(load(out)["kernel"])
    torch.testing.assert_close(got, halves(expected), rtol=0, atol=0, equal_nan=True)
    assert bool((got == 0).all(-1).sum() >= 400)


def test_a_mask_of_other_numbers_in_another_type_is_refused(tmp_path: Path) -> None:
    state = {"kernel_orig": phases(), "kernel_mask": torch.full((6, 8), 0.5)}
    with pytest.raises(UnsupportedError, match="the mask of kernel holds more than 0 and 1, as float32 over complex64"):
        bake(save(state, tmp_path / "in.pt"), tmp_path / "out.pt")


def test_counts_checksums_and_comparisons_agree(tmp_path: Path) -> None:
    state = {"kernel": phases(torch.complex128, (40, 64))}
    before, out = save(state, tmp_path / "in.pt"), tmp_path / "out.pt"
    report = apply(before, out, ask(0.5, remove=True))
    check_verification(verified(out, report))
    (row,) = compared(before, out).rows
    assert (row.kind, row.newly_zero, row.zeros, row.changed) == ("parameter", 1280, 1280, 0)
    changed = load(out)
    halves(changed["kernel"]).view(-1)[:] += (halves(changed["kernel"]).view(-1) != 0) & (torch.arange(5120) % 2 == 1)
    assert changes(compared(out, save(changed, tmp_path / "c.pt")))["kernel"].changed == 1280
    masked = tmp_path / "masked.pt"
    apply(before, masked, ask(0.5))
    assert not compared(masked, out).differing


def test_structure_is_counted_by_elements(tmp_path: Path) -> None:
    values = phases(torch.complex64, (4, 8))
    values[1] = 0
    values[:, 2] = torch.tensor(complex(-0.0, 0.0))
    values[2, ::2] = 0
    (row,) = look(save({"kernel": values}, tmp_path / "in.pt")).parameters
    assert row.structure is not None
    assert (row.structure.empty_rows, row.structure.empty_columns) == (1, 1)
    assert row.zeros == 8 + 3 + 3


def test_parts_of_a_distributed_folder_are_pruned_as_the_whole(tmp_path: Path) -> None:
    state, folder, out = {"kernel": phases(torch.complex128, (12, 10))}, tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    save_distributed({"model": state}, folder, {"model.kernel": ((5, 9), (3,))}, files=2)
    with open_any(folder) as opened:
        rewrite(opened, plan_prune(opened, ask(0.5, remove=True)), Destination(out))
    keep = live_mask(torch.ones(12, 10), 0.5, "kernel")
    plain = dict(state)
    plain["kernel"] = torch.where(keep, state["kernel"], 0)
    assert not compared(save(plain, tmp_path / "plain.pt"), out).differing


@pytest.mark.parametrize("dtype", COMPLEX)
def test_a_live_module_gets_the_masks_of_its_file(dtype: torch.dtype, tmp_path: Path) -> None:
    values, keep = phases(dtype), live_mask(torch.ones(6, 8), 0.5, "kernel")
    module, source = Filter(values.clone()), save({"kernel": values}, tmp_path / "in.pt")
    reported = apply(source, tmp_path / "out.pt", ask(0.5, mask_dtype="same"))
    report = prune_module(module, "*", 0.5, seed=7)
    assert [each.mask_sha256 for each in report.parameters] == [each.mask_sha256 for each in reported.parameters]
    assert torch.equal(halves(module.get_buffer("kernel_mask"))[..., 0] == 1, keep)
    assert not halves(vars(module)["kernel"])[~keep].any()
    assert {name: raw(each) for name, each in module.state_dict().items()} == {
        name: raw(each) for name, each in load(tmp_path / "out.pt").items()
    }
    bake_module(module)
    assert list(module.state_dict()) == ["kernel"]
    assert torch.equal(halves(module.kernel)[keep], halves(values)[keep])
    assert not halves(module.kernel)[~keep].any()
    at_once = Filter(values.clone())
    prune_module(at_once, "kernel", 0.5, seed=7, remove=True)
    assert raw(at_once.kernel) == raw(module.kernel)
