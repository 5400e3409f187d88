"""Recipes: what they say is what options say, and what is wrong in them is reported with its line."""

import math
import tomllib
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunecli.core.allocation import RULES
from prunecli.core.methods.request import MethodRequest
from prunecli.errors import UnreadableError, UsageError
from prunecli.surgery.names.select import Selection
from prunecli.surgery.plan.recipe import parse_recipe, read_recipe
from prunecli.surgery.plan.recipe_text import render_recipe
from prunecli.surgery.plan.request import PruneGroup, PruneRequest

FULL = """\
seed = 7
remove = true  # baked

[[group]]
params = [
    "encoder.*.weight",
    "re:decoder\\\\.[0-9]+\\\\.weight",
]
exclude = ["*.LayerNorm.*"]
amount = "50%"
min_dim = 2
global = true

[[group]]
params = "pooler.dense.weight"
amount = 1000
"""

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
amounts = st.integers(0, 1 << 70) | st.floats(0, 1)
groups = st.builds(
    lambda params, excludes, dims, amount, together: PruneGroup(Selection(params, excludes, dims), amount, together),
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.lists(names, max_size=2).map(tuple),
    st.integers(0, 64),
    amounts,
    st.booleans(),
)
divided = st.builds(
    lambda group, amounts, rule, order: replace(
        group, everywhere=False, amounts=tuple(amounts.items()), allocation=rule, order=tuple(order) if rule else ()
    ),
    groups,
    st.dictionaries(names, amounts, max_size=3),
    st.none() | st.sampled_from([rule for rule in RULES if rule != "global"]),
    st.lists(names, max_size=3),
)
counted = st.builds(
    lambda group, amounts, like: replace(
        group, amount=None, everywhere=False, amounts=() if like else tuple(amounts.items()), like=like
    ),
    groups,
    st.dictionaries(names, amounts, min_size=1, max_size=3),
    st.none() | names.filter(lambda name: name != "-"),
)
methods = st.sampled_from(
    [
        MethodRequest(n_of_m=(2, 4)),
        MethodRequest(n_of_m=(1, 16), dim=-2),
        MethodRequest(block=(16, 1)),
        MethodRequest("random_structured", dim=0),
        MethodRequest("ln", dim=1, norm=2.0),
        MethodRequest("ln", dim=1, norm=math.inf),
    ]
)
chosen = st.builds(
    lambda group, amount, method: replace(
        group, amount=None if method.n_of_m else amount, everywhere=False, method=method
    ),
    groups,
    amounts,
    methods,
)
groups = groups | divided | counted | chosen
requests = st.builds(
    PruneRequest,
    st.lists(groups, min_size=1, max_size=3).map(tuple),
    st.none() | st.integers(0, (1 << 128) - 1),
    st.just(False),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["bool", "same"]),
) | st.builds(
    PruneRequest,
    st.lists(groups, min_size=1, max_size=3).map(tuple),
    st.integers(0, 9),
    st.just(True),
    st.just(False),
    st.booleans(),
)


def test_a_full_recipe_is_the_request_that_it_describes() -> None:
    first = Selection(("encoder.*.weight", r"re:decoder\.[0-9]+\.weight"), ("*.LayerNorm.*",), 2)
    second = Selection(("pooler.dense.weight",), (), 0)
    expected = PruneRequest((PruneGroup(first, 0.5, everywhere=True), PruneGroup(second, 1000)), 7, remove=True)
    assert parse_recipe(FULL.encode(), "r.toml") == expected
    assert [group.where for group in parse_recipe(FULL.encode(), "r.toml").groups] == ["r.toml:4", "r.toml:14"]


@settings(deadline=None)
@given(requests)
def test_what_is_rendered_is_toml_and_reads_back_as_the_same_request(prune: PruneRequest) -> None:
    text = render_recipe(prune)
    tomllib.loads(text)
    again = parse_recipe(text.encode("utf-8"), "r.toml")
    assert again == prune
    for one, other in zip(again.groups, prune.groups, strict=True):
        assert type(one.amount) is type(other.amount)
        assert [type(each) for _, each in one.amounts] == [type(each) for _, each in other.amounts]


