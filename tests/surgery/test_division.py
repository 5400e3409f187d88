"""A total that is divided among layers is divided alike in every container, and exactly, in every round."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dcp_tools
import pytest
import torch
from rank_threads import by_ranks
from surgery_zoo import ask, load, save
from torch import Tensor, nn

from prunecli import prune_module
from prunecli.core.allocation import RULES
from prunecli.errors import UsageError
from prunecli.formats.base import ReadOptions
from prunecli.formats.opening import open_any
from prunecli.surgery.apply import ApplyRequest, plan_request
from prunecli.surgery.plan.model import Plan
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.plan.request import PruneRequest
from prunecli.surgery.report.model import Report
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination
from prunecli.surgery.run.options import Run
from prunecli.surgery.run.ranks import Ranks
from prunecli.surgery.run.scan import RunScanner

SHAPES = {"z.weight": (12, 3, 3, 3), "m.weight": (20, 12, 3, 3), "b.weight": (40, 180), "a.weight": (10, 40)}
"""In the order of the model, which is not that of the names."""
ELEMENTS = 324 + 2160 + 7200 + 400
RULE_NAMES = [name for name in RULES if name != "global"]


def state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def shards(state: Mapping[str, Tensor], folder: Path, suffix: str) -> Path:
    """A folder with a sorted index, as transformers writes one, and a shard for every two tensors."""
    folder.mkdir()
    names = list(state)
    weight_map: dict[str, str] = {}
    for number, pair in enumerate((names[:2], names[2:])):
        save({name: state[name] for name in pair}, folder / f"model-{number}{suffix}")
        weight_map |= dict.fromkeys(pair, f"model-{number}{suffix}")
    index = {"metadata": {"total_size": 1}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / f"model{suffix}.index.json").write_text(json.dumps(index))
    return folder


def planned(source: Path, prune: PruneRequest) -> Plan:
    with open_any(source) as opened:
        return plan_prune(opened, prune)


def counts(plan: Plan) -> dict[str, int]:
    return {name: each.pruned_now for name, each in plan.planned.items()}


def run(source: Path, target: Path, prune: PruneRequest, ranks: Ranks | None = None) -> Report:
    options = Run(2) if ranks is None else Run(1, ranks=ranks)
    with open_any(source) as opened:
        return rewrite(opened, plan_prune(opened, prune, RunScanner(options)), Destination(target), options)


def pruned(report: Report) -> dict[str, int]:
    return {each.name: each.pruned_now for each in report.parameters}


class Net(nn.Module):
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            child = nn.Module()
            child.register_parameter("weight", nn.Parameter(tensor))
            self.add_module(name.partition(".")[0], child)


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_the_counts_are_the_same_in_every_container(rule: str, tmp_path: Path) -> None:
    tensors, asked = state(), ask(0.7, allocation=rule)
    expected = counts(planned(save(tensors, tmp_path / "model.pt"), asked))
    assert sum(expected.values()) == round(0.7 * ELEMENTS)
    assert counts(planned(shards(tensors, tmp_path / "bins", ".bin"), asked)) == expected
    for source in (
        save(dict(sorted(tensors.items())), tmp_path / "model.safetensors"),
        shards(tensors, tmp_path / "shards", ".safetensors"),
        dcp_tools.save(tensors, tmp_path / "parts", {}, files=2),
    ):
        remove = "parts" in source.name
        assert counts(planned(source, ask(0.7, allocation=rule, order=tuple(SHAPES), remove=remove))) == expected
        if RULES[rule].ordered:
            with pytest.raises(UsageError, match="sorts its tensors; give --order FILE"):
                planned(source, ask(0.7, allocation=rule, remove=remove))
    report = prune_module(Net(tensors), "*", 0.7, allocation=rule, seed=7)
    assert pruned(report) == expected
    recorded = planned(tmp_path / "model.pt", asked).prune
    assert recorded is not None
    assert recorded.groups[0].order == (tuple(SHAPES) if RULES[rule].ordered else ())


@pytest.mark.parametrize("rule", ["erk", "pyramidal"])
def test_ranks_and_threads_write_what_one_process_writes(rule: str, tmp_path: Path) -> None:
    source = save(state(), tmp_path / "model.pt")
    asked = ask(0.7, allocation=rule, amounts=(("a.*", 0.5),))
    one = run(source, tmp_path / "one.pt", asked)
    found = by_ranks(2, lambda ranks: run(source, tmp_path / "two.pt", asked, ranks))
    assert isinstance(found[0], Report), found[0]
    assert found[0].parameters == one.parameters
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    assert pruned(one)["a.weight"] == 200


def test_ranks_count_another_mask_and_refuse_to_draw_it(tmp_path: Path) -> None:
    source = save(state(), tmp_path / "model.pt")
    run(source, tmp_path / "masked.pt", ask(0.7, allocation="erk"))

    def work(ranks: Ranks, seed: int, name: str) -> Report:
        options, request = Run(1, ranks=ranks), ApplyRequest(ask(None, like=str(tmp_path / "masked.pt"), seed=seed))
        with open_any(source) as opened:
            plan = plan_request(opened, request, RunScanner(options), ReadOptions(), stamp=False)
            return rewrite(opened, plan, Destination(tmp_path / name), options)

    drawn = by_ranks(2, lambda ranks: work(ranks, 8, "drawn.pt"))
    assert isinstance(drawn[0], Report), drawn[0]
    assert pruned(drawn[0]) == counts(planned(source, ask(0.7, allocation="erk")))
    same = by_ranks(2, lambda ranks: work(ranks, 7, "same.pt"))
    assert isinstance(same[0], UsageError)
    assert not (tmp_path / "same.pt").exists()


@pytest.mark.parametrize("rule", ["uniform", "er", "erk", "balanced"])
def test_every_round_keeps_its_share_of_what_is_left(rule: str, tmp_path: Path) -> None:
    left, source = ELEMENTS, save(state(), tmp_path / "0.pt")
    for number in range(1, 4):
        report = run(source, tmp_path / f"{number}.pt", ask(0.6, allocation=rule))
        source, dropped = tmp_path / f"{number}.pt", round(0.6 * left)
        assert report.totals.pruned_now == dropped
        left -= dropped
        assert sum(int(mask.sum()) for name, mask in load(source).items() if name.endswith("_mask")) == left


def test_a_tied_group_is_one_layer(tmp_path: Path) -> None:
    tensors = state()
    alone = counts(planned(save(tensors, tmp_path / "alone.pt"), ask(0.7, allocation="pyramidal")))
    tied = {**tensors, "last.weight": tensors["m.weight"]}
    found = counts(planned(save(tied, tmp_path / "tied.pt"), ask(0.7, allocation="pyramidal")))
    assert found == {**alone, "last.weight": alone["m.weight"]}
    fixed = ask(0.7, allocation="erk", amounts=(("last.weight", 0.0),))
    found = counts(planned(tmp_path / "tied.pt", fixed))
    assert found["m.weight"] == found["last.weight"] == 0
    assert sum(found.values()) == round(0.7 * ELEMENTS)
    both = ask(0.7, allocation="erk", amounts=(("last.weight", 0.0), ("m.weight", 0.5)))
    with pytest.raises(UsageError, match=r"last.weight and m.weight are one layer, and have different amounts"):
        planned(tmp_path / "tied.pt", both)
    order = ("module.z.weight", "last.weight", "extra.bias", "b.weight", "a.weight")
    ordered = ask(0.7, allocation="pyramidal", order=order)
    assert counts(planned(tmp_path / "tied.pt", ordered)) == {**alone, "last.weight": alone["m.weight"]}


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (["z.weight", "m.weight", "b.weight"], "--order does not name a.weight"),
        ([*SHAPES, "m.weight"], "--order names m.weight twice"),
        ([*SHAPES, "module.m.weight"], r"--order names m.weight twice \(m.weight and module.m.weight\)"),
    ],
)
def test_an_order_names_every_layer_once(order: Sequence[str], words: str, tmp_path: Path) -> None:
    source = save(state(), tmp_path / "model.safetensors")
    for rule in ("pyramidal", "erk"):
        with pytest.raises(UsageError, match=words):
            planned(source, ask(0.7, allocation=rule, order=tuple(order)))


def test_a_layer_without_elements_is_left_out_and_one_that_keeps_nothing_is_noted(tmp_path: Path) -> None:
    source = save({**state(), "c.weight": torch.empty(0, 3)}, tmp_path / "model.pt")
    assert counts(planned(source, ask(0.7, allocation="erk")))["c.weight"] == 0
    plan = planned(source, ask(ELEMENTS - 5, allocation="uniform"))
    assert counts(plan)["z.weight"] == 324
    assert [note for note in plan.notes if "z.weight" in note and "nothing" in note]
    assert planned(source, ask(0.5, allocation="uniform")).notes == []
    assert planned(source, ask(0.5, amounts=(("z.weight", 1.0),), everywhere=True)).notes == []


def test_two_groups_have_two_totals(tmp_path: Path) -> None:
    source = save(state(), tmp_path / "model.pt")
    one, two = ask(0.7, "z.*", "m.*", allocation="erk").groups[0], ask(0.2, "a.*", "b.*", allocation="er").groups[0]
    found = counts(planned(source, PruneRequest((one, two), 7)))
    assert found["z.weight"] + found["m.weight"] == round(0.7 * (324 + 2160))
    assert found["a.weight"] + found["b.weight"] == round(0.2 * (400 + 7200))


def test_what_cannot_be_reached_is_refused_with_the_range(tmp_path: Path) -> None:
    source = save(state(), tmp_path / "model.pt")
    amounts: tuple[tuple[str, Any], ...] = (("*", 0.5),)
    with pytest.raises(UsageError, match=r"so between 5,042 and 5,042 elements can be pruned"):
        planned(source, ask(0.7, allocation="erk", amounts=amounts))
    assert sum(counts(planned(source, ask(5042, allocation="erk", amounts=amounts))).values()) == 5042
