"""The overlap of two masks: counts as a loop gives them, and what chance gives as enumeration does."""

import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from surgery_zoo import BLOCK, noise
from torch import Tensor

from prunecli import files
from prunecli.errors import UsageError
from prunecli.surgery.compare.overlap_model import OverlapCounts, counts_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(shape: tuple[int, ...], seed: int, share: float = 0.4) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def seen(counts: OverlapCounts) -> tuple[int, int, int, int]:
    return counts.both, counts.only_a, counts.only_b, counts.neither


def by_loop(a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    return pairs.count((True, True)), pairs.count((True, False)), pairs.count((False, True)), pairs.count((False,) * 2)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64])
def test_counts_are_those_of_a_loop(dtype: torch.dtype) -> None:
    a = {"w": drawn((7, 9), 1), "v": drawn((40,), 2), "none": drawn((0, 3), 3)}
    b = {"w": drawn((7, 9), 4), "v": drawn((40,), 5), "none": drawn((0, 3), 6)}
    torch.save({name: each.to(dtype) for name, each in a.items()}, "a.pt")
    save_file({f"module.{name}": each for name, each in b.items()}, "b.safetensors")
    files.mask_extract("b.safetensors", output="bits", bits=True)
    found = files.mask_overlap("a.pt", "b.safetensors")
    assert {row.name: seen(row.counts) for row in found.rows} == {name: by_loop(a[name], b[name]) for name in a}
    assert [row.name_b for row in found.rows] == [f"module.{row.name}" for row in found.rows]
    w, v = by_loop(a["w"], b["w"]), by_loop(a["v"], b["v"])
    assert seen(found.totals) == tuple(map(sum, zip(w, v, strict=True)))
    assert found.parameters == 3
    both, only_a, only_b, _ = seen(found.totals)
    assert found.totals.iou == both / (both + only_a + only_b)
    assert found.totals.hamming == only_a + only_b
    bits = files.mask_overlap("a.pt", "bits")
    assert [row.counts for row in bits.rows] == [row.counts for row in found.rows]


@pytest.mark.usefixtures("here")
def test_masks_of_many_blocks() -> None:
    a, b = drawn((3, BLOCK - 5), 1), drawn((3, BLOCK - 5), 2)
    save_file({"w": a}, "a")
    save_file({"w": b.to(torch.bfloat16)}, "b")
    found = files.mask_overlap("a", "b", jobs=2).totals
    assert (found.both, found.neither) == (int((a & b).sum()), int((~a & ~b).sum()))
    assert found.elements == a.numel()
    assert found.z_score is not None
    assert abs(found.z_score) < 5


@pytest.mark.parametrize(("elements", "a", "b"), [(7, 3, 4), (8, 1, 5), (6, 6, 2), (5, 0, 3), (2, 1, 1), (1, 1, 1)])
def test_chance_is_what_all_masks_give(elements: int, a: int, b: int) -> None:
    fixed = set(range(a))
    overlaps = [Fraction(len(fixed & set(each))) for each in combinations(range(elements), b)]
    mean = sum(overlaps) / len(overlaps)
    variance = sum((each - mean) ** 2 for each in overlaps) / len(overlaps)
    both = max(a + b - elements, 0)
    found = counts_of(both, a, b, elements)
    assert found.expected == pytest.approx(float(mean))
    assert found.variance == pytest.approx(float(variance))
    if variance:
        assert found.z_score == pytest.approx((both - float(mean)) / math.sqrt(variance))
    else:
        assert found.z_score is None


def test_nothing_kept_has_no_shares() -> None:
    found = counts_of(0, 0, 0, 4)
    assert (found.iou, found.hamming, found.neither, found.z_score) == (None, 0, 4, None)
    assert counts_of(0, 0, 0, 0).z_score is None


@pytest.mark.usefixtures("here")
def test_chance_in_all_keeps_the_counts_of_each_parameter() -> None:
    a = {"w": drawn((50,), 1), "v": drawn((60,), 2, 0.9)}
    b = {"w": drawn((50,), 3), "v": drawn((60,), 4, 0.9)}
    torch.save(a, "a.pt")
    torch.save(b, "b.pt")
    found = files.mask_overlap("a.pt", "b.pt")
    assert found.totals.expected == pytest.approx(sum(row.counts.expected for row in found.rows))
    assert found.totals.variance == pytest.approx(sum(row.counts.variance for row in found.rows))


@pytest.mark.usefixtures("here")
def test_zeros_of_checkpoints() -> None:
    dense = {"fc.weight": noise((20, 20)), "fc.bias": torch.zeros(3)}
    torch.save(dense, "dense.pt")
    for seed, name in ((1, "one.pt"), (2, "two.pt")):
        files.apply("dense.pt", params="*.weight", amount=0.5, seed=seed, bake=True, output=name, no_report=True)
    files.apply("dense.pt", params="*.weight", amount=0.5, seed=1, output="masked.pt", no_report=True)
    found = files.mask_overlap("one.pt", "two.pt", from_zeros=True)
    assert {row.name for row in found.rows} == {"fc.weight", "fc.bias"}
    assert found.totals.elements == 403
    same = files.mask_overlap("masked.pt", "one.pt", from_zeros=True, params="*.weight").totals
    assert (same.both, same.hamming) == (200, 0)
    files.mask_extract("masked.pt", output="masks.safetensors")
    from_file = files.mask_overlap(
        "masks.safetensors", "one.pt", from_zeros=True
    )  # the bias has no mask, and is left out
    assert [row.name for row in from_file.rows] == ["fc.weight"]
    assert files.mask_overlap("one.pt", "masks.safetensors", from_zeros=True).totals == from_file.totals
    with pytest.raises(UsageError, match=r"one.pt has no masks"):
        files.mask_overlap("masked.pt", "one.pt")


@pytest.mark.usefixtures("here")
def test_tied_parameters_count_once() -> None:
    mask, other = drawn((9, 9), 1), drawn((9, 9), 2)
    torch.save({"a": mask, "b": mask}, "a.pt")
    torch.save({"a": other, "b": other}, "b.pt")
    found = files.mask_overlap("a.pt", "b.pt")
    assert [row.shared_with for row in found.rows] == [None, "a"]
    assert (found.parameters, found.totals.elements) == (1, 81)
    assert found.rows[0].counts == found.rows[1].counts
