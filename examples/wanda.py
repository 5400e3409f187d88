"""Write Wanda's scores of a transformers encoder: the magnitude of each weight times the norm of its input.

    python examples/wanda.py FOLDER SCORES.safetensors

The scores are |W| · ||x|| for every linear layer (Sun and others 2024, "A Simple and Effective Pruning Approach for
Large Language Models"), by the names that the weights have in the checkpoint. The inputs x are those of all tokens of a
few sentences. `prunecli apply --scores SCORES.safetensors --per-row` prunes by them.
"""

import os
import sys
from functools import partial

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is in a folder

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

SENTENCES = """
The harbour was closed because of the storm.
Add two eggs and a cup of flour to the bowl.
The committee will vote on the new budget next week.
A small dog chased the ball across the garden.
Solar panels turn sunlight into electricity.
He forgot his umbrella on the train again.
The museum shows paintings from the sixteenth century.
Restart the computer after the update is installed.
Doctors recommend at least seven hours of sleep.
Our team lost the match in the last minute.
The old bridge is too narrow for lorries.
She learned to play the violin as a child.
""".strip().splitlines()


def add_squares(sums: dict[str, Tensor], name: str, tokens: Tensor, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Add the squares of a layer's inputs, of the tokens that are not padding."""
    sums[name] += (inputs[0][tokens] if inputs[0].ndim == 3 else inputs[0]).square().sum(0)


def main(folder: str, scores: str) -> None:
    """Run the sentences through the model, and write the scores."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    sums = {name: torch.zeros(layer.in_features) for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(partial(add_squares, sums, name, batch["attention_mask"].bool()))
    with torch.inference_mode():
        model(**batch)
        found = {f"{name}.weight": layer.weight.abs() * sums[name].sqrt() for name, layer in layers.items()}
    save_file(found, scores)


if __name__ == "__main__":
    main(*sys.argv[1:])
