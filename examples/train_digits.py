"""Train the small digits net and save the checkpoint that the other examples prune.

    python examples/train_digits.py

writes `examples/digits.pt` beside this file, in about ten seconds on one core. The file contains a dictionary like
those of training scripts: the state dict, the optimizer's state, the epoch and the test accuracy. The seed and the
number of threads are fixed, but another version of torch may round differently and end with another accuracy.
"""

from pathlib import Path

import torch
from digits import Data, DigitsNet, accuracy, load_split
from torch import nn

EPOCHS = 30
BATCH = 64
CHECKPOINT = Path(__file__).with_name("digits.pt")


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, data: Data) -> None:
    """Train the model on every image once, in a random order."""
    model.train()
    for batch in torch.split(torch.randperm(len(data.labels)), BATCH):
        loss = nn.functional.cross_entropy(model(data.images[batch]), data.labels[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def main() -> None:
    """Train, and save a checkpoint from which a training run could resume."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, test = load_split()
    model = DigitsNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(EPOCHS):
        train_epoch(model, optimizer, train)
    reached = accuracy(model, test)
    torch.save(
        {
            "state_dict": model.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "epoch": EPOCHS,
            "accuracy": reached,
        },
        CHECKPOINT,
    )
    print(f"{CHECKPOINT}  {100 * reached:.1f} %")


if __name__ == "__main__":
    main()
