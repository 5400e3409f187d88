"""The report: zeros counted from the data, the same in whichever way they are met."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from surgery_zoo import BLOCK, FLOATS, INTEGERS, apply, ask, bake, bits, count, load, noise, save
from torch import Tensor

from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.codec import as_dict, render_json
from prunecli.surgery.report.model import ParameterReport, Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination


def rows(report: Report) -> dict[str, ParameterReport]:
    return {each.name: each for each in report.parameters}


def zeros_of(tensor: Tensor) -> int:
    """Ask torch; types that it cannot compare go through float."""
    return int((tensor.float() == 0).sum()) if tensor.dtype.itemsize == 1 else int((tensor == 0).sum())


def sparse(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Random bits, a third of them zero, some of them the sign bit alone."""
    tensor = noise(shape, dtype, seed)
    flat = bits(tensor).view(-1)
    flat[::3] = 0
    if dtype is not torch.bool:
        flat[1::7] = torch.iinfo(flat.dtype).min
    return tensor


def digest(mask: Tensor) -> str:
    """Name a mask by the documented definition."""
    flat = mask.contiguous().view(-1).numpy().astype(bool)
    leaves = [
        hashlib.sha256(np.packbits(flat[at : at + BLOCK]).tobytes()).digest() for at in range(0, flat.size, BLOCK)
    ]
    return hashlib.sha256(b"".join(leaves)).hexdigest()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_zeros_of_every_type_are_those_that_torch_counts(suffix: str, tmp_path: Path) -> None:
    tensors = {str(dtype)[6:]: sparse((15, 21), dtype, seed) for seed, dtype in enumerate(FLOATS + INTEGERS)}
    tensors |= {"large": sparse((2 * BLOCK + 3,), torch.bfloat16, 60), "empty": torch.empty(0), "0d": torch.zeros(())}
    report = count(save(tensors, tmp_path / f"model{suffix}"), *tensors)
    assert {name: each.zeros for name, each in rows(report).items()} == {n: zeros_of(t) for n, t in tensors.items()}
    assert report.totals.zeros == sum(map(zeros_of, tensors.values()))
    assert report.totals.elements == sum(tensor.numel() for tensor in tensors.values())
    assert all(each.zeros_before == each.zeros for each in report.parameters)


@pytest.mark.parametrize("shared", [False, True])
def test_the_lone_sign_bit_of_a_type_without_negative_zero_is_no_zero(shared: bool, tmp_path: Path) -> None:
    lone = torch.tensor([0, 128, 1, 0], dtype=torch.uint8)
    names = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2fnuz")
    tensors = {name: (lone if shared else lone.clone()).view(getattr(torch, name)) for name in names}
    report = count(save(tensors, tmp_path / "model.pt"))
    assert {name: each.zeros for name, each in rows(report).items()} == {
        "float8_e4m3fn": 3,
        "float8_e4m3fnuz": 2,
        "float8_e5m2fnuz": 2,
    }


def test_views_are_counted_by_logical_elements(tmp_path: Path) -> None:
    table = sparse((12, 10), torch.float32, 1)
    tensors = {
        "t": table.t(),
        "even": table[:, ::2],
        "row": table[3],
        "packed": sparse((6, 7), torch.float16, 2)[2:5, 1:],
        "expanded": torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3),
        "blown": torch.zeros(1).expand(2, 3, 4),
        "channels_last": sparse((2, 3, 4, 5), torch.float64, 3).contiguous(memory_format=torch.channels_last),
    }
    report = count(save(tensors, tmp_path / "model.pt"))
    assert {name: each.zeros for name, each in rows(report).items()} == {n: zeros_of(t) for n, t in tensors.items()}


def test_a_masked_parameter_is_as_sparse_as_its_product(tmp_path: Path) -> None:
    weight, mask = sparse((33, 40), torch.float32, 1), noise((33, 40), torch.bool, 2)
    tensors = {"w_orig": weight, "w_mask": mask.float(), "t_orig": weight.clone().t(), "t_mask": mask.t()}
    report = count(save(tensors, tmp_path / "model.pt"))
    for name, kept in (("w", mask), ("t", mask.t())):
        row = rows(report)[name]
        values = tensors[f"{name}_orig"]
        assert (row.zeros, row.zeros_before) == (int(((values == 0) | ~kept).sum()),) * 2
        assert (row.state, row.mask_sha256) == ("masked", digest(kept))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("remove", [False, True])
def test_what_apply_reports_is_what_is_found_afterwards(remove: bool, suffix: str, tmp_path: Path) -> None:
    tensors = {
        "a": sparse((40, 50), torch.float32, 1),
        "b": sparse((2 * BLOCK - 7,), torch.bfloat16, 2),
        "left": sparse((9,), torch.float16, 3),
        "steps": torch.tensor([0, 1]),
    }
    if suffix == ".pt":
        tensors["t"] = sparse((30, 20), torch.float32, 4).t()
    source, target = save(tensors, tmp_path / f"model{suffix}"), tmp_path / f"out{suffix}"
    pruned = apply(source, target, ask(0.5, excludes=["left"], remove=remove))
    fresh = count(target)
    for name, row in rows(fresh).items():
        reported = rows(pruned)[name]
        assert (reported.zeros, reported.elements, reported.shape, reported.dtype) == (
            row.zeros,
            row.elements,
            row.shape,
            row.dtype,
        )
        assert reported.zeros_before == zeros_of(tensors[name])
        assert reported.pruned_now == (0 if name == "left" else round(reported.elements / 2))
        assert reported.state == ("dense" if name == "left" else "baked" if remove else "masked")
        if not remove:
            assert reported.mask_sha256 == row.mask_sha256
    assert rows(pruned).keys() == rows(fresh).keys() == tensors.keys() - {"steps"}
    assert (pruned.totals.zeros, pruned.totals.elements) == (fresh.totals.zeros, fresh.totals.elements)


