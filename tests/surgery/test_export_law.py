"""The law of torch.export's archives: one that was pruned computes what the live module with the same masks does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from export_zoo import INPUT, Exported, load, save
from surgery_zoo import apply, ask, bake, count
from torch import nn
from torch.nn.utils import prune as untyped_prune

from prunecli import prune_module
from prunecli.errors import UnsupportedError, UsageError
from prunecli.formats.detect import open_checkpoint
from prunecli.surgery.plan.plan import plan_prune

prune: Any = untyped_prune

REQUESTS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "all": (("*",), {}),
    "matrices": (("*",), {"min_dim": 2}),
    "by name": (("lin.weight", "across", "gain"), {}),
    "together": (("*.weight",), {"everywhere": True}),
    "a buffer by name": (("shift",), {}),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_pruned_archive_computes_what_the_pruned_module_does(
    request_: tuple[tuple[str, ...], dict[str, Any]], tmp_path: Path
) -> None:
    patterns, options = request_
    model = Exported().eval()
    dense = model(INPUT)
    source = save(model, tmp_path / "m.pt2")
    report = apply(source, tmp_path / "o.pt2", ask(0.5, *patterns, remove=True, **options))
    expected = prune_module(model, patterns, 0.5, seed=7, remove=True, **options)
    assert report.totals.pruned_now == expected.totals.pruned_now > 0
    program = load(tmp_path / "o.pt2")
    found, wanted = program.state_dict(), model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    torch.testing.assert_close(program(INPUT), model(INPUT))
    assert not torch.allclose(program(INPUT), dense)


def test_a_model_of_a_library_computes_what_it_does_when_pruned(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel  # takes seconds: only the worker that runs this

    config = BertConfig(
        vocab_size=30,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        return_dict=False,
    )
    torch.manual_seed(0)
    model: Any = BertModel(config)
    model.eval()
    ids = torch.randint(0, 30, (1, 7))
    source = save(model, tmp_path / "m.pt2", ids)
    apply(source, tmp_path / "o.pt2", ask(0.5, "*.weight", min_dim=2, remove=True))
    prune_module(model, "*.weight", 0.5, seed=7, min_dim=2, remove=True)
    torch.testing.assert_close(load(tmp_path / "o.pt2")(ids)[0], model(ids)[0])


def test_masks_in_a_program_are_counted_and_cannot_be_baked(tmp_path: Path) -> None:
    model: Any = Exported()
    prune.identity(model.lin, "weight")
    with torch.no_grad():
        model.lin.weight_mask.view(-1)[:6] = 0
    source = save(model, tmp_path / "m.pt2")
    counted = {each.name: each.zeros for each in count(source).parameters}
    assert counted["lin.weight"] == 6
    assert "lin.weight_mask" not in counted
    with (
        open_checkpoint(source) as checkpoint,
        pytest.raises(UnsupportedError, match=r"takes no masks: the program in a torch\.export archive names"),
    ):
        plan_prune(checkpoint, ask(0.5, "lin.weight"))
    with pytest.raises(UnsupportedError, match="whose program multiplies its masks in; bake the model before it is"):
        bake(source, tmp_path / "o.pt2")
    assert not (tmp_path / "o.pt2").exists()


def test_without_masks_there_is_nothing_to_bake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no masks to bake"):
        bake(save(nn.Linear(2, 2), tmp_path / "m.pt2", torch.ones(1, 2)), tmp_path / "o.pt2")
