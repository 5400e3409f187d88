"""A report's masks once more: the same bytes on the same checkpoint, the same masks on another state of the model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from folder_zoo import make_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from surgery_zoo import ask, load, noise, raw, save
from torch import Tensor

from prunecli.errors import ThresholdError, UsageError
from prunecli.formats.opening import open_any
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.replay import plan_replay
from prunecli.surgery.report.model import Report
from prunecli.surgery.report.reading import read_report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run


def tensors(seed: int = 0) -> dict[str, Tensor]:
    found = {f"layer.{n}.weight": noise((13, 17 + n), torch.float16, seed + n) for n in range(3)}
    return {**found, "layer.0.bias": torch.zeros(13), "steps": torch.arange(4)}


def prune(source: Path, target: Path, request: PruneRequest) -> Report:
    with open_any(source) as opened:
        return rewrite(opened, plan_prune(opened, request), Destination(target, report_of(target)), Run(2))


def report_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def replay(
    source: Path, target: Path, reported: Report, request: PruneRequest | None = None, run: Run | None = None
) -> Report:
    with open_any(source) as opened:
        plan: Plan = plan_replay(opened, reported, request or reported.prune or ask(1))
        return rewrite(opened, plan, Destination(target), run or Run(2))


requests = st.builds(
    lambda amount, together, remove, zeros, dtype: ask(
        amount, "layer.*.weight", everywhere=together, remove=remove, zeros_are_pruned=zeros, mask_dtype=dtype
    ),
    st.floats(0, 1) | st.integers(0, 200),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["bool", "same"]),
)


@settings(max_examples=30, deadline=None)
@given(request=requests, end=st.sampled_from([".pt", ".safetensors", ""]), keep=st.booleans())
def test_replay_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, request: PruneRequest, end: str, keep: bool
) -> None:
    root = tmp_path_factory.mktemp("replay")
    parts = [{name: tensor} for name, tensor in tensors().items()]
    source = save(tensors(), root / f"m{end}") if end else make_folder(root / "m", parts)
    one, other = root / f"one{end}", root / f"other{end}"
    prune(source, one, request)
    replay(source, other, read_report(report_of(one)), run=Run(2, keep=keep))
    for path in [one] if end else sorted(path for path in one.rglob("*") if path.is_file()):
        again = other if end else other / path.relative_to(one)
        assert again.read_bytes() == path.read_bytes()


def test_rewinding_puts_the_masks_of_trained_weights_on_the_first_ones(tmp_path: Path) -> None:
    """Rounds of pruning, each replayed in turn on what the weights were at the start: names and dtype may differ."""
    trained, first = save(tensors(5), tmp_path / "trained.pt"), tensors(9)
    reported = []
    for number in (1, 2):
        target = tmp_path / f"round{number}.pt"
        prune(trained, target, ask(0.5, "layer.*.weight", seed=3))
        reported.append(read_report(report_of(target)))
        trained = target
    rewound = save({f"module.{n}": t.float() for n, t in first.items()}, tmp_path / "first.safetensors")
    for number, report in enumerate(reported, 1):
        replay(rewound, tmp_path / f"rewound{number}.safetensors", report)
        rewound = tmp_path / f"rewound{number}.safetensors"
    expected, found = load(tmp_path / "round2.pt"), load(rewound)
    for name in ("layer.0.weight", "layer.1.weight", "layer.2.weight"):
        assert torch.equal(found[f"module.{name}_mask"], expected[f"{name}_mask"])
        assert raw(found[f"module.{name}_orig"]) == raw(first[name].float())


def test_masks_of_a_bake_can_be_had_as_masks(tmp_path: Path) -> None:
    source = save({"w": torch.ones(40, 5)}, tmp_path / "m.pt")
    prune(source, tmp_path / "baked.pt", ask(0.3, "w", remove=True))
    reported = read_report(report_of(tmp_path / "baked.pt"))
    assert reported.prune is not None
    replay(source, tmp_path / "masked.pt", reported, replace(reported.prune, remove=False))
    masked = load(tmp_path / "masked.pt")
    assert torch.equal(masked["w_mask"].float(), load(tmp_path / "baked.pt")["w"])


def test_tied_weights_are_replayed_together(tmp_path: Path) -> None:
    weight = noise((7, 9))
    source = save({"a": weight, "b": weight, "c": noise((3,))}, tmp_path / "m.pt")
    prune(source, tmp_path / "one.pt", ask(0.5, "*"))
    reported = read_report(report_of(tmp_path / "one.pt"))
    replay(source, tmp_path / "two.pt", reported)
    assert (tmp_path / "two.pt").read_bytes() == (tmp_path / "one.pt").read_bytes()
    apart = save({"a": weight, "b": weight.clone(), "c": noise((3,))}, tmp_path / "apart.pt")
    replay(apart, tmp_path / "three.pt", reported)
    three = load(tmp_path / "three.pt")
    assert torch.equal(three["a_mask"], three["b_mask"])


def test_what_was_not_tied_then_cannot_be_replayed_tied(tmp_path: Path) -> None:
    weight = noise((7, 9))
    prune(save({"a": weight, "b": weight.clone()}, tmp_path / "m.pt"), tmp_path / "one.pt", ask(0.5, "*"))
    tied = save({"a": weight, "b": weight}, tmp_path / "tied.pt")
    with pytest.raises(UsageError, match="a and b are tied here, but were not"):
        replay(tied, tmp_path / "two.pt", read_report(report_of(tmp_path / "one.pt")))


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"v": torch.ones(6, 4)}, "has no w, which the report prunes"),
        ({"w": torch.ones(4, 6)}, r"w has the shape \[4, 6\], and \[6, 4\] in the report"),
        ({"w_orig": torch.ones(6, 4), "w_mask": torch.eye(6, 4)}, "w has 4 unpruned elements, and had 24"),
    ],
)
def test_another_model_is_refused(tmp_path: Path, other: Mapping[str, Tensor], words: str) -> None:
    prune(save({"w": torch.ones(6, 4)}, tmp_path / "m.pt"), tmp_path / "one.pt", ask(0.5, "w"))
    with pytest.raises(UsageError, match=words):
        replay(save(other, tmp_path / "o.pt"), tmp_path / "two.pt", read_report(report_of(tmp_path / "one.pt")))
    assert not (tmp_path / "two.pt").exists()


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("end", [".pt", ""])
def test_other_masks_below_are_noticed_before_there_is_an_output(tmp_path: Path, end: str, keep: bool) -> None:
    """As many candidates, but elsewhere: only the digest of the final mask tells."""
    mask = torch.eye(6, 4)
    parts = [{"w_orig": torch.ones(6, 4), "w_mask": each} for each in (mask, mask.flip(0))]
    first, other = (
        save(part, tmp_path / f"{number}{end}") if end else make_folder(tmp_path / str(number), [part])
        for number, part in enumerate(parts)
    )
    prune(first, tmp_path / f"one{end}", ask(2, "w"))
    reported = read_report(report_of(tmp_path / f"one{end}"))
    with pytest.raises(ThresholdError, match=r"the mask of w differs from the report's \(1 differ\)"):
        replay(other, tmp_path / f"two{end}", reported, run=Run(1, keep=keep))
    assert not (tmp_path / f"two{end}").exists()


def test_a_report_without_a_prune_cannot_be_replayed(tmp_path: Path) -> None:
    source = save({"w": torch.ones(6, 4)}, tmp_path / "m.pt")
    report = prune(source, tmp_path / "one.pt", ask(0.5, "w"))
    with pytest.raises(UsageError, match="records no masks"):
        replay(source, tmp_path / "two.pt", replace(report, prune=None))