@settings(deadline=None)
@given(requests)
def test_a_rendered_recipe_shows_no_control_characters(prune: PruneRequest) -> None:
    assert all(line.isprintable() for line in render_recipe(prune).split("\n"))


WRONG = {
    "seed = 7": ('seed = "7"', 1, "seed must be an integer from 0"),
    "remove = true": ("remove = 1", 2, "remove is not true or false"),
    "# baked": ("\nmask_dtype = 'half'", 3, 'mask_dtype is neither "bool" nor "same"'),
    "exclude = [": ("excluded = [", 9, "excluded means nothing here; did you mean exclude?"),
    '"*.LayerNorm.*"': ("1", 9, "exclude is not a list of names and patterns"),
    "min_dim = 2": ("min_dim = -1", 11, "min_dim must be an integer from 0 to 64"),
    "global = true": ('global = "yes"', 12, "global is not true or false"),
    "amount = 1000": ("amount = 1.5", 16, "amount cannot be taken: amount 1.5 is not a fraction"),
    '"50%"': ('"half"', 10, "amount cannot be taken: amount 'half' is not a number"),
    '= "50%"': ("= [1]", 10, "amount is not an amount"),
    '"pooler.dense.weight"': ("[]", 15, "params is empty"),
    'params = "pooler.dense.weight"\n': ("", 14, "group 2 has no params"),
    "amount = 1000\n": ("", 14, "group 2 has no amount"),
}


