"""A checkpoint against its report: a flipped bit is found wherever it is, and nothing is said of what is as it was."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dcp_tools import save as save_distributed
from folder_zoo import make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_threads import by_ranks
from surgery_zoo import BLOCK, ask, bits, noise, save
from torch import Tensor

from prunecli.errors import DamagedError, ThresholdError
from prunecli.formats.opening import open_any
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.plan import plan_bake, plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.codec import parse_report, render_json
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.verify import Verification, check_verification, verify_checkpoint

State = Mapping[str, Tensor]


def reported(report: Report) -> Report:
    """Write a report as JSON, and read that."""
    return parse_report(render_json(report), "r.json")


def prune(source: Path, target: Path, request: PruneRequest) -> Report:
    with open_any(source) as opened:
        return reported(rewrite(opened, plan_prune(opened, request), Destination(target)))


def counted(path: Path, *patterns: str) -> Report:
    with open_any(path) as opened:
        return reported(measure(opened, Selection(patterns) if patterns else None))


def verified(path: Path, report: Report) -> Verification:
    with open_any(path) as opened:
        return verify_checkpoint(opened, report, Run(2))


def model(seed: int = 1) -> dict[str, Tensor]:
    return {
        "fc.weight": noise((3, 5), seed=seed),
        "fc.bias": torch.tensor([0.0, 1.0, -0.0]),
        "half.weight": noise((2, 4), torch.bfloat16, seed),
        "tiny": noise((6,), torch.float8_e4m3fn),
        "bn.running_mean": torch.zeros(3),
        "steps": torch.tensor([0, 1]),
    }


def write_legacy(state: State, path: Path) -> Path:
    torch.save(dict(state), path, _use_new_zipfile_serialization=False)
    return path


def write_shards(state: State, path: Path) -> Path:
    names = list(state)
    return make_folder(path, [{name: state[name] for name in part} for part in (names[::2], names[1::2])])


def write_distributed(state: State, path: Path) -> Path:
    path.mkdir()
    save_distributed(
        {"model": dict(state)}, path, {"model.fc.weight": ((1, 2), (2,)), "model.fc.bias": ((2,),)}, files=2
    )
    return path


WRITERS: dict[str, Callable[[State, Path], Path]] = {
    "zip": lambda state, path: save(state, path.with_suffix(".pt")),
    "safetensors": lambda state, path: save(state, path.with_suffix(".safetensors")),
    "legacy": lambda state, path: write_legacy(state, path.with_suffix(".pt")),
    "folder": write_shards,
    "distributed": write_distributed,
}


def load(path: Path) -> dict[str, Tensor]:
    """Read what was written, by our own layout: bytes at their places, which the tests of formats hold to torch."""
    found: dict[str, Tensor] = {}
    with open_any(path) as opened:
        for name, info in opened.tensors.items():
            data = bytearray(info.elements * info.dtype.itemsize)
            opened.source.read_into(info.storage.offset + info.span[0], memoryview(data))
            found[name] = torch.frombuffer(data, dtype=getattr(torch, info.dtype.name)).view(info.shape)
    return found


WAYS: dict[str, dict[str, Any]] = {"bake": {"remove": True}, "mask": {}, "same": {"mask_dtype": "same"}}
CASES = [(kind, way) for kind in WRITERS for way in WAYS if kind != "distributed" or way == "bake"]
"""Distributed checkpoints take no masks."""


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_every_flipped_bit_is_found(kind: str, way: str, tmp_path: Path) -> None:
    source = WRITERS[kind](model(), tmp_path / "source")
    target = tmp_path / f"target{source.suffix}"
    report = prune(source, target, ask(0.5, "*.weight", "tiny", **WAYS[way]))
    assert verified(target, report).differences == []
    state = load(target)
    parameters = {each.name for each in report.parameters}
    # Every bit of one element of each tensor and one bit of every element, in one container; a part in the others.
    places = [
        (name, element, bit)
        for name, tensor in state.items()
        if name.removesuffix("_orig").removesuffix("_mask") in parameters
        for element in range(tensor.numel())
        for bit in range(8 * tensor.itemsize)
        if element == 1 or bit == element % (8 * tensor.itemsize)
    ]
    for number, (name, element, bit) in enumerate(places[:: 1 if kind == "safetensors" else 15]):
        flat = bits(state[name]).view(-1)
        flipped = 1 << bit if bit < 8 * flat.itemsize - 1 else torch.iinfo(flat.dtype).min
        flat[element] ^= flipped
        (difference,) = verified(WRITERS[kind](state, tmp_path / f"flipped{number}"), report).differences
        assert difference.name == name.removesuffix("_orig").removesuffix("_mask")
        flat[element] ^= flipped


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("remove", [True, False])
def test_what_was_written_is_what_was_reported(suffix: str, remove: bool, tmp_path: Path) -> None:
    state = {"a": noise((2 * BLOCK - 7,), torch.float16), "b": noise((30, 20)), "i": torch.ones(9, dtype=torch.int8)}
    if suffix == ".pt":
        state |= {"t": noise((8, 9)).t(), "tied": state["b"], "x": noise((1, 5)).expand(3, 5)}
    source, target, baked = (tmp_path / f"{name}{suffix}" for name in ("source", "target", "baked"))
    names = [name for name in state if name != "x"]
    report = prune(save(state, source), target, ask(0.3, *names, remove=remove))
    for path, expected in ((target, report), (source, counted(source)), (target, counted(target, "b"))):
        found = verified(path, expected)
        assert found.differences == []
        assert found.parameters == len(expected.parameters)
        assert found.summed == sum(each.crc32 is not None for each in expected.parameters)
    if not remove:
        with open_any(target) as opened:
            removed = reported(rewrite(opened, plan_bake(opened, None), Destination(baked)))
        assert verified(baked, removed).differences == []


def test_several_ranks_verify_as_one(tmp_path: Path) -> None:
    source, target = save(model(), tmp_path / "a.pt"), tmp_path / "b.pt"
    report = prune(source, target, ask(0.5))

    def verify(path: Path) -> list[Verification]:
        def work(ranks: object) -> Verification:
            with open_any(path) as opened:
                return verify_checkpoint(opened, report, Run(1, ranks=ranks))  # type: ignore[arg-type]

        return [each for each in by_ranks(3, work) if isinstance(each, Verification)][:1]

    assert verify(target)[0].differences == []
    assert len(verify(source)[0].differences) == 4


def differences(state: State, report: Report, path: Path) -> dict[str, str]:
    return {each.name: each.what for each in verified(save(state, path), report).differences}


def test_every_way_to_differ_has_its_words(tmp_path: Path) -> None:
    report = prune(save(model(), tmp_path / "a.pt"), tmp_path / "b.pt", ask(0.5, "fc.weight", remove=True))
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    path = tmp_path / "c.pt"
    assert differences(state, report, path) == {}
    assert differences({f"module.{name}": each for name, each in state.items()}, report, path) == {}
    for change, what in (
        ({"fc.bias": torch.zeros(4)}, {"fc.bias": "has the shape 4, and 3 in the report"}),
        ({"fc.bias": torch.zeros(3).half()}, {"fc.bias": "is float16, and float32 in the report"}),
        ({"fc.bias": torch.ones(3)}, {"fc.bias": "has 0 zeros, and 2 in the report"}),
        ({"new": torch.ones(3)}, {"new": "is not in the report"}),
    ):
        assert differences(state | change, report, path) == what
    less = {name: each for name, each in state.items() if name != "fc.weight"}
    assert differences(less, report, path) == {"fc.weight": "is missing"}
    masked = less | {"fc.weight_orig": state["fc.weight"], "fc.weight_mask": torch.ones(3, 5)}
    assert differences(masked, report, path) == {"fc.weight": "is masked, and baked in the report"}
    with pytest.raises(ThresholdError, match=r"fc.weight is missing; 1 other parameter differs too"):
        check_verification(verified(save(less | {"new": torch.ones(1)}, path), report))


def test_a_report_of_some_parameters_is_about_those(tmp_path: Path) -> None:
    path = save(model(), tmp_path / "a.pt")
    assert verified(path, counted(path, "fc.*")).parameters == 2
    assert verified(path, counted(path, "fc.*")).differences == []


def test_a_parameter_listed_twice_is_no_report(tmp_path: Path) -> None:
    path = save(model(), tmp_path / "a.pt")
    report = counted(path)
    with pytest.raises(DamagedError, match="twice"):
        verified(path, replace(report, parameters=[*report.parameters, report.parameters[0]]))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_report_with_any_other_number_is_not_met(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = save(model(data.draw(st.integers(1, 3))), tmp_path_factory.mktemp("reported") / "a.pt")
    report = counted(path)
    number = data.draw(st.integers(0, len(report.parameters) - 1))
    row = report.parameters[number]
    other = data.draw(
        st.sampled_from(
            [
                replace(row, zeros=(row.zeros or 0) + 1),
                replace(row, crc32="00000000"),
                replace(row, name=f"{row.name}2"),
                replace(row, dtype="float64"),
                replace(row, state="masked"),
                replace(row, shape=(1, *row.shape)),
            ]
        )
    )
    rows = [*report.parameters[:number], other, *report.parameters[number + 1 :]]
    (difference,) = verified(path, replace(report, parameters=rows)).differences
    assert difference.name == other.name
