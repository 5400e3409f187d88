"""What was left out, by role: counted, sized, and noted where a pattern was about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import ask

from prunecli.formats.base import Storage, TensorInfo
from prunecli.formats.detect import open_checkpoint
from prunecli.formats.dtypes import DTYPES
from prunecli.formats.views import View
from prunecli.reporting.left_out import left_out_text
from prunecli.surgery.names.left_out import LeftOut, PassedOver, left_out, passed_over
from prunecli.surgery.names.parameters import Parameter
from prunecli.surgery.names.select import Selected, Selection, choose
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.report.measure import measure
from prunecli.surgery.report.model import Report
from prunecli.surgery.roles.table import Role

Counts = dict[tuple[str, str | None], int]
"""Numbers of tensors by role and key."""


def tensor(name: str, *shape: int, dtype: str = "float32", key: str = "", within: str = "") -> TensorInfo:
    kind = DTYPES[dtype]
    view = View.of(shape)
    return TensorInfo(name, kind, view, Storage(key or name, 0, view.elements * kind.itemsize), within=within)


@dataclass
class Made:
    """As much of a layout as is looked at."""

    tensors: Mapping[str, TensorInfo]
    carried: list[TensorInfo] = field(default_factory=list)
    wrapper: str = ""


def parameter(each: TensorInfo, role: Role = Role.PARAMETER) -> Parameter:
    return Parameter(each.name, each.name, each, None, role=role)


PARAMETERS = {
    each.name: each
    for each in (
        parameter(tensor("fc.weight", 10, 10)),
        parameter(tensor("fc.bias", 10)),
        parameter(tensor("q.qweight", 5, 10, dtype="int32"), Role.PACKED),
        parameter(tensor("q.scales", 10), Role.QUANTISER),
        parameter(tensor("bn.running_mean", 10), Role.STATISTIC),
    )
}
CARRIED = [
    tensor("G.optimizer.state.0.exp_avg", 10, 10, within="optimizer state"),
    tensor("G.optimizer.state.1.exp_avg", 10, within="optimizer state"),
    tensor("G.ema.fc.weight", 10, 10, within="average"),
    tensor("D.model.fc.weight", 20),
    tensor("D.model.fc.bias", 1),
    tensor("rng", 5056, dtype="uint8"),
    tensor("alias", 10, 10, key="fc.weight"),
]
MADE: Any = Made({name: each.weight for name, each in PARAMETERS.items()}, CARRIED, "G.model")


def passed(*patterns: str, excludes: tuple[str, ...] = ()) -> Counts:
    over = passed_over(MADE, PARAMETERS, [choose(PARAMETERS, Selection(patterns, excludes))])
    return {(group.role.value, group.key): group.tensors for group in over.groups}


BESIDE: Counts = {
    ("optimizer state", "G.optimizer"): 2,
    ("average", "G.ema"): 1,
    ("other network", "D"): 2,
}


def test_what_a_pattern_matches_and_does_not_take_is_recognised_by_role() -> None:
    inside: Counts = {
        ("packed weight", None): 1,
        ("quantiser state", None): 1,
        ("statistic", None): 1,
    }
    assert passed("*") == {**inside, **BESIDE}


def test_packed_weights_are_noted_even_if_the_pattern_misses_them_and_the_rest_is_not() -> None:
    assert passed("*.weight") == {("packed weight", None): 1, **BESIDE}


def test_what_an_exclude_names_is_not_noted() -> None:
    assert passed("*", excludes=("q.*", "*.running_mean")) == BESIDE


def test_of_exact_names_alone_there_is_nothing_to_note() -> None:
    assert passed("fc.weight", "q.scales") == {}
    assert passed("fc.weight", "q.scales", "*.bias") == {("packed weight", None): 1, **BESIDE}


def test_what_another_group_takes_is_not_left_out() -> None:
    choices = [choose(PARAMETERS, Selection(("*",))), choose(PARAMETERS, Selection(("q.scales",)))]
    over = passed_over(MADE, PARAMETERS, choices)
    assert [group.role for group in over.groups if group.key is None] == [Role.PACKED, Role.STATISTIC]


def test_bytes_are_summed_and_shared_memory_counts_once() -> None:
    over = passed_over(MADE, PARAMETERS, [choose(PARAMETERS, Selection(("*",)))])
    assert over.bytes == 400 + 40 + 200 + 40 + 40 + 400 + 40 + 400 + 80 + 4 + 5056
    assert over.groups[:3] == (
        LeftOut(Role.OPTIMIZER, 2, 110, 440, key="G.optimizer"),
        LeftOut(Role.AVERAGE, 1, 100, 400, key="G.ema"),
        LeftOut(Role.PACKED, 1, 50, 200),
    )
    shared = [tensor(name, 10, 10, key="one") for name in ("a", "b")]
    twice = {each.name: parameter(each, Role.SETTING) for each in shared}
    made: Any = Made({})
    assert left_out(made, twice, set()) == (LeftOut(Role.SETTING, 2, 200, 400),)


def test_a_report_and_what_it_leaves_out_are_the_whole_checkpoint() -> None:
    groups = left_out(MADE, PARAMETERS, {"fc.weight"})
    by_role = {(group.role.value, group.key): group.tensors for group in groups}
    assert by_role == {
        ("parameter", None): 1,
        ("packed weight", None): 1,
        ("quantiser state", None): 1,
        ("statistic", None): 1,
        ("integer tensor", "rng"): 1,
        **BESIDE,
    }
    assert sum(by_role.values()) == len(PARAMETERS) + len(CARRIED) - 2  # but for what is counted, by both its names


@pytest.mark.parametrize(
    ("groups", "whole", "text"),
    [
        ([], 0, ""),
        (
            [LeftOut(Role.PACKED, 80, 9, 999_999), LeftOut(Role.OPTIMIZER, 12, 9, 1)],
            1_000_000,
            "80 packed weights (>99% of the bytes), 12 tensors of optimizer state",
        ),
        (
            [LeftOut(Role.OTHER, 2, 9, 9, key="gen\x1b"), LeftOut(Role.OTHER, 1, 9, 9, key="D")],
            1000,
            r"2 in gen\x1b (--key '' takes the whole file), 1 in D",
        ),
        (
            [
                LeftOut(Role.OPTIMIZER, 2, 9, 50, key="a"),
                LeftOut(Role.STATISTIC, 1, 9, 70),
                LeftOut(Role.OPTIMIZER, 1, 9, 50, key="b"),
            ],
            1000,
            "3 tensors of optimizer state (10% of the bytes), 1 statistic",
        ),
        ([LeftOut(Role.AVERAGE, 1, 9, 500, key="ema")], 1000, "1 average in ema (50% of the bytes; --key ema)"),
        (
            [
                LeftOut(Role.DERIVED, 2, 9, 0),
                LeftOut(Role.OPAQUE, 2, 9, 0),
                LeftOut(Role.PARAMETER, 1, 9, 0),
                LeftOut(Role.STATISTIC, 1, 9, 0),
                LeftOut(Role.MASK, 7, 9, 0),
                LeftOut(Role.INTEGER, 1, 9, 0),
            ],
            0,
            "7 masks, 2 derived copies, 2 tensors without plain elements, 1 other parameter and 2 more",
        ),
        (
            [
                LeftOut(Role.OPTIMIZER, 9, 9, 90),
                LeftOut(Role.QUANTISER, 3, 9, 80),
                LeftOut(Role.STATISTIC, 2, 9, 70),
                LeftOut(Role.INTEGER, 4, 9, 60),
                LeftOut(Role.PACKED, 1, 9, 5),
            ],
            1000,
            "9 tensors of optimizer state, 3 tensors of quantiser state, 2 statistics, 1 packed weight and 4 more",
        ),
    ],
)
def test_the_sentence(groups: list[LeftOut], whole: int, text: str) -> None:
    assert left_out_text(groups, whole) == text


def saved(path: Path) -> Path:
    state = {"fc.weight": torch.ones(4, 4), "bn.running_mean": torch.ones(4), "bn.weight": torch.ones(4)}
    torch.save({"model": state, "generator": {"w": torch.ones(8, 4), "b": torch.ones(8)}}, path)
    return path


def test_a_plan_and_the_report_of_a_file(tmp_path: Path) -> None:
    with open_checkpoint(saved(tmp_path / "m.pt")) as checkpoint:
        plan = plan_prune(checkpoint, ask(0.5, "*"))
        reports: list[Report] = [measure(checkpoint, None), measure(checkpoint, Selection(("fc.*",)))]
    beside = LeftOut(Role.OTHER, 2, 40, 160, key="generator")
    mean = LeftOut(Role.STATISTIC, 1, 4, 16)
    assert plan.passed == PassedOver((beside, mean), 160 + 64 + 16 + 16)
    assert reports[0].left_out == (beside, mean)
    assert set(reports[1].left_out) == {beside, mean, LeftOut(Role.PARAMETER, 1, 4, 16)}


def test_a_choice_keeps_apart_what_is_flat_and_what_has_another_role() -> None:
    choice = choose(PARAMETERS, Selection(("*",), ("q.scales",), 2))
    assert [each.name for each in choice.taken] == ["fc.weight"]
    assert choice == Selected(choice.taken, frozenset({"q.qweight", "bn.running_mean"}), frozenset({"q.scales"}), True)
