"""Which parameters names and patterns take, and how a name that takes nothing is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from surgery_zoo import apply, ask, live_mask, load, noise, save
from torch import Tensor

from prunecli.errors import UsageError
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.names.parameters import canonical, parameters_of
from prunecli.surgery.plan.plan import plan_prune


def model() -> dict[str, Tensor]:
    return {
        "encoder.layers.0.weight": noise((4, 5), seed=1),
        "encoder.layers.0.bias": noise((4,), torch.bfloat16, 2),
        "encoder.layers.10.weight": noise((4, 5), torch.float8_e4m3fn, 3),
        "encoder.norm.weight": noise((4,), torch.float16, 4),
        "encoder.norm.running_mean": noise((4,), seed=5),
        "encoder.norm.running_var": noise((4,), seed=6),
        "encoder.norm.num_batches_tracked": torch.tensor(7),
        "head.weight": noise((2, 4), torch.float64, 8),
        "packed.weight": noise((2, 4), torch.uint8, 13),
        "packed.weight_scale": noise((2,), seed=9),
        "packed.zero_point": noise((2,), seed=10),
        "steps": noise((3,), torch.int32, 11),
        "flags": noise((3,), torch.bool, 12),
        "power": torch.ones(3).to(torch.float8_e8m0fnu),
    }


def taken(source: Path, *patterns: str, amount: Any = 0.5, **options: Any) -> list[str]:
    with open_checkpoint(source) as checkpoint:
        return list(plan_prune(checkpoint, ask(amount, *patterns, **options)).planned)


FLOATS = [
    "encoder.layers.0.weight",
    "encoder.layers.0.bias",
    "encoder.layers.10.weight",
    "encoder.norm.weight",
    "head.weight",
]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    ("patterns", "options", "expected"),
    [
        (["*"], {}, FLOATS),
        (["re:.*"], {}, FLOATS),
        (["*"], {"min_dim": 2}, [FLOATS[0], FLOATS[2], FLOATS[4]]),
        (["*.weight"], {"excludes": ["encoder.norm.*"]}, [FLOATS[0], FLOATS[2], FLOATS[4]]),
        (["*.weight"], {"excludes": ["re:.*\\.norm\\..*", "head.weight"]}, [FLOATS[0], FLOATS[2]]),
        (["encoder.*"], {}, FLOATS[:4]),
        (["encoder.layers.?.weight"], {}, [FLOATS[0]]),
        (["encoder.layers.[1-9]*"], {}, [FLOATS[2]]),
        (["re:encoder\\.layers\\.\\d+\\.(weight|bias)"], {}, FLOATS[:3]),
        (["head.weight", "encoder.norm.weight", "head.*"], {}, [FLOATS[3], FLOATS[4]]),
        (["encoder.norm.weight"], {"min_dim": 2}, [FLOATS[3]]),
        (["encoder.norm.running_mean"], {}, ["encoder.norm.running_mean"]),
        (["encoder.norm.num_batches_tracked"], {}, ["encoder.norm.num_batches_tracked"]),
        (
            ["steps", "flags", "packed.weight_scale", "packed.zero_point"],
            {},
            ["packed.weight_scale", "packed.zero_point", "steps", "flags"],
        ),
    ],
)
def test_a_selection_takes_exactly(
    patterns: Sequence[str], options: dict[str, Any], expected: list[str], suffix: str, tmp_path: Path
) -> None:
    chosen = taken(save(model(), tmp_path / f"model{suffix}"), *patterns, **options)
    assert sorted(chosen) == sorted(expected)
    assert suffix == ".safetensors" or chosen == expected


@pytest.mark.parametrize(
    ("patterns", "options", "message"),
    [
        (["heat.weight"], {}, r"heat\.weight matches nothing; did you mean head\.weight\?$"),
        (["encoder.layer.0.weight"], {}, r"did you mean encoder\.layers\.0\.weight"),
        (["*", "decoder.*"], {}, r"-p decoder\.\* matches nothing"),
        (["HEAD.*"], {}, "matches nothing"),
        (["re:weight"], {}, "re:weight matches nothing"),
        (["re:("], {}, "not a regular expression"),
        (["*.running_*"], {}, "matches 2 tensors, and takes none of them: 2 statistics; an exact name takes"),
        (["*.bias"], {"min_dim": 2}, "none of 2 dimensions or more"),
        (["head.weight"], {"excludes": ["head.*"]}, "selects nothing"),
        (["power"], {}, "power cannot be pruned: it is float8_e8m0fnu"),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused_with_the_reason(
    patterns: Sequence[str], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = save(model(), tmp_path / "model.pt")
    with pytest.raises(UsageError, match=message):
        taken(source, *patterns, **options)


def test_no_pattern_takes_what_has_no_elements_of_its_own(tmp_path: Path) -> None:
    tensors = {
        "wide": torch.ones(1, 4).expand(3, 4),
        "crossed": torch.ones(9).as_strided((3, 3), (2, 1)),
        "w": noise((4,)),
    }
    source = save(tensors, tmp_path / "model.pt")
    assert taken(source, "*") == ["w"]
    for name, reason in (("wide", "it is expanded"), ("crossed", "its strides interleave")):
        with pytest.raises(UsageError, match=f"{name} cannot be pruned: {reason}"):
            taken(source, name)


@pytest.mark.parametrize(
    "name", ["a[0].weight", "[ab]", "two words.w", "block/conv/w", "0", "*", "a*b", "re:x", "ä.ñ", "dot."]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_exact_name_goes_before_any_pattern(name: str, suffix: str, tmp_path: Path) -> None:
    tensors = {
        name: noise((4, 6), seed=1),
        "a": noise((4,), seed=2),
        "x": noise((4,), seed=3),
        "axb": noise((4,), seed=4),
    }
    source, target = save(tensors, tmp_path / f"model{suffix}"), tmp_path / f"out{suffix}"
    apply(source, target, ask(0.5, name))
    loaded = load(target)
    assert set(loaded) == {f"{name}_orig", f"{name}_mask", "a", "x", "axb"}
    assert torch.equal(loaded[f"{name}_mask"], live_mask(tensors[name], 0.5, name))


@pytest.mark.parametrize(
    "asked", ["head.weight", "module.head.weight", "_orig_mod.head.weight", "module._orig_mod.head.weight", "head.w*"]
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module.module."])
def test_names_resolve_with_and_without_what_wrappers_add(asked: str, prefix: str, tmp_path: Path) -> None:
    source = save({f"{prefix}head.weight": noise((4,))}, tmp_path / "model.pt")
    assert taken(source, asked) == [f"{prefix}head.weight"]


def test_a_masked_parameter_goes_by_its_name_and_by_that_of_its_original(tmp_path: Path) -> None:
    source, masked = save({"0.weight": noise((4, 6))}, tmp_path / "model.pt"), tmp_path / "masked.pt"
    apply(source, masked, ask(0.5))
    for asked in ("0.weight", "0.weight_orig", "0.*", "*"):
        assert taken(masked, asked) == ["0.weight"]
    with pytest.raises(UsageError, match="matches nothing"):
        taken(masked, "0.weight_mask")


def test_names_that_differ_by_a_wrapper_alone_keep_streams_of_their_own(tmp_path: Path) -> None:
    tensors = {"module.w": noise((50,), seed=1), "w": noise((50,), seed=2), "module._orig_mod.w": noise((50,), seed=3)}
    target = tmp_path / "out.pt"
    apply(save(tensors, tmp_path / "model.pt"), target, ask(0.5))
    for name, tensor in tensors.items():
        assert torch.equal(load(target)[f"{name}_mask"], live_mask(tensor, 0.5, name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("w", "w"),
        ("module", "module"),
        ("module.w", "w"),
        ("module.module.w", "w"),
        ("a.module.w", "a.module.w"),
        ("_orig_mod.module.w", "w"),
        ("a._orig_mod.w", "a.w"),
        ("a._fsdp_wrapped_module.b.w", "a.b.w"),
        ("a._checkpoint_wrapped_module.w", "a.w"),
        ("modules.w", "modules.w"),
        ("_orig_mod", "_orig_mod"),
    ],
)
def test_canonical_names(name: str, expected: str) -> None:
    assert canonical(name) == expected
    assert canonical(expected) == expected


def test_half_a_pruned_parameter_is_an_ordinary_tensor(tmp_path: Path) -> None:
    tensors = {
        "a_orig": noise((4,), seed=1),
        "b_mask": noise((4,), seed=2),
        "c_orig": noise((4,), seed=3),
        "c_mask": noise((2, 2), seed=4),
        "d_orig": noise((4,), seed=5),
        "d_mask": noise((4,), seed=6),
        "d": noise((4,), seed=7),
        "e_orig": noise((4,), seed=8),
        "e_mask": torch.ones(4),
    }
    with open_checkpoint(save(tensors, tmp_path / "model.pt")) as checkpoint:
        found = parameters_of(checkpoint)
    assert [name for name, parameter in found.items() if parameter.mask] == ["e"]
    assert list(found) == ["a_orig", "b_mask", "c_orig", "c_mask", "d_orig", "d_mask", "d", "e"]
