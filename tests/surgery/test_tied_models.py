"""Models whose library ties embeddings, stored with both names: pruned by `*`, they are still tied once loaded."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from late import Late
from safetensors.torch import load_file, save_file
from surgery_zoo import ask
from torch import nn

from prunecli.formats.opening import open_any
from prunecli.surgery.plan.plan import plan_prune
from prunecli.surgery.rewrite import rewrite
from prunecli.surgery.run.destination import Destination

tf = Late("transformers")

V, D = 97, 16
BERT: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": D,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": D,
}
SPEECH: dict[str, Any] = {
    "vocab_size": V,
    "d_model": D,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": D,
    "decoder_ffn_dim": D,
}
ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GEMMA: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": D,
    "intermediate_size": D,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 8,
    "layer_types": ["full_attention"],
}

MODELS: dict[str, Callable[[], Any]] = {
    "Whisper": lambda: tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(
            **SPEECH,
            **ENDS,
            num_mel_bins=8,
            max_source_positions=10,
            max_target_positions=12,
            decoder_start_token_id=1,
            suppress_tokens=[],
            begin_suppress_tokens=[],
        )
    ),
    "ELECTRA": lambda: tf.ElectraForMaskedLM(tf.ElectraConfig(**BERT, embedding_size=12)),
    "BioGPT": lambda: tf.BioGptForCausalLM(tf.BioGptConfig(**BERT, **ENDS)),
    "T5Gemma": lambda: tf.T5GemmaForConditionalGeneration(tf.T5GemmaConfig(encoder=GEMMA, decoder=GEMMA, vocab_size=V)),
    "BERT": lambda: tf.BertForMaskedLM(tf.BertConfig(**BERT)),
    "XLM": lambda: tf.XLMWithLMHeadModel(tf.XLMConfig(vocab_size=V, emb_dim=D, n_layers=1, n_heads=2)),
    "XLNet": lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=V, d_model=D, n_layer=1, n_head=2, d_inner=D)),
    "T5": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(vocab_size=V, d_model=D, d_kv=8, d_ff=D, num_layers=1, num_heads=2)
    ),
}


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What transformers logs, which is a list of our own: pytest's plugin for logs is off."""
    found: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("transformers")
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def tied(model: nn.Module) -> set[frozenset[str]]:
    """Return the groups of names of a module that share memory."""
    groups: dict[int, set[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(tensor.data_ptr(), set()).add(name)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


@pytest.mark.parametrize("name", MODELS)
def test_they_are_tied_once_loaded_and_nothing_warns(name: str, tmp_path: Path, warnings: list[str]) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    expected = tied(model)
    assert expected
    model.config.save_pretrained(tmp_path / "m")
    state = {key: (tensor.detach() + 0.5).contiguous() for key, tensor in model.state_dict().items()}
    save_file(
        {key: each.to(model.state_dict()[key].dtype) for key, each in state.items()},
        tmp_path / "m" / "model.safetensors",
        {"format": "pt"},
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_bytes((tmp_path / "m" / "config.json").read_bytes())
    with open_any(tmp_path / "m" / "model.safetensors") as opened:
        plan = plan_prune(opened, ask(0.5, "*", remove=True))
        report = rewrite(opened, plan, Destination(tmp_path / "out" / "model.safetensors"))
    assert {frozenset((each.name, *each.tied_to)) for each in report.parameters if each.tied_to} == expected

    loaded = type(model).from_pretrained(tmp_path / "out")
    assert tied(loaded) == expected
    assert not [each for each in warnings if "tie" in each]
    written = load_file(tmp_path / "out" / "model.safetensors")
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, written[key])
    one = min(min(expected, key=min))
    assert int((written[one] == 0).sum()) == written[one].numel() // 2


def test_two_masks_would_part_them(tmp_path: Path, warnings: list[str]) -> None:
    """The counter-example: without its configuration, the file's two names get two masks, and loading warns."""
    model = MODELS["Whisper"]()
    model.config.save_pretrained(tmp_path / "m")
    (tmp_path / "alone").mkdir()
    save_file(
        {key: tensor.detach().clone() for key, tensor in model.state_dict().items()},
        tmp_path / "alone" / "model.safetensors",
        {"format": "pt"},
    )
    with open_any(tmp_path / "alone" / "model.safetensors") as opened:
        plan = plan_prune(opened, ask(0.5, "*", remove=True))
        rewrite(opened, plan, Destination(tmp_path / "m" / "model.safetensors"))
    loaded = type(model).from_pretrained(tmp_path / "m")
    assert tied(loaded) == set()
    assert any("will NOT tie" in each for each in warnings)


@pytest.mark.parametrize("value", [True, False])
def test_the_configuration_says_whether_embeddings_are_tied(value: bool, tmp_path: Path) -> None:
    """The value is written whatever it is: its absence is an older version's default, to tie."""
    config = tf.LlamaConfig(**BERT, num_key_value_heads=2, tie_word_embeddings=value)
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is value
