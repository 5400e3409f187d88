"""The tree of modules: its sums are those of the report, and folding loses none of them."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_zoo import NASTY, large, parameter, report, transformer

from prunecli.reporting.folding import fit, fold
from prunecli.reporting.options import Sort
from prunecli.reporting.parameters import ParameterNode, grow_parameters
from prunecli.reporting.tree import Sums, heights, outline, sort_tree
from prunecli.surgery.report.model import ParameterReport, Report, totals_of

NAMES = st.lists(st.text("ab01.", max_size=9), unique=True, max_size=30)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    """Any names, some of them tied to others, some of these with masks of their own, some uncounted."""
    names = draw(NAMES)
    groups = draw(st.lists(st.integers(0, 5), min_size=len(names), max_size=len(names)))
    parameters = []
    for name, group in zip(names, groups, strict=True):
        partners = tuple(other for other, its in zip(names, groups, strict=True) if its == group < 2 and other != name)
        zeros = draw(st.sampled_from([None, 0, 3, 8]))
        mask = draw(st.sampled_from([None, "0" * 64]))
        parameters.append(parameter(name, (2, 4), zeros, tied_to=partners, mask_sha256=mask, pruned_now=len(name)))
    return report(parameters)


def sums(parameters: list[ParameterReport]) -> Sums:
    totals = totals_of(parameters)
    return Sums(totals.parameters, totals.elements, totals.zeros, totals.pruned_now)


def leaves(node: ParameterNode) -> list[ParameterReport]:
    return [each.leaf.content for each, _ in outline(node) if each.leaf is not None]


@given(reports())
def test_a_module_sums_up_what_lies_in_it_as_the_report_does(made: Report) -> None:
    root = grow_parameters(made.parameters)
    assert root.sums == sums(list(made.parameters))
    for node, _ in outline(root):
        inside = [node.leaf.content] if node.leaf else leaves(node)
        assert inside
        assert node.sums == (sums(inside) if len(inside) > 1 or inside[0].zeros is not None else Sums())


@given(reports())
def test_every_parameter_is_one_leaf_in_its_order_below_its_modules(made: Report) -> None:
    root = grow_parameters(made.parameters)
    assert sorted(each.name for each in leaves(root)) == sorted(each.name for each in made.parameters)
    for node, lasts in outline(root):
        above = [other for other, levels in outline(root) if len(levels) < len(lasts) and node in reach(other)]
        assert ".".join([each.label for each in above] + [node.label]) == node.path


def reach(node: ParameterNode) -> list[ParameterNode]:
    return [node, *(each for child in node.children for each in reach(child))]


@given(reports())
def test_no_module_has_a_single_child(made: Report) -> None:
    assert all(len(node.children) != 1 for node, _ in outline(grow_parameters(made.parameters)))


@given(reports(), st.integers(0, 6))
def test_heights_are_what_an_outline_takes(made: Report, depth: int) -> None:
    root = grow_parameters(made.parameters)
    rows = heights(root)
    assert len(list(outline(root, depth))) == rows[min(depth, len(rows) - 1)]
    assert len(list(outline(root))) == rows[-1]


@given(reports())
def test_folding_keeps_all_sums(made: Report) -> None:
    root = grow_parameters(made.parameters)
    folded = fold(root)
    assert folded.sums == root.sums
    for node in reach(folded):
        if node.children and not any(each.tied_to for each in made.parameters):
            assert sum(child.sums.zeros for child in node.children) == node.sums.zeros
            assert sum(child.sums.elements for child in node.children) == node.sums.elements


def test_layers_that_are_alike_become_one() -> None:
    folded = fold(grow_parameters(transformer(12).parameters))
    assert [node.label for node in folded.children] == ["embed.weight", "layers.{0..11}", "head.weight"]
    assert folded.children[1].copies == 12
    up = next(node for node, _ in outline(folded) if node.path == "layers.{0..11}.mlp.up.weight")
    assert (up.sums.elements, up.sums.zeros) == (12 * 64 * 16, 12 * 32 * 16)


@pytest.mark.parametrize(
    "change",
    [{"zeros": 900}, {"dtype": "bfloat16"}, {"shape": (16, 64)}, {"state": "masked"}, {"tied_to": ("head.weight",)}],
)
def test_a_layer_that_differs_stands_by_itself(change: dict[str, object]) -> None:
    made = transformer(6)
    odd = "layers.3.mlp.up.weight"
    parameters = [replace(each, **change) if each.name == odd else each for each in made.parameters]  # type: ignore[arg-type]
    labels = [node.label for node in fold(grow_parameters(parameters)).children[1].children]
    assert labels == ["{0..2,4..5}", "3"]


@given(reports(), st.integers(0, 40))
def test_what_is_fitted_fits_and_adds_up(made: Report, room: int) -> None:
    root = grow_parameters(made.parameters)
    fitted = fit(root, room)
    assert heights(fitted)[-1] <= room
    if heights(root)[-1] <= room:
        assert fitted is root
    for node in reach(fitted):
        if node.children and not any(each.tied_to for each in made.parameters):
            assert sum(child.sums.elements for child in node.children) == node.sums.elements


def test_the_room_is_used() -> None:
    flat = grow_parameters([parameter(f"tensor_{number}") for number in range(100)])
    assert [node.label for node in fit(flat, 5).children] == [f"tensor_{at}" for at in range(4)] + ["96 more"]


@given(reports(), st.sampled_from(get_args(Sort)))
def test_siblings_are_sorted_and_none_is_lost(made: Report, sort: str) -> None:
    root = grow_parameters(made.parameters)
    before = [node.path for node, _ in outline(root)]
    sort_tree(root, sort)  # type: ignore[arg-type]
    assert sorted(node.path for node, _ in outline(root)) == sorted(before)
    assert sort != "name" or [node.path for node, _ in outline(root)] == before
    for node in reach(root):
        keys = [(each.sums.elements if sort == "size" else each.sparsity) for each in node.children]
        counted = [key for key in keys if key is not None]
        assert sort == "name" or counted == sorted(counted, reverse=True)
        assert keys[: len(counted)] == counted or sort == "name"


def test_no_name_makes_a_tree_too_deep() -> None:
    names = [".".join("a" * count) for count in range(1, 3000, 7)]
    root = fold(grow_parameters([parameter(name) for name in [*names, *NASTY]]))
    assert len(heights(root)) < 50


def test_thousands_of_tensors_fold_to_a_page() -> None:
    folded = fold(grow_parameters(large(6000).parameters))
    assert heights(folded)[-1] < 20
    assert folded.sums.elements == 6000 * 2048 * 7168
