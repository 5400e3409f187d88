"""Print how similar sentences are to each other in encoders of transformers: in the dense one, and in pruned ones.

    python examples/compare_sentences.py DENSE [PRUNED ...]

prints a line for each folder: the cosine similarity of each pair of sentences, and that of an embedding to the dense
model's, as a mean over all sentences. An embedding is the mean over the tokens.
"""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the models are in folders

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

PAIRS = [
    ("The cat sleeps on the warm stove.", "A kitten naps beside the fire."),
    ("The central bank raised interest rates.", "Loans are becoming more expensive."),
    ("He repaired his bike in an hour.", "The bicycle was fixed quickly."),
    ("The cat sleeps on the warm stove.", "The central bank raised interest rates."),
    ("He repaired his bike in an hour.", "Loans are becoming more expensive."),
]
"""Three pairs that mean nearly the same, and two that do not."""


def embeddings(folder: str) -> Tensor:
    """Return an embedding of length 1 for each sentence of the pairs."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer([sentence for pair in PAIRS for sentence in pair], padding=True, return_tensors="pt")
    with torch.inference_mode():
        states, tokens = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        return nn.functional.normalize((states * tokens).sum(1) / tokens.sum(1), dim=1)


def main(folders: list[str]) -> None:
    """Print the table."""
    dense = embeddings(folders[0])
    print(f"{'':12}{'same meaning':>17}{'other meaning':>16}{'to dense':>11}")
    for folder in folders:
        found = embeddings(folder)
        pairs = (found[::2] * found[1::2]).sum(1).tolist()
        cells = "".join(f"{each:6.2f}" for each in pairs[:3]) + "   " + "".join(f"{each:6.2f}" for each in pairs[3:])
        print(f"{Path(folder).name:11}{cells}{(found * dense).sum(1).mean().item():12.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