@pytest.mark.parametrize(("old", "new", "line", "words"), [(old, *new) for old, new in WRONG.items()])
def test_what_is_wrong_is_noted_with_its_line(old: str, new: str, line: int, words: str) -> None:
    assert FULL.count(old) == 1
    with pytest.raises(UsageError) as caught:
        parse_recipe(FULL.replace(old, new, 1).encode(), "r.toml")
    assert str(caught.value).startswith(f"r.toml:{line}: {words}")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("amount = 0.5\nlike = 'x.pt'", "group 1 has amount and like, which both say how much is pruned"),
        ("like = 'x.pt'\n[group.amounts]\nw = 1", "group 1 has amounts and like"),
        ("allocation = 'erk'\n[group.amounts]\nw = 1", "group 1 has an allocation, and no amount as the total"),
        ("global = true\nlike = 'x.pt'", "group 1 has global = true, and no amount as the total"),
        ("amount = 0.5\nglobal = true\nallocation = 'erk'", "group 1 has global = true and the allocation erk"),
        ("amount = 0.5\norder = ['w']", "group 1 has an order, and no allocation that needs it"),
        ("amount = 0.5\nallocation = 'best'", "allocation is not an allocation; known are uniform, global, er"),
        ("amount = 0.5\n[group.amounts]", "amounts is not a table of patterns with amounts"),
        ("amount = 0.5\n[group.amounts]\nw = 1.5", "amounts w: amount 1.5 is not a fraction"),
        ("amount = 0.5\n[group.amounts]\nw = true", "amounts w: no amount"),
        ("amount = 0.5\n[group.amounts]\n'a.b' = 1\na.b = 2", "amounts a.b occurs twice"),
        ("like = '-'", "like is not the path or URL"),
    ],
)
def test_divisions_that_contradict_themselves(lines: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(f"[[group]]\nparams = '*'\n{lines}\n".encode(), "r.toml")
    assert words in str(caught.value)


def test_names_in_tables_are_joined_and_the_global_allocation_is_global() -> None:
    text = "[[group]]\nparams = '*'\namount = 0.5\nallocation = 'global'\n[group.amounts]\nfc.weight = '50%'\n"
    (group,) = parse_recipe(text.encode(), "r.toml").groups
    assert (group.everywhere, group.allocation, group.amounts) == (True, None, (("fc.weight", 0.5),))


@settings(deadline=None)
@given(st.data())
def test_the_line_is_that_of_the_key_whatever_stands_before(data: st.DataObject) -> None:
    """Comments, multi-line strings with headers in them, and arrays over many lines do not move it."""
    fillers = ["# [[group]]\n", "\n", 'exclude = ["""\n[[group]]\namount = 3\n"""]\n', "exclude = [\n'a',\n\n'b' ]\n"]
    before = "[[group]]\nparams = 'w'\n" + data.draw(st.sampled_from(fillers)) + data.draw(st.sampled_from(["", "#\n"]))
    text = f"{before}amount = -1\n" + data.draw(st.sampled_from(["", "\n[[group]]\nparams='x'\namount=1\n"]))
    with pytest.raises(UsageError, match=rf"^r.toml:{before.count(chr(10)) + 1}: amount cannot"):
        parse_recipe(text.encode(), "r.toml")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = \n", 1),
        ("seed = 7\n[[group]\n", 2),
        ("seed = 7\nseed = 8\n", 2),
        ('x = """\n\n', 3),
        ("[a", 1),
        ("= 1", 1),
    ],
)
def test_the_line_of_what_is_not_toml_is_named(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"^r.toml:{line}: not valid TOML: "):
        parse_recipe(text.encode(), "r.toml")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"seed = 1\n# \xff", "r.toml:2: a recipe is UTF-8 text"),
        (b"seed = 1", "r.toml: the recipe selects nothing"),
        (b"group = 3", "r.toml:1: group is not a list of groups"),
        (b"seed = 1\n[group]\nparams = 'w'", "r.toml:2: group is not a list of groups; write [[group]]"),
        (b"a = " + b"[" * 100_000, "r.toml:"),
        (b"a" + b".a" * 200 + b" = 1", "r.toml: a.a.a.a."),
        (b"seed = " + b"1" * 5000, "r.toml: is nested too deeply for a recipe, or has a number that is too long"),
        (b"[[group]]\nparams = 'w'\namount = [0x1" + b"f" * 5000 + b"]", "r.toml:3: amount is not an amount"),
        (b"\x1b[2Jx = 1", "r.toml:1: not valid TOML"),
        (b"[[group]]\nparams = 'w'\nbake = true", "r.toml:3: bake means nothing here; write it above the groups"),
        (b"amount = 1", "r.toml:1: amount means nothing here; write it in a [[group]]"),
        (b"[[group]]\nn-of-m = '2:4'", "r.toml:2: n-of-m means nothing here; did you mean n_of_m?"),
        (b'"\\u001b" = 1', r"r.toml:1: \x1b means nothing here"),
    ],
)
def test_other_refusals(raw: bytes, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_recipe(raw, "r.toml")
    assert str(caught.value).startswith(words)
    assert "\x1b" not in str(caught.value)


def test_a_line_of_many_names_with_dots_is_not_one_deep_name() -> None:
    names = [f"model.layers.{number}.self_attn.q_proj.weight" for number in range(200)]
    assert parse_recipe(f"[[group]]\nparams = {names}\namount = 1".encode(), "r.toml").groups[0].selection.patterns


def test_a_recipe_of_many_groups_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a text has a line like the first one of a group, each group has its line."""
    groups = "".join(f'[[group]] # {number}\nparams = "w{number}"\namount = 1\n' for number in range(500))
    loads = Mock(wraps=tomllib.loads)
    monkeypatch.setattr(tomllib, "loads", loads)
    found = parse_recipe(f"seed = 1\n{groups}".encode(), "r.toml").groups
    assert [each.where for each in found] == [f"r.toml:{3 * number + 2}" for number in range(500)]
    loads.assert_called_once()
    misleading = 'key_prefix = """\n[[group]]\n"""\n[[ "group" ]]\nparams = "w"\namount = 1\n'
    assert [each.where for each in parse_recipe(misleading.encode(), "r.toml").groups] == ["r.toml:4"]


def test_a_recipe_that_is_missing_or_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"cannot open .*none.toml"):
        read_recipe(tmp_path / "none.toml")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match="too large for a recipe"):
        read_recipe(tmp_path / "large")