def test_the_mask_of_a_report_is_the_mask_of_the_file(tmp_path: Path) -> None:
    tensors = {"a": noise((BLOCK + 1,), torch.float16), "t": noise((30, 20)).t(), "e": torch.empty(0, 2)}
    masked, again, baked = (tmp_path / f"{name}.pt" for name in ("masked", "again", "baked"))
    first = apply(save(tensors, tmp_path / "model.pt"), masked, ask(0.5))
    second = apply(masked, again, ask(0.5))
    removed = bake(again, baked)
    for name in tensors:
        assert rows(first)[name].mask_sha256 == digest(load(masked)[f"{name}_mask"])
        assert rows(second)[name].mask_sha256 == digest(load(again)[f"{name}_mask"])
        assert rows(removed)[name].mask_sha256 == rows(second)[name].mask_sha256
        assert rows(removed)[name].zeros == zeros_of(load(baked)[name])
        assert rows(removed)[name].pruned_now == 0


def written(tmp_path: Path, **options: Any) -> dict[str, Any]:
    tensors = {"ä\x1b[31m.weight": noise((4, 6)), "ä\x1b[31m.bias": torch.zeros(4)}
    source, path = save(tensors, tmp_path / "modèle.pt"), tmp_path / "report.json"
    with open_checkpoint(source) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5, "*.weight", **options))
        report = rewrite(checkpoint, plan, Destination(tmp_path / "out.pt", path))
    text = path.read_bytes()
    assert text == render_json(report)
    assert text.isascii()
    assert b"\x1b" not in text
    loaded: dict[str, Any] = json.loads(text)
    assert loaded == json.loads(json.dumps(as_dict(report)))
    return loaded


def test_the_json_has_the_published_keys_and_only_ascii(tmp_path: Path) -> None:
    report = written(tmp_path, everywhere=True)
    assert list(report) == [
        "schema",
        "tool",
        "command",
        "source",
        "output",
        "key",
        "method",
        "seed",
        "groups",
        "remove",
        "mask_dtype",
        "untie",
        "zeros_are_pruned",
        "totals",
        "parameters",
        "carried",
        "stamps",
        "left_out",
    ]
    assert list(report["tool"]) == ["name", "version", "stream", "python", "numpy"]
    assert list(report["source"]) == list(report["output"]) == ["path", "format", "bytes"]
    assert list(report["totals"]) == ["parameters", "elements", "zeros", "sparsity", "pruned_now"]
    assert list(report["parameters"][0]) == [
        "name",
        "module",
        "shape",
        "dtype",
        "elements",
        "zeros_before",
        "zeros",
        "sparsity",
        "state",
        "pruned_now",
        "tied_to",
        "key",
        "candidates",
        "mask_sha256",
        "crc32",
        "structure",
        "copies",
    ]
    assert report["schema"] == "prunecli.report/1"
    values = [report[key] for key in ("command", "seed", "method", "remove", "mask_dtype")]
    assert values == ["apply", 7, "random_unstructured", False, "bool"]
    assert report["groups"] == [{"params": ["*.weight"], "exclude": [], "min_dim": 0, "amount": 0.5, "global": True}]


def test_the_json_records_what_was_done(tmp_path: Path) -> None:
    report = written(tmp_path)
    assert report["source"]["path"] == str(tmp_path / "modèle.pt")
    assert report["source"]["bytes"] == (tmp_path / "modèle.pt").stat().st_size
    assert report["output"] == {
        "path": str(tmp_path / "out.pt"),
        "format": "torch zip",
        "bytes": (tmp_path / "out.pt").stat().st_size,
    }
    weight, bias = report["parameters"]
    assert (weight["name"], weight["module"], weight["shape"]) == ("ä\x1b[31m.weight", "ä\x1b[31m", [4, 6])
    assert (weight["zeros"], weight["sparsity"], weight["pruned_now"], weight["state"]) == (12, 0.5, 12, "masked")
    assert (bias["zeros"], bias["sparsity"], bias["state"], bias["mask_sha256"]) == (4, 1.0, "dense", None)
    assert report["totals"] == {"parameters": 2, "elements": 28, "zeros": 16, "sparsity": 16 / 28, "pruned_now": 12}


def test_types_without_zeros_of_their_own_are_listed_uncounted(tmp_path: Path) -> None:
    tensors = {"power": torch.ones(3).to(torch.float8_e8m0fnu), "w": torch.zeros(2)}
    report = count(save(tensors, tmp_path / "model.pt"))
    assert rows(report).keys() == {"w"}
    assert report.totals.zeros == 2


def test_a_tie_with_a_tensor_that_is_not_listed_still_counts(tmp_path: Path) -> None:
    weight = torch.zeros(5)
    source = save({"a.scale": weight, "b.weight": weight[:]}, tmp_path / "model.pt")
    totals = count(source).totals
    assert (totals.parameters, totals.zeros) == (1, 5)
    report = apply(source, tmp_path / "out.pt", ask(1, "b.weight", untie=True))
    assert report.totals.pruned_now == 1
