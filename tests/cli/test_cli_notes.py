"""Notes on masks where a library expects none: who reads them gets layers without their weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

Cli = Callable[..., Any]
NOTE = "prunecli: note: "
pytestmark = pytest.mark.usefixtures("folder")
CONFIGS = {
    "transformers": ("config.json", {"architectures": ["BertModel"]}),
    "diffusers": ("config.json", {"_class_name": "UNet2DConditionModel", "_diffusers_version": "0.42.1"}),
    "peft": ("adapter_config.json", {"peft_type": "LORA"}),
}
WORDS = {"transformers": "at random", "diffusers": "on the meta device", "peft": "untrained, lora_B at zero"}


def notes(text: str) -> list[str]:
    return [line.removeprefix(NOTE) for line in text.splitlines() if line.startswith(NOTE)]


@pytest.mark.parametrize("loader", CONFIGS)
@pytest.mark.parametrize("source", ["m", "m/model.safetensors"])
def test_masks_for_a_library_that_does_not_know_them(cli: Cli, loader: str, source: str) -> None:
    name, content = CONFIGS[loader]
    Path("m").mkdir()
    Path("m", name).write_text(json.dumps(content))
    save_file({"fc.weight": torch.ones(8, 8)}, "m/model.safetensors")
    masked = cli("apply", source, "-p", "*", "-a", "0.5", "--dry-run")
    (text,) = notes(masked.err)
    assert text.startswith(f"the output will have masks (+64 B); in from_pretrained, {loader} ")
    assert WORDS[loader] in text
    output = source.replace("model", "model.pruned") if "/" in source else f"{source}.pruned"
    assert text.endswith(f"; zeros instead: --bake, or prunecli remove {output}")
    assert notes(cli("apply", source, "-p", "*", "-a", "0.5", "--dry-run", "--remove").err) == []
    assert notes(cli("apply", source, "-p", "*", "-a", "0.5", "-o", "out", "-q").err) == []


@pytest.mark.parametrize("text", ["{}", "[]", '{"architectures": "x"}', "{", "[" * 100_000])
def test_other_configurations_are_no_reason(cli: Cli, text: str) -> None:
    Path("m").mkdir()
    Path("m", "config.json").write_text(text)
    save_file({"fc.weight": torch.ones(8, 8)}, "m/model.safetensors")
    outcome = cli("apply", "m", "-p", "*", "-a", "0.5", "--dry-run")
    assert outcome.code == 0
    assert "from_pretrained, " not in outcome.err


def test_a_training_checkpoint_beside_a_configuration_is_not_loaded_by_it(cli: Cli) -> None:
    Path("config.json").write_text(json.dumps(CONFIGS["transformers"][1]))
    torch.save({"fc.weight": torch.ones(8, 8)}, "epoch-1.pt")
    assert "from_pretrained, " not in cli("apply", "epoch-1.pt", "-p", "*", "-a", "0.5", "--dry-run").err
