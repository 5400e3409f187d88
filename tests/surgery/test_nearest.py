"""The guess at a name: right for the slips that people make, and nothing where nothing is alike."""

from collections.abc import Callable

import pytest

from prunecli.surgery.names.suggest import nearest_names

NAMES = [
    *(f"model.layers.{layer}.self_attn.{each}_proj.weight" for layer in range(6) for each in "qkvo"),
    *(f"model.layers.{layer}.mlp.{each}_proj.weight" for layer in range(6) for each in ("gate", "up", "down")),
    *(f"model.layers.{layer}.input_layernorm.weight" for layer in range(6)),
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
]


@pytest.mark.parametrize(
    "slip",
    [
        lambda name: name.replace("weight", "wieght"),
        lambda name: name.replace("weight", "weigt").replace("model", "modle"),
        lambda name: name.replace(".", "/"),
        lambda name: name.replace(".", "_"),
        lambda name: name.upper(),
        lambda name: name.removeprefix("model."),
        lambda name: f"module.{name}",
        lambda name: f"{name}_orig",
        lambda name: name.replace(".weight", ""),
        lambda name: name.replace(".weight", ".*"),
    ],
)
def test_a_slip_is_seen_through(slip: Callable[[str], str]) -> None:
    assert [nearest_names(slip(name), NAMES, 1) for name in NAMES] == [[name] for name in NAMES]


def test_the_likeliest_come_first_and_no_more_than_asked() -> None:
    found = nearest_names("layers.3.q_proj", NAMES, 3)
    assert found[0] == "model.layers.3.self_attn.q_proj.weight"
    assert len(found) == len(set(found)) == 3
    assert nearest_names("layers.3.q_proj", NAMES, 100)[:3] == found


@pytest.mark.parametrize("wanted", ["zzz", "", "*", "\x1b", "...", "q" * 10_000])
def test_what_is_like_nothing(wanted: str) -> None:
    assert nearest_names(wanted, NAMES, 3) == []
    assert nearest_names(wanted, [], 3) == []
    assert nearest_names("weight", ["0.1", "2"], 3) == []


def test_numbers_alone_are_compared_as_such() -> None:
    assert nearest_names("0.7", ["0.3", "0.7.1", "5"], 1) == ["0.7.1"]
